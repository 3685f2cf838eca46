"""Time of a collective operation over a group of GPUs: a closed form of latency, wire time and ramp.

Every algorithm that the communication library may choose (ring, tree, reduction in the switch) is one straight line
with a ramp, and the library takes the fastest:

    t(S) = a + c S + g sqrt(c S)

with S the payload [bytes], a the latency of all steps [s], c the asymptotic cost per payload byte [s/B], and
g [sqrt(s)] the slow approach to full bandwidth that pipelines of chunks show. Steps and wire factors are those of
Thakur, Rabenseifner and Gropp, "Optimization of Collective Communication Operations in MPICH" (2005), and of the tuning
model in NCCL's source (src/graph/tuning.cc). The constants are fitted by `fit_collectives.py` and stand, with their
sources and their errors on rows not used for the fit, in `data/collectives.json`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from planner.device.measured import Correction
from planner.errors import PlanError

KINDS = ("all_reduce", "all_gather", "reduce_scatter", "broadcast", "all_to_all", "send_recv")
INTRA_KINDS = ("nvswitch", "nvlink", "xgmi", "pcie", "pcie-host", "none")
INTER_KINDS = ("infiniband", "roce", "slingshot", "efa", "efa-shared", "ethernet", "omnipath")

_DATA_FILE = Path(__file__).with_name("data") / "collectives.json"
_LINK_NAMES = {"nvswitch": "NVLink", "nvlink": "NVLink", "xgmi": "xGMI", "pcie": "PCIe", "pcie-host": "PCIe"}
# The switch reduces from NVLink 4 on; libraries choose it for more than four GPUs (four and fewer stay on the ring).
_IN_SWITCH_MIN_BANDWIDTH = 375e9
_IN_SWITCH_MIN_RANKS = 5


@dataclass(frozen=True)
class Topology:
    """How the GPUs of a machine and the machines are wired.

    Arguments
    ---------
    gpus_per_node: GPUs that share the fast links of one node (72 in an NVL72 rack).
    intra_bandwidth: datasheet bandwidth of one GPU towards its node, per direction [B/s].
    intra_kind: ``nvswitch`` (any pair at full rate), ``nvlink`` (direct links that join the whole
        node: a bridged pair, a mesh, a cube mesh; a node of bridged pairs is ``pcie``),
        ``xgmi`` (full mesh: a pair has one link), ``pcie`` (peer-to-peer capable), ``pcie-host`` (every byte is staged
        through host memory and between sockets: some cloud machines), ``none``.
    inter_bandwidth: network bandwidth of one node, per direction, over all its adapters [B/s]; None when there is none.
    inter_kind: ``infiniband``, ``roce``, ``slingshot``, ``efa``, ``efa-shared`` (a busy shared cluster), ``ethernet``
        (TCP sockets), ``omnipath``.
    oversubscription: bandwidth of the adapters below a leaf switch over that of its uplinks.
    machines_per_leaf: machines that reach each other without uplinks: those of a rack, or with rails (a leaf for each
        adapter of a machine) as many as such a leaf has ports for, 32 in NVIDIA's DGX SuperPOD.
    measured: by kind of collective, how far the law is off on these machines at (payload [bytes], ranks).

    Errors: `PlanError` for a kind that is not listed or a size that is not positive.
    """

    gpus_per_node: int
    intra_bandwidth: float
    intra_kind: str
    inter_bandwidth: float | None
    inter_kind: str = "infiniband"
    oversubscription: float = 1.0
    machines_per_leaf: int = 1
    measured: tuple[tuple[str, Correction], ...] = ()

    def corrected(self, kind: str, payload: float, group: float) -> float:
        """What the law's time is to be multiplied with, where this wiring was measured."""
        return next((float(c.factor(payload, group)) for name, c in self.measured if name == kind), 1.0)

    def __post_init__(self) -> None:
        if self.gpus_per_node < 1:
            raise PlanError("hardware.gpus_per_node", self.gpus_per_node, "is not a count of GPUs", "Give 1 or more.")
        if self.intra_kind not in INTRA_KINDS:
            raise PlanError(
                "hardware.intra_kind", self.intra_kind, "is not a known link", f"Use one of {', '.join(INTRA_KINDS)}."
            )
        if self.intra_kind != "none" and not self.intra_bandwidth > 0:
            raise PlanError(
                "hardware.intra_bandwidth", self.intra_bandwidth, "is not a bandwidth", "Give bytes per second above 0."
            )
        if self.inter_kind not in INTER_KINDS:
            raise PlanError(
                "hardware.inter_kind", self.inter_kind, "is not a known network", f"Use {', '.join(INTER_KINDS)}."
            )
        if self.inter_bandwidth is not None and not self.inter_bandwidth > 0:
            raise PlanError(
                "hardware.network_gbps", self.inter_bandwidth, "is not a bandwidth", "Give a value above 0, or none."
            )


