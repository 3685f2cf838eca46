"""The accuracy page filters what it shows; the plan page shows the published runs near a plan and refuses confidence where there are none."""

from __future__ import annotations

import pytest

from planner import estimate
from planner.evidence.accuracy import accuracy
from planner.evidence.family import OTHER, family_of
from planner.evidence.nearest import NEAR, support
from planner.evidence.rows import rows
from planner.run import parse_run
from planner.ui import accuracy_rows, nearby

from .conftest import Open

NEAR_PLAN = {"model": "meta-llama/Llama-3.2-3B", "method": "lora", "hardware": {"gpu": "L40S"}, "batch": {"micro": 4, "seq_len": 256}}
FAR_PLAN = {
    "model": "meta-llama/Llama-3.1-405B",
    "method": "full",
    "stack": "torchtune",
    "hardware": {"gpu": "MI250X (one GCD)", "gpus": 4096, "gpus_per_node": 8},
    "parallel": {"sharding": "zero3"},
    "batch": {"micro": 1, "seq_len": 8192},
    "activation_checkpointing": "full",
}


@pytest.mark.parametrize("quantity", ["tokens", "memory"])
def test_table_of_all_rows_is_the_record(quantity: str) -> None:
    members = accuracy_rows.chosen(quantity, {})
    record = accuracy()["held_out"][quantity]
    for grouping, key in (("source_group", "by_source"), ("method", "by_method")):
        lines = accuracy_rows.table(members, quantity, grouping)
        assert lines[0]["n"] == record["all"]["n"]
        assert lines[0]["held_out_median"] == pytest.approx(100 * record["all"]["median"], abs=0.02)
        assert lines[0]["coverage"] == pytest.approx(record["all"]["coverage"], abs=1e-3)
        for line in lines[1:]:
            name = next(name for name in record[key] if accuracy_rows.label(grouping, name) == line["class"])
            assert line["held_out_p90"] == pytest.approx(100 * record[key][name]["p90"], rel=2e-3, abs=0.02)


def test_filters_choose_rows() -> None:
    every = accuracy_rows.chosen("memory", {"source_group": []})
    some = accuracy_rows.chosen("memory", {"source_group": ["peft", "qwen"], "method": ["lora"]})
    assert 0 < len(some) < len(every)
    assert {row["source_group"] for row in some} == {"peft", "qwen"}
    assert {row["method"] for row in some} == {"lora"}
    assert accuracy_rows.chosen("memory", {"source_group": ["peft"], "family": ["BERT"]}) == []
    assert accuracy_rows.table([], "memory", "method") == []
    assert sum(row["family"] != OTHER for row in every) > 0.9 * len(every)


def test_hover_names_the_run_and_its_source() -> None:
    dot = accuracy_rows.dots(accuracy_rows.chosen("memory", {"source_group": ["peft"]}), "memory", "family")[0]
    assert "Llama-3.2-3B" in dot["name"]
    assert "huggingface/peft" in dot["name"]
    assert dot["group"] == "Llama"


@pytest.mark.parametrize(
    ("model", "family"), [("TinyLlama-1.1B", "Llama"), ("GPT 181B (BLOOM candidate)", "GPT"), ("Yi-34B", "Yi"), ("nobody's", OTHER), (None, OTHER)]
)
def test_families(model: str | None, family: str) -> None:
    assert family_of(model) == family


def test_page_is_limited_to_what_is_chosen(open_app: Open) -> None:
    app = open_app("accuracy")
    whole = app.metric[0].value, app.metric[1].value
    app.multiselect(key="accuracy_source_group").select("llm-foundry").run()
    assert not app.exception
    assert (app.metric[0].value, app.metric[1].value) != whole
    assert "These are 196 of them" in "".join(m.value for m in app.markdown)
    app.segmented_control(key="accuracy_quantity").set_value("memory").run()  # llm-foundry measured no memory: the choice lapses
    assert not app.exception
    assert len(app.metric) == 4
    app.multiselect(key="accuracy_source_group").select("peft").run()
    app.multiselect(key="accuracy_family").select("Qwen").run()
    assert not app.exception
    assert "No published run is left" in app.title[0].value
    assert len(app.info) == 1


def test_support_is_near_for_a_published_kind_and_refused_far_away() -> None:
    near, far = (support(estimate(parse_run(plan))) for plan in (NEAR_PLAN, FAR_PLAN))
    assert near.level == "near"
    assert near.runs[0].neighbour.distance <= NEAR
    assert any(run.memory_ratio is not None and run.tokens_ratio is not None for run in near.runs)
    assert "peft" in {run.neighbour.row.source_group for run in near.runs}
    assert far.level == "none"
    assert "nothing like it" in nearby.badge(far)
    assert "median error" in nearby.sentence(near)


def test_errors_beside_a_plan_are_those_of_the_record() -> None:
    known = {line["id"]: line for line in accuracy_rows.all_rows()}
    for run in support(estimate(parse_run(NEAR_PLAN))).runs:
        line, row = nearby.line(run), known[run.neighbour.row.id]
        if row["memory_ratio"]:
            assert line["memory_error"] == pytest.approx(100 * (row["held_out_memory_ratio"] - 1))
            assert line["memory"] == pytest.approx(row["measured_memory_gib"], rel=1e-3)
    assert len(known) == len(rows())


def test_plan_page_shows_what_was_measured_nearby(open_app: Open) -> None:
    app = open_app("plan")
    assert not app.exception
    assert "Measured nearby" in [s.value for s in app.subheader]
    shown = "".join(m.value for m in app.markdown)
    assert "badge" in shown
    assert "published" in shown
    table = next(d.value for d in app.dataframe if "distance" in d.value.columns)
    assert len(table) == nearby.COUNT
