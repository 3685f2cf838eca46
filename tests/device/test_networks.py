"""Every kind of network can be said, has a source, and an oversubscribed one is slower where its uplinks are needed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planner.device.collectives import INTER_KINDS, INTRA_KINDS, KINDS, Topology, collective_seconds, explain_collective

TREE = Topology(8, 450e9, "nvswitch", 400e9, "infiniband")
LARGE = 2.0**30


@pytest.mark.parametrize("intra", [kind for kind in INTRA_KINDS if kind != "none"])
@pytest.mark.parametrize("inter", INTER_KINDS)
def test_every_pair_of_links_has_times_and_a_source(intra: str, inter: str) -> None:
    topology = Topology(8, 50e9, intra, 50e9, inter)
    for kind in KINDS:
        said = explain_collective(kind, LARGE, 32, topology)
        assert 0 < said["seconds"] < 60
        assert said["basis"] in ("fitted", "assumed") and said["source"]


def test_a_pair_of_a_full_mesh_has_one_of_its_links() -> None:
    mesh = Topology(8, 448e9, "xgmi", None)
    two, all_of_them = (explain_collective("all_reduce", LARGE, n, mesh)["bus_bandwidth"] for n in (2, 8))
    assert 4 < all_of_them / two <= 7.5


def test_switches_reduce_from_nvlink_4_on() -> None:
    algorithms = [explain_collective("all_reduce", LARGE, 8, Topology(8, rate, "nvswitch", None))["algorithm"] for rate in (300e9, 450e9)]
    assert algorithms == ["ring", "in-switch"]


@pytest.mark.parametrize("kind", KINDS)
def test_inside_a_leaf_uplinks_do_not_matter(kind: str) -> None:
    narrow = replace(TREE, oversubscription=4.0, machines_per_leaf=4)
    assert collective_seconds(kind, LARGE, 32, narrow) == collective_seconds(kind, LARGE, 32, TREE)


def test_beyond_a_leaf_pairs_wait_for_uplinks_and_rings_do_not() -> None:
    narrow, rails = replace(TREE, oversubscription=4.0, machines_per_leaf=4), replace(TREE, oversubscription=4.0, machines_per_leaf=32)
    far = {kind: collective_seconds(kind, LARGE, 128, narrow) / collective_seconds(kind, LARGE, 128, TREE) for kind in KINDS}
    assert far["all_reduce"] == far["all_gather"] == 1  # one edge of the ring leaves each leaf of four machines
    assert 2.5 < far["all_to_all"] < 4
    between = [explain_collective("send_recv", LARGE, 2, topology, stride=64) for topology in (narrow, TREE)]
    assert between[0]["transfer_s"] == pytest.approx(4 * between[1]["transfer_s"])
    assert between[0]["latency_s"] == between[1]["latency_s"]
    assert collective_seconds("all_to_all", LARGE, 128, rails) == collective_seconds("all_to_all", LARGE, 128, TREE)
    alone = replace(TREE, oversubscription=4.0)
    assert collective_seconds("all_gather", LARGE, 128, alone) > 3.5 * collective_seconds("all_gather", LARGE, 128, TREE)
