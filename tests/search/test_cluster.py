"""The search on a Ray cluster of this machine: the same answer, and a killed worker loses nothing. The joining of parts is tested without Ray."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from planner.cli import main
from planner.errors import PlanError
from planner.run import parse_run
from planner.search import Constraints, Found, Space, search
from planner.search import cluster as cluster_module
from planner.search.cluster import Part, join, look, search_on_ray
from planner.search.space import complete
from tests.search.spaces import TINY

RUN: dict[str, Any] = {"model": TINY, "stack": "torchtitan", "precision": "bf16-mixed", "batch": {"accumulation": 4}, "data": "20M"}


def space(**fields: Any) -> Space:
    return Space(parse_run(RUN), gpus=("H100 SXM 80GB", "RTX 4090"), **({"counts": (1, 2, 4, 8), "micro": (1, 4), "offload": ("none",)} | fields))


def same(one: Found, other: Found) -> None:
    first, second = one.document(), other.document()
    for name in ("evaluated", "impossible", "best", "pareto", "pareto_size", "next_best", "reasons", "complete"):
        assert first[name] == second[name], name


LIMITS = (Constraints(), Constraints(deadline=3600), Constraints(budget=0.001), Constraints(min_batch=64, objective="energy"))


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("size", [1, 7])
def test_parts_of_a_space_join_to_the_answer_of_the_whole(limits: Constraints, size: int) -> None:
    from planner.search.search import answer

    asked = space(constraints=limits)
    filled = complete(asked)
    staged = [stage for trace in filled.traces() for stage in filled.stages(trace)]
    evaluator, tally = join(filled, [look(filled, staged[i : i + size]) for i in range(0, len(staged), size)])
    same(search(asked), answer(filled, evaluator, tally, 0.0, 1.0))


def test_without_ray_the_command_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    file = tmp_path / "run.yaml"
    file.write_text("model: gpt2\n", encoding="utf-8")
    assert main(["search", str(file), "--ray"]) == 2
    assert "needs the library ray" in capsys.readouterr().err


def test_a_cluster_that_does_not_answer_is_refused() -> None:
    with pytest.raises(PlanError, match="does not answer"):
        cluster_module._reach("ray://127.0.0.1:1")
    cluster_module._reach("auto")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two workers on this machine."""
    ray = pytest.importorskip("ray", reason="the search on a cluster needs ray[default]")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_answers_as_one_process_does(cluster: Any) -> None:
    workers: set[str] = set()
    same(search(space()), search_on_ray(space(), seen=lambda part: workers.add(part.worker)))
    assert len(workers) == 2


@pytest.mark.filterwarnings("ignore")
def test_a_killed_worker_loses_nothing(cluster: Any) -> None:
    killed: list[int] = []
    workers: list[str] = []

    def kill(part: Part) -> None:
        workers.append(part.worker)
        if not killed:
            killed.append(int(part.worker.rpartition(":")[2]))
            os.kill(killed[0], signal.SIGKILL)

    found = search_on_ray(space(), seen=kill)
    assert killed and any(int(worker.rpartition(":")[2]) != killed[0] for worker in workers)
    same(search(space()), found)


@pytest.mark.filterwarnings("ignore")
def test_a_cluster_without_time_says_what_it_left_out(cluster: Any) -> None:
    found = search_on_ray(space(), patience=1e-6)
    assert not found.complete and "Stopped early" in " ".join(found.left_out)


@pytest.mark.filterwarnings("ignore")
def test_constraints_that_exclude_each_other_are_refused_there_too(cluster: Any) -> None:
    with pytest.raises(PlanError):
        search_on_ray(space(counts=(3,), tp=(2,)))
