"""Counting a file on the page: its histogram enters the plan and its address."""

from __future__ import annotations

import json

import pytest
from streamlit.testing.v1 import AppTest

from tests.pages.conftest import Open

tokenizers = pytest.importorskip("tokenizers", reason="lengths of a file need the library tokenizers")


def test_a_file_becomes_the_histogram_of_the_plan(open_app: Open) -> None:
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0, "w": 1}, unk_token="?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    app = open_app(seq="1024", micro="4")
    lines = "\n".join(json.dumps({"text": "w " * n}) for n in (*range(50, 150), 700))
    app.file_uploader(key="count_file").set_value(("data.jsonl", lines.encode(), "application/json")).run()
    app.button(key="count").click().run()
    assert "Upload the model's tokenizer.json" in _said(app)
    app.file_uploader(key="count_tokenizer").set_value(("tokenizer.json", made.to_str().encode(), "application/json"))
    app.selectbox(key="count_packing").set_value("padded")
    app.button(key="count").click().run()
    assert not app.exception
    assert "101 samples" in _said(app)
    run = app.session_state["current"].run
    assert run.data.samples == 101 and run.data.packing == "padded"
    assert max(map(int, run.data.lengths)) == 700 and sum(run.data.lengths.values()) == 101
    assert "data.lengths.700" in app.text_input(key="more").value
    assert len(app.text_input(key="more").value) < 2000


def test_a_path_of_the_server_is_no_tokenizer(open_app: Open) -> None:
    app = open_app()
    app.file_uploader(key="count_file").set_value(("a.txt", b"w w", "text/plain"))
    app.text_input(key="count_name").set_value("/etc/passwd")
    app.button(key="count").click().run()
    assert "is not a model's name" in _said(app)


def _said(app: AppTest) -> str:
    return " ".join(app.session_state["count_said"][1])