class _Line(NamedTuple):
    """One algorithm over one group: t(S) = latency + cost S + ramp sqrt(cost S)."""

    algorithm: str
    latency: float
    cost: float
    ramp: float
    bottleneck: str


@lru_cache(maxsize=1)
def _file_data() -> Mapping[str, Any]:
    data: Mapping[str, Any] = json.loads(_DATA_FILE.read_text(encoding="utf-8"))
    return data


_override: list[Mapping[str, Any]] = []


def use_constants(data: Mapping[str, Any] | None) -> None:
    """Replace the fitted constants (for the fit itself and for tests); None returns to the file."""
    _override[:] = [] if data is None else [data]
    _lines.cache_clear()


def _data() -> Mapping[str, Any]:
    return _override[0] if _override else _file_data()


def _interpolate(points: list[list[float]], x: float) -> float:
    """Value at x, linear in log x between the points, constant outside."""
    if x <= points[0][0]:
        return points[0][1]
    for (x0, y0), (x1, y1) in zip(points, points[1:], strict=False):
        if x <= x1:
            return y0 + (y1 - y0) * math.log(x / x0) / math.log(x1 / x0)
    return points[-1][1]


def _link_curve(intra_kind: str, kind: str, bandwidth: float, ranks: float) -> tuple[float, float, float, float]:
    """(base latency [s], latency per ring step pair [s], ramp [sqrt(s)], fraction of the link rate) of a collective."""
    generations = _data()["links"][intra_kind]

    def at(read: Any) -> float:
        return _interpolate([[g["bandwidth"], read(g[kind])] for g in generations if kind in g], bandwidth)

    fraction = at(lambda p: _interpolate(p["fraction"], ranks))
    return at(lambda p: p["base"]), at(lambda p: p["step"]), at(lambda p: p["ramp"]), fraction


def _reach(topology: Topology, ranks: int) -> float:
    """Share of a GPU's links that lead to the other `ranks - 1` members of its group.

    A switch gives all of them; a full mesh (ranks - 1)/(size - 1); NVIDIA's eight-GPU cube mesh, whose rings use
    2, 4 and 6 of 6 links for 2, 4 and 8 GPUs, log2(ranks)/log2(size).
    """
    size = topology.gpus_per_node
    if topology.intra_kind == "xgmi" or (topology.intra_kind == "nvlink" and size <= 4):
        return min(1.0, (ranks - 1) / (size - 1))
    if topology.intra_kind == "nvlink":
        return min(1.0, math.log2(ranks) / math.log2(size))
    return 1.0


def _wire_factor(kind: str, ranks: int) -> float:
    """Bytes over the busiest link of a ring, per payload byte."""
    if kind == "all_reduce":
        return 2 * (ranks - 1) / ranks
    if kind in ("broadcast", "send_recv"):
        return 1.0
    return (ranks - 1) / ranks


def _curve_kind(kind: str) -> str:
    # A broadcast is the gather's ring with the whole tensor on every link: no separate measurements exist.
    return "all_gather" if kind == "broadcast" else kind


def _inside(kind: str, group: int, topology: Topology, stride: int) -> list[_Line]:
    """Algorithms for a group whose members share one node."""
    if topology.intra_kind == "none":
        raise PlanError(
            "hardware.intra_kind",
            "none",
            f"cannot carry a group of {group} GPUs inside a node",
            "Name the link (nvswitch, nvlink, xgmi, pcie), or set gpus_per_node to 1.",
        )
    # Strided groups of a node run at the same time: over PCIe they load the same host bridges as one wide group.
    loaded = min(topology.gpus_per_node, group * stride) if topology.intra_kind.startswith("pcie") else group
    ranks = 2 if kind == "send_recv" else group
    base, step, ramp, fraction = _link_curve(topology.intra_kind, _curve_kind(kind), topology.intra_bandwidth, loaded)
    rate = fraction * topology.intra_bandwidth * _reach(topology, ranks)
    name = _LINK_NAMES[topology.intra_kind]
    algorithm = {"all_to_all": "pairwise", "send_recv": "point to point"}.get(kind, "ring")
    lines = [_Line(algorithm, base + step * (ranks - 1), _wire_factor(kind, ranks) / rate, ramp, name)]
    if kind == "all_reduce" and group >= _IN_SWITCH_MIN_RANKS and _can_reduce_in_switch(topology):
        lines.append(_in_switch(topology, group))
    return lines


