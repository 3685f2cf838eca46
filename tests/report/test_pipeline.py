"""The pipeline of a run with stages: every piece of work is drawn where it was simulated, and every stage's peak is that of its curve."""

from __future__ import annotations

import re

import pytest

from planner.estimate.engine import estimate
from planner.estimate.result import Estimate
from planner.report import pipeline
from planner.report.content import build
from planner.report.registry import Subject, export
from planner.run import parse_run


def plan(**parallel: object) -> Estimate:
    return estimate(
        parse_run(
            {
                "model": "meta-llama/Llama-3.1-8B", "precision": "bf16", "stack": "torchtitan", "hardware": {"gpu": "H100 SXM 80GB", "gpus": 32},
                "parallel": {"pp": 4, "sharding": "zero1", **parallel}, "batch": {"micro": 1, "accumulation": 8, "seq_len": 4096},
            }
        )
    )  # fmt: skip


@pytest.fixture(scope="module", params=["1f1b", "zero-bubble", "zbv"])
def planned(request: pytest.FixtureRequest) -> Estimate:
    return plan(schedule=request.param)


def test_every_piece_of_work_is_drawn(planned: Estimate) -> None:
    line = pipeline.timeline_of(planned)
    assert line is not None
    drawn = pipeline.bars(line)
    assert len(drawn) == len(line.spans)
    assert {bar.kind for bar in drawn} == {"1f1b": {"F", "B"}}.get(line.schedule, {"F", "I", "W"})
    for stage, busy in enumerate(line.busy):
        assert sum(bar.end - bar.start for bar in drawn if bar.stage == stage) == pytest.approx(busy)
    assert max(bar.end for bar in drawn) == pytest.approx(line.total)


def test_the_fullest_stage_is_the_plans_peak(planned: Estimate) -> None:
    views = pipeline.stages_of(planned)
    assert sorted(i for view in views for i in view.indices) == [0, 1, 2, 3]
    assert sum(sum(view.layers) * len(view.indices) for view in views) == 32
    assert max(view.peak for view in views) == pytest.approx(planned.peak_memory_bytes)


def test_the_report_has_timeline_curves_and_table(planned: Estimate) -> None:
    html = export(planned, "html").decode()
    section = html[html.index('<section id="pipeline">') :]
    section = section[: section.index("</section>")]
    assert section.count("<svg") == 2
    assert section.count("<polyline") == len(pipeline.stages_of(planned))
    assert all(cell in section for row in pipeline.table(planned) for cell in row)
    numbers = [float(n) for n in re.findall(r"M([\d.]+),", section)]
    assert numbers and max(numbers) < 560


def test_without_stages_there_is_no_pipeline() -> None:
    alone = plan(pp=1)
    assert pipeline.timeline_of(alone) is None
    assert "pipeline" not in {section.name for section in build(Subject(alone)).sections}
    assert pipeline.timeline_svg(None) == pipeline.stages_svg(alone) == ""


def test_a_long_pipeline_is_drawn_in_part() -> None:
    long = plan(pp=32, sharding="none")
    line = pipeline.timeline_of(long)
    assert line is not None
    assert (pipeline.rows(line)[0], pipeline.rows(line)[-1]) == (0, 31)
    assert len(pipeline.rows(line)) == pipeline.MOST_ROWS
    assert len(pipeline.bars(line)) <= pipeline.MOST_BARS
