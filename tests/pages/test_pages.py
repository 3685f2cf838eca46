"""Every page with plans that fit, do not fit, are enormous, and with input that cannot be planned."""

from __future__ import annotations

import datetime as dt
import json
import time
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from planner import estimate, units
from planner.catalog import find_model
from planner.lock import lock_of
from planner.report.content import value_text
from planner.run import Method, parse_run
from planner.summary import key_figures, verdict
from planner.ui import fields, frame, language, link, state, texts, whole_run
from planner.workload.methods import METHODS

PAGES = tuple(frame.PAGES)
ACTIONS = {"save_name", "save_tags", "count_name", "count_field", "count_packing", "audit_pasted"}
"""Inputs of the sidebar that do something with the plan and are no part of it."""
SPECS: dict[str, dict[str, str]] = {
    "fits": {},
    "does not fit": {"method": "Full fine-tuning"},
    "too small by far": {"model": "meta-llama/Llama-3.1-405B", "method": "Full fine-tuning", "gpu": "T4"},
    "1024 GPUs": {
        "method": "Full fine-tuning",
        "gpus": "1024",
        "sharding": "Everything (ZeRO-3, FSDP)",
        "accumulation": "1",
        "checkpointing": "Full",
    },
    "no data": {"data": ""},
    "encoder": {"model": "google-bert/bert-base-uncased", "method": "Full fine-tuning", "seq": "512", "gpu": "T4"},
    "vision": {"model": "google/vit-base-patch16-224-in21k", "method": "Full fine-tuning"},
    "vision and language": {"model": "llava-hf/llava-1.5-7b-hf", "images": "2", "seq": "2048"},
    "offloaded": {"model": "openai-community/gpt2", "method": "full", "offload": "optimizer"},
    "pipelined": {
        "model": "meta-llama/Llama-3.1-405B",
        "method": "Full fine-tuning",
        "gpus": "1024",
        "tp": "8",
        "pp": "16",
        "accumulation": "32",
        "stack": "megatron",
        "precision": "bf16",
    },
    "no price": {"gpu": "Apple M2 Max"},
    "unknown GPU": {"gpu": "Potato 3000"},
    "unknown model": {"model": "nobody/nothing"},
    "hostile name": {"model": "<img src=x onerror=alert(1)>/**b**`"},
    "not divisible": {"tp": "3"},
    "not data": {"data": "a lot"},
}
GOOD = ("fits", "does not fit", "too small by far", "1024 GPUs", "no data", "encoder", "vision", "vision and language", "offloaded", "pipelined")
BAD = {
    "unknown GPU": "hardware.gpu",
    "unknown model": "model",
    "hostile name": "model",
    "not divisible": "parallel.tp",
    "not data": "data.tokens",
}


def texts_of(app: AppTest) -> str:
    """Everything a page says, its sidebar included."""
    parts: list[Any] = []
    for kind in ("title", "subheader", "markdown", "caption", "error", "warning", "metric", "table", "code", "latex"):
        parts += [getattr(element, "value", "") for element in getattr(app, kind)]
    return "\n".join(map(str, parts))


def assert_whole(app: AppTest) -> None:
    """No traceback, no fault of ours, a title."""
    assert not app.exception
    assert not [error for error in app.error if "fault" in str(error.value)]
    assert len(app.title) == 1
    assert "Traceback" not in texts_of(app)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("page", PAGES)
def test_every_page_stands_with_every_plan(open_app: Any, page: str, spec: str) -> None:
    app = open_app(page, **SPECS[spec])
    assert_whole(app)
    assert app.sidebar.selectbox(key="gpu").value == SPECS[spec].get("gpu", state.DEFAULTS["gpu"])


@pytest.mark.parametrize("spec", GOOD)
def test_the_plan_page_shows_what_the_engine_says(open_app: Any, spec: str) -> None:
    app = open_app(**SPECS[spec])
    values = {key: app.session_state[key] for key in state.defaults() if key in app.session_state}
    plan = estimate(parse_run(state.run_mapping(values)))
    assert verdict(plan).sentence in app.title[0].value.replace("\\", "")
    figures = key_figures(plan)
    assert len(app.metric) == 4
    for shown, figure in zip(app.metric, figures, strict=True):
        number = figure.value_text.removeprefix("about ").split(" ")[0]
        assert number in shown.value
        assert shown.delta == figure.chip
    said = texts_of(app).replace("\\", "")
    assert all(figure.interval_text in said for figure in figures)
    assert plan.limited_by in said
    assert len(app.get("plotly_chart")) == (5 if plan.run.parallel.pp > 1 else 3)