def _can_reduce_in_switch(topology: Topology) -> bool:
    return topology.intra_kind == "nvswitch" and topology.intra_bandwidth >= _IN_SWITCH_MIN_BANDWIDTH


def _in_switch(topology: Topology, ranks: int) -> _Line:
    """All-reduce by the switch: a GPU sends its tensor once and its reduced share once, (1 + 1/n) S in all.

    Beyond eight GPUs the measured rate stays that of eight (GB200 NVL72: 850 GB/s of bus bandwidth at 8 and at 32).
    """
    base, step, ramp, fraction = _link_curve("nvswitch", "all_reduce_in_switch", topology.intra_bandwidth, ranks)
    cost = (1 + 1 / min(ranks, 8)) / (fraction * topology.intra_bandwidth)
    return _Line("in-switch", base + step * (ranks - 1), cost, ramp, "NVLink")


def _across(kind: str, group: int, topology: Topology, stride: int) -> list[_Line]:
    """Algorithms for a group that spans nodes; the groups side by side in a node share its adapters."""
    if topology.inter_bandwidth is None:
        raise PlanError(
            "hardware.network_gbps",
            None,
            f"is needed: a group of {group} GPUs spans nodes of {topology.gpus_per_node}",
            "Give the network bandwidth of one node.",
        )
    net = _data()["network"][topology.inter_kind]
    side_by_side = min(stride, topology.gpus_per_node)
    here = max(1, topology.gpus_per_node // stride)
    nodes = math.ceil(group / here)
    here = min(here, group)
    share = topology.inter_bandwidth / side_by_side
    net_rate = share * _interpolate(net["fraction"], topology.inter_bandwidth)
    hop, ramp, jitter = net["hop"], net["ramp"], net["jitter"] * nodes

    base, step, link_rate = net["base"], 0.0, math.inf
    if here > 1 and kind != "send_recv":
        loaded = topology.gpus_per_node if topology.intra_kind.startswith("pcie") else here
        if topology.intra_kind == "none":
            return _inside(kind, here, topology, stride)
        base, step, _, fraction = _link_curve(topology.intra_kind, _curve_kind(kind), topology.intra_bandwidth, loaded)
        link_rate = fraction * topology.intra_bandwidth * _reach(topology, here)

    def slower(link_cost: float, net_cost: float) -> tuple[float, str]:
        return (net_cost, "network") if net_cost >= link_cost else (link_cost, _LINK_NAMES[topology.intra_kind])

    # Uplinks: pairs far apart all need them; a ring passes from leaf to leaf once, however many machines a leaf has.
    spanned, leaf = math.ceil(group * stride / topology.gpus_per_node), topology.machines_per_leaf
    narrow = topology.oversubscription if spanned > leaf else 1.0
    if kind == "send_recv":
        rate = share * net["send_recv"] * _interpolate(net["fraction"], topology.inter_bandwidth) / narrow
        return [_Line("point to point", base + hop + jitter, 1 / rate, ramp, "network")]
    if kind == "all_to_all":
        # Every rank sends (n - r)/n of its payload through the adapters that the r ranks of its node share.
        through = max(here * (group - here), narrow * here * (group - min(group, leaf * here)))
        cost, bottleneck = slower((here - 1) / group / link_rate, through / group / (net_rate * net["all_to_all"]))
        latency = base + hop + net["per_peer"] * (group - here) + jitter
        return [_Line("pairwise", latency, cost, ramp, bottleneck)]

    net_rate *= min(1.0, leaf / narrow)
    # A ring of n ranks takes 2(n - 1) steps for an all-reduce, else n - 1; one hop a node crosses the network.
    passes = 2 if kind == "all_reduce" else 1
    hops = min(nodes, group - 1) if kind == "all_reduce" else nodes - 1
    factor = _wire_factor(kind, group)
    cost, bottleneck = slower(factor / link_rate, factor / net_rate)
    latency = base + step * (group - 1 - hops) + passes * hop * hops + jitter
    lines = [_Line("ring", latency, cost, ramp, bottleneck)]
    if kind == "all_reduce":
        latency = base + step * (here - 1) + 2 * net["tree_hop"] * math.log2(nodes) + jitter
        # A node inside a tree passes the tensor up and down: 2 S over its adapters; two nodes only swap it once.
        cost, bottleneck = slower(2 / link_rate, 2 / (net_rate * net["tree"]))
        lines.append(_Line("tree", latency, cost, ramp, bottleneck))
        if here >= _IN_SWITCH_MIN_RANKS and _can_reduce_in_switch(topology):
            switch = _in_switch(topology, here)
            cost, bottleneck = slower(switch.cost, (1 if nodes == 2 else 2) / (net_rate * net["tree"]))
            latency = switch.latency + 2 * net["tree_hop"] * math.log2(nodes) + jitter
            lines.append(_Line("in-switch tree", latency, cost, ramp, bottleneck))
    return lines


@lru_cache(maxsize=65536)
def _lines(kind: str, group: int, topology: Topology, stride: int) -> tuple[_Line, ...]:
    if kind not in KINDS:
        raise PlanError("collective", kind, "is not a collective", f"Use one of {', '.join(KINDS)}.")
    if group < 1 or stride < 1:
        raise PlanError("group", (group, stride), "is not a group size and a stride", "Give whole numbers from 1.")
    if group == 1:
        return ()
    if group * stride <= topology.gpus_per_node:
        return tuple(_inside(kind, group, topology, stride))
    return tuple(_across(kind, group, topology, stride))


@overload
def collective_seconds(
    kind: str, payload_bytes: float, group: int, topology: Topology, *, stride: int = 1
) -> float: ...
@overload
def collective_seconds(
    kind: str, payload_bytes: NDArray[Any], group: int, topology: Topology, *, stride: int = 1
) -> NDArray[np.float64]: ...


def collective_seconds(
    kind: str, payload_bytes: float | NDArray[Any], group: int, topology: Topology, *, stride: int = 1
) -> float | NDArray[np.float64]:
    """Time of one collective [s], alone on the machine.

    Arguments
    ---------
    kind: one of `KINDS`.
    payload_bytes: the full tensor [bytes], a number or an array: the tensor of an all_reduce, broadcast or send_recv,
        the gathered output of an all_gather, the input of a reduce_scatter, the send buffer of a rank in an all_to_all.
    group: number of ranks; 1 takes no time. It and the stride may be arrays as well: one time for each.
    topology: the wiring.
    stride: distance between neighbouring ranks of the group; a data-parallel group beside tensor parallelism of 8 has
        stride 8. Groups side by side in a node are taken to run at the same time and share its network adapters.

    Equation: min over algorithms of a + c S + g sqrt(c S), see the module. The cost does not grow with the group.

    Source: constants fitted to published measurements, `data/collectives.json`.

    Errors: `PlanError` for an unknown kind, a negative payload, or a group that spans nodes without a network.
    """
    if isinstance(group, np.ndarray) or isinstance(stride, np.ndarray):
        each = np.broadcast_arrays(payload_bytes, group, stride)
        found = [collective_seconds(kind, float(s), int(g), topology, stride=int(d)) for s, g, d in zip(*map(np.ravel, each), strict=True)]
        return np.array(found).reshape(each[0].shape)
    lines = _lines(kind, group, topology, stride)
    if isinstance(payload_bytes, np.ndarray):
        if payload_bytes.size and float(payload_bytes.min()) < 0:
            raise PlanError("payload_bytes", float(payload_bytes.min()), "is negative", "Give 0 bytes or more.")
        fastest: NDArray[np.float64] = np.zeros(payload_bytes.shape)
        for index, line in enumerate(lines):
            wires = line.cost * payload_bytes
            times = line.latency + wires + line.ramp * np.sqrt(wires)
            fastest = times if index == 0 else np.minimum(fastest, times)
        if topology.measured:
            fastest = fastest * np.vectorize(lambda size: topology.corrected(kind, size, group))(payload_bytes)
        return np.where(payload_bytes > 0, fastest, 0.0)
    if payload_bytes <= 0:
        if payload_bytes < 0:
            raise PlanError("payload_bytes", payload_bytes, "is negative", "Give 0 bytes or more.")
        return 0.0
    best = math.inf if lines else 0.0
    for line in lines:
        wire = line.cost * payload_bytes
        best = min(best, line.latency + wire + line.ramp * math.sqrt(wire))
    return best * topology.corrected(kind, payload_bytes, group) if topology.measured else best


def waiting_seconds(group: Any, topology: Topology, *, stride: Any = 1) -> Any:
    """Part of `collective_seconds` that ranks wait for each other on a busy shared network [s].

    A rank waits for the latest of its group once. Collectives that are queued one behind another, as the buckets of a
    gradient exchange are, find all ranks there but for the first of them. Same arguments as `collective_seconds`; the group may be an array.
    """
    if isinstance(group, np.ndarray) or isinstance(stride, np.ndarray):
        waits = np.vectorize(lambda size, step: waiting_seconds(size, topology, stride=step), otypes=[float])
        return waits(group, stride)
    if group * stride <= topology.gpus_per_node:
        return 0.0
    jitter = _data()["network"][topology.inter_kind]["jitter"]
    return float(jitter) * math.ceil(group / max(1, topology.gpus_per_node // stride))


def explain_collective(
    kind: str, payload_bytes: float, group: int, topology: Topology, *, stride: int = 1
) -> dict[str, Any]:
    """The terms behind `collective_seconds` for one payload; same arguments and errors.

    The mapping has ``seconds``, its parts ``latency_s``, ``transfer_s`` and ``ramp_s``, the chosen ``algorithm``,
    ``algorithm_bandwidth`` (payload over time [B/s]) and ``peak_algorithm_bandwidth`` (of an endless message),
    ``bus_bandwidth`` (wire bytes over time [B/s], the figure that nccl-tests prints), ``bottleneck`` (``NVLink``,
    ``xGMI``, ``PCIe``, ``network``, or None for a group of one), ``latency_bound`` (latency exceeds transfer),
    ``nodes``, ``ranks_per_node``, ``formula``, ``basis`` (``fitted`` or ``assumed``) and ``source``.
    """
    seconds = float(collective_seconds(kind, float(payload_bytes), group, topology, stride=stride))
    lines = _lines(kind, group, topology, stride)
    inside = group * stride <= topology.gpus_per_node
    here = group if inside else min(group, max(1, topology.gpus_per_node // stride))
    terms: dict[str, Any] = {
        "kind": kind, "payload_bytes": float(payload_bytes), "group": group, "stride": stride,
        "nodes": 1 if inside else math.ceil(group / here), "ranks_per_node": here, "seconds": seconds,
        "formula": "min over algorithms of a + c*S + g*sqrt(c*S)",
    }  # fmt: skip
    if not lines or payload_bytes == 0:
        return terms | {
            "algorithm": None, "latency_s": 0.0, "transfer_s": 0.0, "ramp_s": 0.0, "algorithm_bandwidth": None,
            "peak_algorithm_bandwidth": None, "bus_bandwidth": None, "bottleneck": None, "latency_bound": False,
            "basis": "fitted", "source": "nothing is sent",
        }  # fmt: skip

    def time_of(line: _Line) -> float:
        return line.latency + line.cost * payload_bytes + line.ramp * math.sqrt(line.cost * payload_bytes)

    line = min(lines, key=time_of)
    transfer = line.cost * payload_bytes
    data = _data()
    basis, source = data["sources"][topology.intra_kind if inside else topology.inter_kind]
    if not inside and here > 1:
        source = f"{source}; inside the node: {data['sources'][topology.intra_kind][1]}"
    return terms | {
        "algorithm": line.algorithm, "latency_s": line.latency, "transfer_s": transfer,
        "ramp_s": line.ramp * math.sqrt(transfer), "algorithm_bandwidth": payload_bytes / seconds,
        "peak_algorithm_bandwidth": 1 / line.cost,
        "bus_bandwidth": _wire_factor(kind, group) * payload_bytes / seconds, "bottleneck": line.bottleneck,
        "latency_bound": line.latency > transfer, "basis": basis, "source": source,
    }  # fmt: skip
