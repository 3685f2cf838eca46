"""Links: how the accelerators of a node, and nodes, are wired when nobody says otherwise.

The bandwidths are the catalogue's; which kind of link it is follows from the catalogue's text of the interconnect.
Everything that is an assumption is listed as one, so that a reader can replace it.
"""

from __future__ import annotations

import re
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from planner import units
from planner.catalog.accelerators import Accelerator

IntraKind = Literal["nvswitch", "nvlink", "xgmi", "pcie", "none"]
InterKind = Literal["infiniband", "roce", "efa", "ethernet"]

PCIE_BANDWIDTH: Final = {3: 15.75 * units.GB, 4: 31.5 * units.GB, 5: 63.0 * units.GB, 6: 121.0 * units.GB}
"""PCI Express x16 by generation [B/s per direction]: 8, 16, 32 GT/s in 128b/130b code; 64 GT/s in FLITs (94.5 %)."""
INTRA_LATENCY: Final = {"nvswitch": 3.4e-6, "nvlink": 3.4e-6, "xgmi": 3.4e-6, "pcie": 5.7e-6, "none": 0.0}
"""One hop inside a node [s]: NCCL's tuning model, ring with the Simple protocol (src/graph/tuning.cc, hwLat)."""
INTER_LATENCY: Final = 14.0e-6
"""One hop between nodes [s]: NCCL's tuning model, ring with the Simple protocol (src/graph/tuning.cc, hwLat NET)."""
FAST_NETWORK: Final = 800 * units.GBIT_PER_SECOND
"""From this node bandwidth [B/s] on, the network is taken to bypass the CPU (InfiniBand or RoCE), below to be TCP."""

_FABRICS: Final[tuple[tuple[str, IntraKind, str], ...]] = (
    # pattern in the interconnect's text, kind whose shape it has, note where that is only a likeness
    (r"(?<!without )NVSwitch", "nvswitch", ""),
    ("NVLink", "nvlink", ""),
    ("Infinity Fabric", "xgmi", ""),
    ("all-to-all", "xgmi", "direct links to every other chip, timed like xGMI"),
    ("HCCS", "xgmi", "direct links to every other chip, timed like xGMI"),
    ("Xe Link", "xgmi", "direct links between cards, timed like xGMI"),
    ("ICI", "nvlink", "torus of chips, timed like direct NVLink"),
    ("NeuronLink", "nvlink", "links between chips, timed like direct NVLink"),
    ("UB", "nvswitch", "switched fabric, timed like NVSwitch"),
)