@pytest.mark.parametrize(("spec", "field"), BAD.items())
def test_bad_input_is_one_error_and_the_rest_of_the_page_stays(open_app: Any, spec: str, field: str) -> None:
    app = open_app(**SPECS[spec])
    assert len(app.error) == 1
    error = app.error[0]
    assert f"`{field}`" in error.proto.title
    assert [caption.value for caption in app.sidebar.caption if caption.value.startswith(f":red[:material/error: {texts.plain(field)}")]
    assert error.value
    assert len(app.metric) == 4
    assert len(app.get("plotly_chart")) == 3
    assert any("last plan that could be computed" in caption.value for caption in app.caption)


def test_the_last_plan_that_worked_stays_while_an_input_is_wrong(open_app: Any) -> None:
    app = open_app()
    app.sidebar.number_input(key="gpus").set_value(8).run()
    good = [metric.value for metric in app.metric]
    app.sidebar.text_input(key="data").set_value("many").run()
    assert len(app.error) == 1
    assert [metric.value for metric in app.metric] == good
    app.sidebar.text_input(key="data").set_value("20M").run()
    assert not app.error
    assert [metric.value for metric in app.metric] != good


def test_a_page_that_opens_first_goes_through_home(open_app: Any) -> None:
    """The address /method?open=… is what the guard of a page makes; the plan of the address comes along."""
    app = open_app(open="method", gpu="RTX 4090")
    assert_whole(app)
    assert app.title[0].value == "How it is computed"
    assert app.session_state["gpu"] == "RTX 4090"


def test_a_full_link_restores_the_plan_and_says_what_it_cannot(open_app: Any) -> None:
    run = parse_run(
        {
            "model": "Qwen/Qwen2.5-7B",
            "method": {"name": "lora", "rank": 64, "alpha": 7},
            "batch": {"micro": 3, "seq_len": 3000},
            "data": "1.5B",
            "energy": {"kg_co2e_per_kwh": 0.05},
            "hardware": {"gpu": state.DEFAULTS["gpu"]},
        }
    )
    old = lock_of(run, estimate(run))
    old = old.model_copy(update={"catalogue": old.catalogue | {"date": "2025-01-01"}})
    app = open_app(plan=link.encode(run), v="1", lock=link.pin(old))
    assert not app.warning
    assert ["2025-01-01" in info.value for info in app.info] == [True]
    said = app.session_state["current"].run.model_dump(exclude={"hardware"})
    assert said == run.model_dump(exclude={"hardware"})
    assert (app.session_state["seq"], app.session_state["more"], app.session_state["data"]) == (
        "3000",
        "energy.kg_co2e_per_kwh: 0.05",
        "1.5B",
    )
    assert app.session_state["alpha"] == 7.0
    assert "plan" not in app.query_params
    app = open_app(plan="not-a-plan")
    assert len(app.warning) == 1
    assert app.session_state["current"].run == parse_run(state.run_mapping({}))


def test_values_of_the_address_that_no_input_takes_are_said(open_app: Any) -> None:
    app = open_app(method="magic", gpus="-4", stack="torchtitan")
    assert "magic" in app.warning[0].value
    assert "gpus" in app.warning[0].value
    assert app.session_state["stack"] == "torchtitan"


def test_a_preset_is_applied_and_undone(open_app: Any) -> None:
    app = open_app(gpu="RTX 4090")
    app.sidebar.button_group(key="preset").set_value("70B QLoRA").run()
    assert (app.session_state["model"], app.session_state["method"], app.session_state["gpu"]) == (
        "meta-llama/Llama-3.1-70B",
        "qlora",
        "H100 SXM 80GB",
    )
    app.sidebar.button(key="undo").click().run()
    assert (app.session_state["model"], app.session_state["gpu"]) == (state.DEFAULTS["model"], "RTX 4090")
    assert "before" not in app.session_state
    app.sidebar.number_input(key="gpus").set_value(4).run()
    app.sidebar.button(key="reset").click().run()
    assert (app.session_state["gpus"], app.session_state["gpu"]) == (1, "H100 SXM 80GB")


