"""Bandwidth of a machine's network from the words of a source."""

from __future__ import annotations

import re

_RATE = re.compile(
    r"(?:(?P<count>\d+)\s*x\s+)?(?P<words>(?:[A-Za-z][\w-]*\s+){0,4}?)"
    r"(?P<rate>\d+(?:\.\d+)?)\s*(?P<unit>Gb/s|Gbps|Tb/s|GbE\b)"
)
_OMNI_PATH = re.compile(r"(?P<count>\d+)x\s+Omni-Path\s+(?P<rate>\d+)\b(?!\s*Gb)")
_PER_NODE = re.compile(r"\((?P<count>\d+) per node\)")
_NOT_TRAINING = ("storage", "management")


_KINDS = (
    ("HF hopper cluster", "efa-shared"),
    ("EFA", "efa"),
    ("RoCE", "roce"),
    ("Omni-Path", "omnipath"),
    ("Slingshot", "slingshot"),
    ("InfiniBand", "infiniband"),
    ("Infiniband", "infiniband"),
)
"""Words of a source and the kind of network that they name; the Hugging Face cluster is the one whose busy collectives were published."""


_NVIDIA_MACHINES = (("V100-SXM3", 800.0), ("V100-SXM2", 400.0), ("A100-SXM4-40GB", 1600.0), ("A100-SXM4-80GB", 1600.0))
"""InfiniBand of NVIDIA's own machines by the part in them [Gbit/s per machine]: DGX-2, DGX-1 and DGX A100 data sheets."""


def nvidia_machine_gbps(part: str | None) -> float | None:
    """Bandwidth between NVIDIA's own machines with this part, as its name was told.

    >>> nvidia_machine_gbps("V100-SXM3-32GB (DGX-2)")
    800.0
    """
    return next((gbps for word, gbps in _NVIDIA_MACHINES if (part or "").startswith(word)), None)


def network_kind(text: str | None) -> str | None:
    """Kind of the network between machines, where the text names one.

    >>> network_kind("NVLink + 3.2 Tb/s EFA")
    'efa'
    """
    return next((kind for word, kind in _KINDS if word in (text or "")), None)


def network_gbps(text: str | None, gpus_per_node: int | None = None) -> float | None:
    """Bandwidth between machines [Gbit/s per machine], where the text states one.

    Arguments
    ---------
    text: for example "NVLink/NVSwitch + 8x 200Gb/s HDR InfiniBand per node". Links inside the machine (GB/s) do not count, nor do
        adapters that the text gives to storage or management.
    gpus_per_node: accelerators in a machine, for texts that say "per GPU"; 8 when unknown.

    >>> network_gbps("NVLink intra-node; 400 Gb/s RDMA per GPU inter-node", 8)
    3200.0
    >>> network_gbps("NVLink + 3.2 Tb/s EFA")
    3200.0
    """
    if not text:
        return None
    best: float | None = None
    for part in re.split(r"[;,]|\s\+\s", text):
        if any(word in part.lower() for word in _NOT_TRAINING) or "intra:" in part:
            continue
        for found in (*_RATE.finditer(part), *_OMNI_PATH.finditer(part)):
            rate = (
                float(found["rate"])
                * (1000 if found.groupdict().get("unit") == "Tb/s" else 1)
                * int(found["count"] or 1)
            )
            if "per GPU" in part:
                rate *= gpus_per_node or 8
            elif many := _PER_NODE.search(part):
                rate *= int(many["count"])
            best = rate if best is None else max(best, rate)
    return best
