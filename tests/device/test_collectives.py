"""The collective model: limits that physics sets, the wiring it is told, and its recorded and real accuracy."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.device import collectives
from planner.device.collectives import (
    INTER_KINDS,
    INTRA_KINDS,
    KINDS,
    Topology,
    collective_seconds,
    explain_collective,
    waiting_seconds,
)
from planner.errors import PlanError

H100 = Topology(8, 450e9, "nvswitch", 400e9)
A100 = Topology(8, 300e9, "nvswitch", 200e9)
V100 = Topology(8, 150e9, "nvlink", 12.5e9)
PCIE = Topology(8, 31.5e9, "pcie", 12.5e9, "ethernet")
MI300X = Topology(8, 448e9, "xgmi", 400e9, "roce")
TOPOLOGIES = (H100, A100, V100, PCIE, MI300X)
WIRE = {
    "all_reduce": lambda n: 2 * (n - 1) / n,
    "all_gather": lambda n: (n - 1) / n,
    "reduce_scatter": lambda n: (n - 1) / n,
    "all_to_all": lambda n: (n - 1) / n,
    "broadcast": lambda n: 1.0,
    "send_recv": lambda n: 1.0,
}
SHARED = Path(__file__).parents[3] / "shared"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_group_of_one_and_an_empty_payload_take_no_time(kind: str, topology: Topology) -> None:
    assert collective_seconds(kind, 1e9, 1, topology) == 0
    assert collective_seconds(kind, 0.0, 8, topology) == 0
    assert list(collective_seconds(kind, np.array([0.0, 1e6]), 8, topology) > 0) == [False, True]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("group", [2, 4, 8, 16, 64])
def test_arrays_and_numbers_agree(kind: str, topology: Topology, group: int) -> None:
    sizes = np.geomspace(1e3, 1e10, 15)
    both = collective_seconds(kind, sizes, group, topology)
    assert both == pytest.approx([collective_seconds(kind, float(s), group, topology) for s in sizes], rel=1e-12)


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    topology=st.sampled_from(TOPOLOGIES),
    group=st.integers(2, 2048),
    stride=st.sampled_from([1, 2, 4, 8, 32]),
    payload=st.floats(1, 1e12),
)
def test_no_collective_beats_the_link_and_more_bytes_never_take_less(
    kind: str, topology: Topology, group: int, stride: int, payload: float
) -> None:
    seconds = collective_seconds(kind, payload, group, topology, stride=stride)
    assert math.isfinite(seconds) and seconds > 0
    assert collective_seconds(kind, 2 * payload, group, topology, stride=stride) >= seconds
    # A switch that reduces moves each payload byte once; everything else moves the wire bytes through a GPU's links.
    least = 1.0 if kind == "all_reduce" else WIRE[kind](group)
    assert seconds >= least * payload / topology.intra_bandwidth * 0.999 or group * stride > topology.gpus_per_node
    if group * stride > topology.gpus_per_node and kind in ("all_gather", "reduce_scatter"):
        share = topology.inter_bandwidth / min(stride, topology.gpus_per_node)
        assert seconds >= WIRE[kind](group) * payload / share


def test_rates_of_well_known_machines() -> None:
    """Round figures that any cluster engineer knows, from other sources than the fit used."""

    def bus(kind: str, group: int, topology: Topology, payload: float = 8 * 2.0**30) -> float:
        return WIRE[kind](group) * payload / collective_seconds(kind, payload, group, topology) / 1e9

    assert bus("all_reduce", 8, H100) == pytest.approx(478, rel=0.08)  # H200, 8 GiB, NVLS
    assert bus("all_reduce", 4, H100) == pytest.approx(363, rel=0.08)  # H200, ring
    assert bus("all_reduce", 8, A100) == pytest.approx(235, rel=0.08)
    assert bus("all_reduce", 8, V100) == pytest.approx(122, rel=0.08)
    assert bus("all_reduce", 2, MI300X) == pytest.approx(47.7, rel=0.12)  # a pair has one of seven links
    assert bus("all_reduce", 32, H100) == pytest.approx(370, rel=0.08)
    assert bus("all_to_all", 32, H100) == pytest.approx(48, rel=0.08)
    assert 0.3 < bus("all_reduce", 4, PCIE) / 31.5 < 0.6


def test_latency_grows_along_the_ring_and_with_the_logarithm_of_the_tree() -> None:
    small = 1024.0
    assert collective_seconds("all_gather", small, 8, H100) > 1.5 * collective_seconds("all_gather", small, 2, H100)
    reduce = [collective_seconds("all_reduce", small, 8 * n, H100) for n in (4, 16, 64, 256)]
    steps = np.diff(reduce)
    assert steps == pytest.approx([steps[0]] * 3, rel=1e-6)  # equal steps for equal factors: a tree
    assert explain_collective("all_reduce", small, 512, H100)["algorithm"] in ("tree", "in-switch tree")
    gather = [collective_seconds("all_gather", small, 8 * n, H100) for n in (64, 128)]
    assert gather[1] == pytest.approx(2 * gather[0], rel=0.05)  # a ring


def test_groups_side_by_side_share_the_adapters_of_their_node() -> None:
    alone = explain_collective("all_reduce", 4e9, 4, Topology(1, 450e9, "none", 400e9))
    beside = explain_collective("all_reduce", 4e9, 4, H100, stride=8)
    assert beside["ranks_per_node"] == 1 and beside["nodes"] == 4
    assert beside["transfer_s"] == pytest.approx(8 * alone["transfer_s"])
    assert explain_collective("all_reduce", 4e9, 16, H100, stride=4)["ranks_per_node"] == 2
    assert explain_collective("all_reduce", 4e9, 2, H100, stride=4)["bottleneck"] == "NVLink"


def test_only_a_busy_network_makes_ranks_wait_and_by_the_node() -> None:
    busy = Topology(8, 450e9, "nvswitch", 400e9, "efa-shared")
    assert waiting_seconds(8, busy) == 0 == waiting_seconds(64, H100)
    assert waiting_seconds(128, busy) == pytest.approx(2 * waiting_seconds(64, busy))
    assert waiting_seconds(8, busy, stride=8) == pytest.approx(waiting_seconds(64, busy))
    quiet = Topology(8, 450e9, "nvswitch", 400e9, "efa")
    more = collective_seconds("reduce_scatter", 1e8, 64, busy) - collective_seconds("reduce_scatter", 1e8, 64, quiet)
    assert more == pytest.approx(waiting_seconds(64, busy))


def test_the_bottleneck_is_named() -> None:
    assert explain_collective("all_reduce", 1e9, 8, H100)["bottleneck"] == "NVLink"
    assert explain_collective("all_reduce", 1e9, 8, MI300X)["bottleneck"] == "xGMI"
    assert explain_collective("all_gather", 1e9, 4, PCIE)["bottleneck"] == "PCIe"
    assert explain_collective("all_gather", 1e9, 16, PCIE)["bottleneck"] == "network"
    slow_link = Topology(8, 31.5e9, "pcie", 400e9)
    assert explain_collective("all_gather", 1e9, 16, slow_link)["bottleneck"] == "PCIe"
    assert explain_collective("all_reduce", 1024, 8, H100)["latency_bound"] is True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("group", [1, 4, 64])
def test_terms_add_up_and_say_where_they_come_from(kind: str, group: int) -> None:
    terms = explain_collective(kind, 64e6, group, H100)
    assert terms["seconds"] == collective_seconds(kind, 64e6, group, H100)
    assert terms["latency_s"] + terms["transfer_s"] + terms["ramp_s"] == pytest.approx(terms["seconds"])
    assert terms["basis"] in ("fitted", "assumed") and terms["source"]
    if group > 1:
        assert terms["algorithm_bandwidth"] == pytest.approx(64e6 / terms["seconds"])


@pytest.mark.parametrize("intra", INTRA_KINDS)
@pytest.mark.parametrize("inter", INTER_KINDS)
def test_every_wiring_has_constants(intra: str, inter: str) -> None:
    topology = Topology(1 if intra == "none" else 8, 50e9, intra, 3.125e9, inter)
    for kind in KINDS:
        assert collective_seconds(kind, 1e8, 16, topology) > collective_seconds(kind, 1e7, 16, topology) > 0
        assert explain_collective(kind, 1e8, 16, topology)["source"]


def test_a_faster_link_or_network_is_never_slower() -> None:
    for kind in KINDS:
        for group in (2, 8, 64):
            slow = collective_seconds(kind, 1e9, group, Topology(8, 300e9, "nvswitch", 25e9))
            assert collective_seconds(kind, 1e9, group, Topology(8, 900e9, "nvswitch", 400e9)) < slow


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: collective_seconds("gather", 1.0, 8, H100), "collective"),
        (lambda: collective_seconds("all_reduce", -1.0, 8, H100), "payload_bytes"),
        (lambda: collective_seconds("all_reduce", np.array([1.0, -1.0]), 8, H100), "payload_bytes"),
        (lambda: collective_seconds("all_reduce", 1.0, 0, H100), "group"),
        (lambda: collective_seconds("all_reduce", 1.0, 16, Topology(8, 1e9, "pcie", None)), "hardware.network_gbps"),
        (lambda: collective_seconds("all_reduce", 1.0, 4, Topology(8, 1.0, "none", None)), "hardware.intra_kind"),
        (lambda: Topology(8, 450e9, "nvlinks", None), "hardware.intra_kind"),
        (lambda: Topology(8, 450e9, "nvswitch", 1e9, "token-ring"), "hardware.inter_kind"),
        (lambda: Topology(8, 0.0, "nvswitch", None), "hardware.intra_bandwidth"),
        (lambda: Topology(8, 450e9, "nvswitch", 0.0), "hardware.network_gbps"),
        (lambda: Topology(0, 450e9, "nvswitch", None), "hardware.gpus_per_node"),
    ],
)
def test_what_cannot_be_planned_is_said(call: Any, field: str) -> None:
    with pytest.raises(PlanError) as error:
        call()
    assert error.value.field == field


def test_a_call_stays_cheap_for_a_hundred_thousand_gpus() -> None:
    def cost(group: int) -> float:
        collective_seconds("all_reduce", 1e9, group, H100)
        times = []
        for _ in range(7):
            start = time.perf_counter()
            for _ in range(1000):
                collective_seconds("all_reduce", 1e9, group, H100)
            times.append((time.perf_counter() - start) / 1000)
        return min(times)

    assert cost(100_000) < 30e-6  # 10 microseconds on an idle machine
    start = time.perf_counter()
    for group in range(16, 1016):
        collective_seconds("all_gather", 1e9, group, A100)
    assert (time.perf_counter() - start) / 1000 < 300e-6  # the first call for a group builds its lines


def test_recorded_accuracy_on_rows_left_out() -> None:
    data = json.loads(collectives._DATA_FILE.read_text(encoding="utf-8"))
    left_out = [r for r in data["accuracy"] if r["part"] == "left out" and r["sizes"] == "1 MiB and more"]
    nccl = [r for r in left_out if r["hardware"] in ("h200_sxm", "b300_sxm", "gb200", "gb300", "a100_sxm")]
    assert len(nccl) == 20
    assert max(r["median_error_percent"] for r in nccl) < 12
    assert np.median([r["median_error_percent"] for r in left_out]) < 10


@pytest.mark.skipif(not (SHARED / "kernels" / "collectives_nccl.parquet").exists(), reason="measurements are not here")
def test_the_shipped_constants_predict_the_measurements_as_recorded() -> None:
    pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    from planner.device import fit_collectives

    rows = fit_collectives.nccl_rows(SHARED / "kernels") + fit_collectives.published_rows(SHARED / "evidence")
    data = json.loads(collectives._DATA_FILE.read_text(encoding="utf-8"))
    assert fit_collectives.errors(rows) == data["accuracy"]