def test_help_is_what_the_engine_says_and_can_be_applied(open_app: Any) -> None:
    app = open_app(method="Full fine-tuning")
    assert verdict(app.session_state["current"].estimate).state == "does-not-fit"
    app.button(key="apply_0").click().run()
    assert_whole(app)
    assert app.session_state["current"].estimate.fits
    app.sidebar.button(key="undo").click().run()
    assert app.session_state["method"] == "full"


def test_the_whole_run_is_on_the_page(open_app: Any) -> None:
    app = open_app(purchase="30000", eval_every="10", eval_tokens="100000", startup="60")
    assert_whole(app)
    plan = app.session_state["current"].estimate
    assert plan.total("run/startup") == 60 and plan.total("cost/ownership") > 0
    shown = "\n".join(str(cell) for table in app.table for cell in table.value.to_numpy().ravel()).replace("\\", "")
    assert units.format_seconds(plan.total("run/evaluation")) in shown
    assert units.format_usd(plan.total("cost/electricity")) in shown


def test_the_age_of_a_price_is_said(open_app: Any) -> None:
    plan = open_app().session_state["current"].estimate
    date = dt.date.fromisoformat(plan.details["price"]["date"])
    assert "of today" in whole_run.price_age(plan, date)
    assert "30 days old" in whole_run.price_age(plan, date + dt.timedelta(30))
    assert ":orange[" in whole_run.price_age(plan, date + dt.timedelta(400))


def test_the_arithmetic_is_the_ledger(open_app: Any) -> None:
    app = open_app()
    assert len(app.table) == 4  # figures of the plan, and time, cost and figures of the whole run
    app.session_state["arithmetic_memory"] = True
    app.run()
    assert_whole(app)
    plan = app.session_state["current"].estimate
    wanted = [term for term in plan.terms if term.name.startswith(("memory/", "reserved/", "figures/usable_memory"))]
    shown = "\n".join(str(cell) for table in app.table for cell in table.value.to_numpy().ravel()).replace("\\", "")
    for term in wanted:
        assert f"**{value_text(term.value, term.unit)}** = `{term.formula}`" in shown
        assert term.source in shown


def paste(app: AppTest, text: str) -> AppTest:
    app.sidebar.button_group(key="source").set_value(state.CONFIG).run()
    app.sidebar.text_area(key="config_text").set_value(text).run()
    return app


def test_a_pasted_config_is_planned(open_app: Any) -> None:
    config = find_model("openai-community/gpt2").config | {"_name_or_path": "<b>mine</b>", "n_layer": 24}
    app = paste(open_app(), json.dumps(config))
    assert_whole(app)
    assert not app.error
    plan = app.session_state["current"].estimate
    assert plan.details["model"]["layers"] == 24
    assert "\\<b\\>mine\\</b\\>" in texts_of(app)
    assert "<b>mine" not in texts_of(app)
    assert "config" in app.query_params
    app.switch_page("pages/reports.py").run()
    assert_whole(app)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[1, 2]",
        "{" * 5000,
        '{"model_type": "llama"}',
        '{"model_type": "<script>alert(1)</script>"}',
        '{"model_type": "llama", "hidden_size": -1, "num_hidden_layers": "many", "num_attention_heads": 0, "vocab_size": null, "intermediate_size": 1e999}',
        '{"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 1e18, "num_attention_heads": 32, "vocab_size": 128256, "intermediate_size": 14336}',
    ],
    ids=range(8),
)
def test_a_hostile_config_is_one_error(open_app: Any, text: str) -> None:
    app = paste(open_app(), text)
    assert_whole(app)
    said = [*app.error, *app.info]
    assert len(said) == 1
    assert "`model" in said[0].proto.title
    assert len(app.metric) == 4


