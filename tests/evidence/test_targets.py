"""The table of targets: who reached them, and a reason wherever one was missed."""

from __future__ import annotations

from planner.evidence.accuracy import accuracy
from planner.evidence.targets import TARGETS, section


def test_every_missed_target_says_what_is_missing() -> None:
    reached = accuracy()["held_out"]["tokens"]["by_source"]
    for name, target in TARGETS.items():
        missed = reached[name]["median"] > target.median or (target.p90 is not None and reached[name]["p90"] > target.p90)
        assert target.missing or not missed, name


def test_a_line_for_every_source_with_rows() -> None:
    lines = section({"megatron": {"median": 0.05, "p90": 0.3}, "mlperf": {"median": 0.1, "p90": 0.2}})
    assert any(line.startswith("| megatron | 8 % | 20 % | 5.0 % | 30.0 % |") and "ZeRO-3" in line for line in lines)
    assert any(line.startswith("| mlperf |") and line.endswith("| reached |") for line in lines)
    assert not any(line.startswith("| fms |") for line in lines)