class Network(BaseModel):
    """Default links of one kind of accelerator."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    intra_kind: IntraKind
    intra_bandwidth: float | None = Field(gt=0, description="Of one accelerator to its node [B/s per direction].")
    pair_bandwidth: float | None = Field(gt=0, description="Between two accelerators of a node [B/s per direction].")
    intra_latency: float = Field(ge=0, description="[s] per hop.")
    gpus_per_node: int = Field(ge=1)
    link_domain: int = Field(ge=1, description="Accelerators that the fast link joins: 72 in an NVL72 rack.")
    inter_kind: InterKind | None
    inter_bandwidth: float | None = Field(gt=0, description="Of one node [B/s per direction]; None where unknown.")
    inter_latency: float = Field(ge=0, description="[s] per hop.")
    host_bandwidth: float | None = Field(gt=0, description="To the host's memory [B/s per direction].")
    source: str
    assumed: tuple[str, ...]


TPU_SLICES: Final = {"TPU v3": 1024, "TPU v4": 4096, "TPU v5e": 256, "TPU v5p": 8960, "TPU v6e": 256, "TPU v7": 9216}
"""Chips that one torus of inter-chip links joins at most (cloud.google.com/tpu/docs, system architecture of each version)."""
TPU_HOST_NETWORK: Final = 12.5e9
"""Data-centre network of one TPU host, per direction [B/s]; assumed, where slices talk to each other."""


def default_network(accelerator: Accelerator) -> Network:
    """Typical links of an accelerator, with the list of what is assumed.

    Where the catalogue states no link between the accelerators of a node, PCI Express of the part's generation is
    taken. A bridge between pairs of PCIe cards is left out: it does not join a node. The network between nodes is the
    catalogue's typical one or None: without it, a run on several nodes has to say its own.

    Arguments
    ---------
    accelerator: a catalogue row or an edited copy.
    """
    text = accelerator.interconnect
    assumed: list[str] = ["gpus_per_node: typical machine"]
    host = _host_bandwidth(accelerator)
    kind, likeness = _kind(accelerator)
    intra = accelerator.intra_node_bandwidth
    if intra is None and kind != "none":
        kind, intra = ("pcie", host) if host is not None else ("none", None)
        assumed.append(f"intra_bandwidth: not known for {text or 'this part'}, PCI Express taken" if intra else "")
    elif likeness:
        assumed.append(f"intra_kind: {likeness}")
    inter = accelerator.node_network_bandwidth
    inter_kind = _inter_kind(accelerator)
    if inter is None:
        assumed.append("inter_bandwidth: not known; a run on several nodes must state its network")
    else:
        assumed.append(f"inter_bandwidth: typical machine; inter_kind: {inter_kind}")
    slice_chips = next((chips for name, chips in TPU_SLICES.items() if accelerator.name.startswith(name)), 0)
    if slice_chips and inter is None:
        inter, inter_kind = TPU_HOST_NETWORK, "ethernet"
        assumed.append("inter_bandwidth: 100 Gb/s of each host between slices")
    domain = re.search(r"(\d+)-GPU domain", text)
    return Network(
        intra_kind=kind,
        intra_bandwidth=intra,
        pair_bandwidth=_pair_bandwidth(kind, intra, text),
        intra_latency=INTRA_LATENCY[kind],
        gpus_per_node=accelerator.gpus_per_node,
        link_domain=int(domain[1]) if domain else slice_chips or accelerator.gpus_per_node,
        inter_kind=inter_kind,
        inter_bandwidth=inter,
        inter_latency=INTER_LATENCY,
        host_bandwidth=host,
        source=f"catalogue: {text}" if text else "catalogue",
        assumed=tuple(filter(None, assumed)),
    )


def _kind(accelerator: Accelerator) -> tuple[IntraKind, str]:
    text = accelerator.interconnect
    if text.startswith("none"):
        return "none", ""
    if not text.startswith("PCIe"):
        for pattern, kind, likeness in _FABRICS:
            if re.search(pattern, text):
                return kind, likeness
    return "pcie", ""


def _pair_bandwidth(kind: IntraKind, intra: float | None, text: str) -> float | None:
    """In a full mesh a pair has one link only: "7 links x 64 per dir" means 64 GB/s between two, not 448."""
    links = re.search(r"links? x ([\d.]+) per dir|(\d+)x(\d+)GbE", text)
    if kind != "xgmi" or links is None or intra is None:
        return intra
    if links[1]:
        return min(intra, float(links[1]) * units.GB)
    # A Gaudi node wires its ports evenly to the seven others.
    return intra / 7


def _host_bandwidth(accelerator: Accelerator) -> float | None:
    text = accelerator.interconnect
    coherent = re.search(r"C2C (?:to Grace )?(\d+)/", text)
    if coherent:
        return float(coherent[1]) * units.GB
    if accelerator.pcie_generation is None:
        return None
    full = PCIE_BANDWIDTH.get(accelerator.pcie_generation)
    shared = re.search(r"shared by (\d+) GPUs", text)
    lanes = 8 if re.match(r"PCIe [\d.]+ x8\b", text) else 16
    return None if full is None else full * lanes / 16 / (int(shared[1]) if shared else 1)


def _inter_kind(accelerator: Accelerator) -> InterKind | None:
    bandwidth = accelerator.node_network_bandwidth
    if bandwidth is None:
        return None
    if accelerator.vendor == "AWS":
        return "efa"
    if bandwidth < FAST_NETWORK:
        return "ethernet"
    return "infiniband" if accelerator.vendor == "NVIDIA" else "roce"
