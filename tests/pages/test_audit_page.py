"""The Audit page: uploads and pasted messages, the answer, Apply, and Keep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import streamlit as st

from planner.advise import apply
from planner.estimate.engine import estimate
from planner.evidence import own
from planner.store import open_store
from tests.logs import samples
from tests.pages.conftest import Open
from tests.pages.test_pages import assert_whole


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANNER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PLANNER_DATABASE_URL", f"sqlite:///{tmp_path / 'saved.sqlite'}")
    st.cache_resource.clear()


def state(seconds: float, allocated: float) -> bytes:
    entries = [{"loss": 2.0, "step": n, "step_seconds": seconds, "peak_allocated_bytes": allocated} for n in range(1, 11)]
    return json.dumps({"global_step": 10, "log_history": entries}).encode()


def test_an_empty_page_says_what_can_be_read(open_app: Open) -> None:
    app = open_app("audit")
    assert_whole(app)
    assert len(app.dataframe[0].value) == 12
    assert "planner audit" in app.code[0].value


def test_a_log_is_answered_applied_and_kept(open_app: Open) -> None:
    app = open_app("audit")
    current = app.session_state["current"]
    ran = estimate(apply(current.run, {"activation_checkpointing": "full"}))
    app.file_uploader(key="audit_logs").set_value(("x.bin", state(ran.step_time_s * 1.01, ran.peak_memory_bytes), "application/octet-stream")).run()
    assert_whole(app)
    assert "slower" in app.header[0].value or "right" in app.header[0].value
    lines = [one.value for one in app.markdown]
    assert any("Activations of every layer recomputed" in one and "explains it" in one for one in lines)
    button = next(one for one in app.button if one.key and one.key.startswith("audit_apply"))
    button.click().run()
    assert_whole(app)
    now = app.session_state["current"]
    assert now.estimate.run.activation_checkpointing == "full"
    assert "was right" in app.header[0].value
    app.button(key="audit_keep").click().run()
    assert_whole(app)
    assert any("stand on it" in one.value for one in app.success)
    assert own.find(app.session_state["current"].run) is not None
    with open_store() as store:
        assert [one.kind for one in store.find(kind="log")] == ["log"]
    app.switch_page("pages/saved.py").run()
    assert_whole(app)
    assert "agrees" in list(app.dataframe[0].value["verdict"])


def test_a_pasted_message(open_app: Open) -> None:
    app = open_app("audit")
    app.text_area(key="audit_pasted").set_value(samples.OOM["2.6"]).run()
    assert_whole(app)
    assert "out of memory" in app.header[0].value
    assert any("Other processes" in one.value for one in app.markdown)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"<script>alert(1)</script>", "nothing that a reader knows"),
        (b'{"global_step": 10, "log_history": [{', "damaged or cut off"),
        (b"\x80\x04cos\nsystem\n(S'true'\ntR.", "nothing that a reader knows"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(open_app: Open, content: bytes, problem: str) -> None:
    app = open_app("audit")
    app.file_uploader(key="audit_logs").set_value(("<b>a</b>.json", content, "application/json")).run()
    assert not app.exception
    assert problem in app.error[0].title if hasattr(app.error[0], "title") else problem in str(app.error[0])