def test_the_hub_is_asked_only_on_a_click_and_says_when_it_is_away(
    open_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def away(name: str) -> dict[str, Any]:
        asked.append(name)
        from planner.errors import PlanError

        raise PlanError(
            "model",
            name,
            "cannot be fetched: the Hugging Face hub is not reachable and no copy is cached",
            "Check the network.",
        )

    monkeypatch.setattr("planner.ui.inputs.fetch_config", away)
    app = open_app(model="somebody/model-9b")
    assert not asked
    app.sidebar.button(key="fetch").click().run()
    assert asked == ["somebody/model-9b"]
    assert_whole(app)
    assert "not reachable" in app.error[0].proto.title
    monkeypatch.setattr("planner.ui.inputs.fetch_config", lambda name: find_model("gpt2").config)
    app.sidebar.button(key="fetch").click().run()
    assert not app.error
    assert app.session_state["current"].estimate.details["model"]["name"] == "somebody/model-9b"
    app.sidebar.number_input(key="gpus").set_value(2).run()
    assert app.session_state["current"].estimate.details["model"]["name"] == "somebody/model-9b"


@pytest.mark.parametrize("spec", ["fits", "does not fit", "1024 GPUs", "no data", "encoder", "vision", "pipelined", "unknown GPU"])
def test_the_method_page_has_the_numbers_of_the_plan(open_app: Any, spec: str) -> None:
    app = open_app("method", **SPECS[spec])
    said = texts_of(app)
    plan = app.session_state["current"].estimate
    check = plan.details["crosscheck"]
    mantissa, exponent = f"{check['six_nd_flops']:.2e}".split("e")
    assert rf"{mantissa} \times 10^{{{int(exponent)}}}" in said
    assert units.significant(check["sixteen_bytes_per_parameter"] / units.GIB).replace(",", "{,}") in said
    assert "<<" not in said
    assert ("nothing is exchanged" in said) == (plan.run.hardware.gpus == 1)
    assert len(app.subheader) == 9


def test_the_dark_theme_has_its_own_colours(open_app: Any) -> None:
    app = open_app()
    light = json.loads(app.get("plotly_chart")[0].proto.spec)
    app.context = {"theme": "dark"}
    app.run()
    dark = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert light["data"][0]["marker"]["color"] != dark["data"][0]["marker"]["color"]
    assert light["layout"]["font"]["color"] != dark["layout"]["font"]["color"]


def test_a_change_is_answered_quickly(open_app: Any) -> None:
    app = open_app()
    times = []
    for count in (2, 4, 8):
        app.sidebar.number_input(key="gpus").set_value(count)
        start = time.perf_counter()
        app.run()
        times.append(time.perf_counter() - start)
    assert min(times) < 1.0


def test_a_fault_of_ours_is_no_traceback(open_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("secret path")

    monkeypatch.setattr("planner.ui.charts.memory_bar", broken)
    app = open_app()
    assert not app.exception
    assert "fault of Plumbline" in app.error[0].proto.title
    assert "secret" not in texts_of(app)
    assert app.sidebar.selectbox(key="gpu").value == state.DEFAULTS["gpu"]


def test_a_fault_of_the_engine_is_no_traceback(open_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    app = open_app()

    def broken(*_: Any) -> None:
        raise ZeroDivisionError("secret path")

    monkeypatch.setattr("planner.ui.estimates.estimate", broken)
    app.sidebar.number_input(key="gpus").set_value(2).run()
    assert not app.exception
    assert "fault of Plumbline" in app.error[0].proto.title
    assert "secret" not in texts_of(app)
    assert len(app.metric) == 4


VIT, LLAVA = "google/vit-base-patch16-224-in21k", "llava-hf/llava-1.5-7b-hf"
MIXTRAL, FLUX = "mistralai/Mixtral-8x7B-v0.1", "black-forest-labs/FLUX.1-dev"


def keys_of(app: AppTest) -> set[str]:
    """Keys of the inputs that are drawn."""
    kinds = ("selectbox", "number_input", "text_input", "button_group", "toggle")
    return {widget.key for kind in kinds for widget in getattr(app.sidebar, kind)}


def test_every_input_has_a_place_in_the_address(open_app: Any) -> None:
    drawn: set[str] = set()
    least: dict[str, str] = {}  # a method for each field, so that each field is drawn once
    for name, kind in METHODS.items():
        least |= {field: name for field in (*kind.fields, f"own {kind.fields[:1]}") if field not in least}
    for method in sorted(set(least.values())):
        drawn |= keys_of(open_app(method=method))
    drawn |= keys_of(open_app(model=LLAVA, gpus="8", checkpointing="full", offload="optimizer", optimizer="galore"))
    drawn |= keys_of(open_app(model=MIXTRAL, gpus="8", tp="2", pp="2", cp="2", ep="2"))
    drawn |= keys_of(open_app(purchase="30000")) | keys_of(open_app(spot="true"))
    app = open_app()
    drawn |= keys_of(paste(app, json.dumps({"model_type": "t5"}))) | keys_of(paste(app, json.dumps({"model_type": "clip"})))
    whole = {key for key, entry in fields.ENTRIES.items() if entry.path[0] != "batch"}
    assert drawn - {"preset"} >= (set(state.defaults()) - set(fields.ENTRIES)) | whole | {"images", "image_size"}
    assert drawn - {"preset", language.KEY} - ACTIONS <= set(state.defaults())


@pytest.mark.parametrize("method", METHODS)
def test_a_method_shows_the_fields_that_it_reads(open_app: Any, method: str) -> None:
    app = open_app(method=method)
    assert_whole(app)
    drawn = keys_of(app)
    assert drawn & set(fields.METHOD) == set(METHODS[method].fields) - {"targets"}
    for number in app.sidebar.number_input:
        if number.key in fields.METHOD:
            assert number.proto.help == Method.model_fields[number.key].description
    if method == "bitfit":  # llama has no biases
        assert "`method.name`" in app.error[0].proto.title
    elif method == "trainable_tokens":  # it asks which, and then plans
        assert any("token ids" in info.value for info in app.info)
        app.sidebar.text_input(key="token_indices").set_value("0, 17").run()
        assert app.session_state["current"].run.method.token_indices == (0, 17)
    else:
        assert not app.error
        assert app.session_state["current"].run.method.name == method


@pytest.mark.parametrize(
    ("model", "shown", "hidden"),
    [
        (VIT, {"image_size", "head"}, {"seq", "images", "audio_seconds", "target_len"}),
        (LLAVA, {"seq", "images", "image_size", "head"}, {"target_len", "audio_seconds"}),
        (FLUX, {"seq", "image_size"}, {"images", "head"}),
        (MIXTRAL, {"seq", "ep", "cp"}, {"images", "image_size"}),
        ("openai-community/gpt2", {"seq", "cp"}, {"ep", "images", "image_size", "audio_seconds", "target_len"}),
    ],
)
def test_a_model_shows_the_inputs_that_it_reads(open_app: Any, model: str, shown: set[str], hidden: set[str]) -> None:
    app = open_app(model=model, gpus="2", seq="1024", method="full")
    assert_whole(app)
    assert not app.error
    drawn = keys_of(app)
    assert shown <= drawn
    assert not hidden & drawn
    assert (app.session_state["current"].run.batch.seq_len is None) == ("seq" in hidden)


def test_the_new_inputs_reach_the_run(open_app: Any) -> None:
    app = open_app(
        model="meta-llama/Llama-3.1-405B",
        method="full",
        gpus="1024",
        tp="8",
        pp="16",
        cp="2",
        virtual_pp="2",
        sequence_parallel="true",
        accumulation="32",
        checkpointing="full",
        keep="attention",
        network_kind="roce",
        stack="megatron",
        precision="bf16",
    )
    assert_whole(app)
    assert not app.error
    run = app.session_state["current"].run
    p = run.parallel
    assert (p.tp, p.pp, p.cp, p.virtual_pp, p.sequence_parallel, run.dp) == (8, 16, 2, 2, True, 4)
    assert (run.checkpoints.keep, run.hardware.network) == (("attention",), "roce")
    said = texts_of(app)
    assert "4 data-parallel copies" in said
    assert "pipeline stage" in said
    app.sidebar.number_input(key="cp").set_value(3).run()
    assert len(app.error) == 1
    assert "`parallel." in app.error[0].proto.title
    assert "does not divide" in texts_of(app)


def test_numbers_of_a_method_are_checked_once(open_app: Any) -> None:
    app = open_app(method="lokr", targets="q_proj, v_proj")
    app.sidebar.text_input(key="layers").set_value("0, x").run()
    assert len(app.error) == 1
    assert "`method.layers" in app.error[0].proto.title
    app.sidebar.text_input(key="layers").set_value("0, 1").run()
    assert not app.error
    assert app.session_state["current"].run.method.layers == (0, 1)
    app = open_app(dropout="7", offload="everything", placement="nowhere")
    assert all(key in app.warning[0].value for key in ("dropout", "offload", "placement"))


def test_what_is_offloaded_is_shown(open_app: Any) -> None:
    app = open_app(method="full", offload="optimizer", model="openai-community/gpt2")
    assert_whole(app)
    assert "Host memory" in "\n".join(str(label) for table in app.table for label in table.value.index)


def test_a_model_without_a_reader_says_so(open_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    app = open_app(method="full")
    monkeypatch.setattr("planner.workload.families.fields.FAMILIES", {})
    app = paste(app, json.dumps(find_model("openai-community/gpt2").config | {"n_layer": 3}))
    assert_whole(app)
    assert "Imported by structure" in texts_of(app)
