"""Handing over from the page: every format, the lock, the files that start the plan, and a file that becomes the plan again."""

from __future__ import annotations

import io
import json
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from planner import Run, estimate
from planner.errors import PlanError
from planner.launch import FORMATS, launch
from planner.lock import lock_of, lock_text, parse_lock
from planner.lock.document import _content_hash
from planner.logs import audit, read_uploads
from planner.logs.keep import keep_both
from planner.report import EXPORTERS
from planner.ui import estimates, handing, link

RUN = Run.model_validate({"model": "Qwen/Qwen2.5-7B", "method": "lora", "hardware": "L40S", "batch": {"micro": 2, "seq_len": 1000}, "data": {"tokens": "3M"}})


def test_the_page_offers_every_format_the_lock_and_every_launch_format(open_app: Any) -> None:
    app = open_app("reports")
    for name in EXPORTERS:
        app.button_group(key="report_format").set_value(name).run()
        assert not app.exception
        made = name not in ("xlsx", "pdf") or find_spec({"xlsx": "xlsxwriter", "pdf": "typst"}[name])
        assert len(app.get("download_button")) == (3 if made else 2)
        assert bool(app.error) != bool(made)
        assert not made or len(app.get("iframe" if name in ("html", "pdf", "xlsx") else "code")) >= 1
    said = []
    for name in FORMATS:
        app.selectbox(key="launch_format").set_value(name).run()
        assert not app.exception
        words = " ".join(part.value for part in (*app.markdown, *app.caption, *app.info))
        assert any(text in words for text in ("does not express", "Everything that the plan says", "Use hf, axolotl or llamafactory", "It trains"))
        said.append("does not express" in words)
    assert any(said)
    old = lock_of(RUN, estimate(RUN))
    old = old.model_copy(update={"catalogue": old.catalogue | {"date": "2025-01-01"}})
    old = old.model_copy(update={"sha256": _content_hash(old)})
    app.file_uploader(key="handed_file").set_value(("plan.lock", lock_text(old).encode(), "application/json")).run()
    assert not app.exception
    assert app.session_state["current"].run.model_dump() == RUN.model_dump()
    assert any("2025-01-01" in info.value and "plan.lock is the plan now" in info.value for info in app.info)


def test_a_comparison_is_made_when_it_is_asked_for() -> None:
    other = RUN.model_copy(update={"hardware": Run.model_validate({"model": "gpt2", "hardware": "T4"}).hardware})
    text = handing.comparison([("This plan", RUN), ("on a T4", other)], None, "cost", "md").decode()
    assert "on a T4" in text and "Side by side" in text
    html = handing.comparison([("This plan", RUN), ("<b>other</b>", other)], None, "time", "html").decode()
    assert "<b>other" not in html and html.count("<svg") == 2


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"{", b"[" * 3000, b"a: &x [1]\nb: *x", b"x" * (2**21 + 1), b'{"schema_version": 2}', b'{"lock_version": 1}', b"colour: blue"]
)
def test_a_file_that_is_no_plan_is_one_sentence(content: bytes) -> None:
    with pytest.raises(PlanError) as caught:
        handing.read(content)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_files_that_are_plans_are_read() -> None:
    one = estimate(RUN)
    document = EXPORTERS["json"].render(handing.Subject(one, (), RUN))
    assert handing.read(document) == (RUN, ())
    assert handing.read(lock_text(lock_of(RUN, one)).encode()) == (RUN, ())
    assert handing.read(b"model: gpt2\n") == (Run(model="gpt2"), ())
    assert parse_lock(json.loads(lock_text(lock_of(RUN, one)))).run == RUN


def test_a_plan_that_stands_on_a_measurement_has_not_changed_where_it_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANNER_DATA", str(tmp_path))
    monkeypatch.setenv("PLANNER_DATABASE_URL", f"sqlite:///{tmp_path / 'saved.sqlite'}")
    one = estimate(RUN)
    seconds = 1.2 * (one.step_time_s or 0.0)
    entries = [{"step": n, "step_seconds": seconds, "peak_allocated_bytes": one.peak_memory_bytes} for n in range(1, 11)]
    log = json.dumps({"global_step": 10, "log_history": entries}).encode()
    keep_both(audit(RUN, read_uploads([("trainer_state.json", log)])), None)
    now = estimates.planned(RUN)
    assert now.basis == "measured" and now.step_time_s == pytest.approx(seconds)
    lock = lock_of(RUN, now)
    assert handing.read(lock_text(lock).encode()) == (RUN, ())
    assert link.reopen(RUN, link.pin(lock)) == (RUN, (), ())


def test_several_launch_files_are_one_archive() -> None:
    one = estimate(RUN)
    content, name = handing.bundle(launch(one, "torchrun"))
    assert name == "plan-torchrun.zip" and content == handing.bundle(launch(one, "torchrun"))[0]
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["run.sh", "train.py"]
    assert handing.bundle(launch(one, "hf"))[1] == "train.py"
