"""The HTML report in a real browser: offline, no script, and clean A4 pages when it is printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from planner import Run, estimate
from planner.report import EXPORTERS, Comparison, subject_of

pytestmark = pytest.mark.browser
A4_WIDTH = 180 / 25.4 * 96
"""Width between the margins [CSS pixel]."""


def _reports() -> dict[str, bytes]:
    mapping = {
        "model": "meta-llama/Llama-3.1-8B", "precision": "bf16", "stack": "torchtitan", "hardware": {"gpu": "H100 SXM 80GB", "gpus": 16},
        "parallel": {"pp": 2, "sharding": "zero1"}, "batch": {"micro": 1, "accumulation": 4, "seq_len": 4096}, "data": {"tokens": "1B"},
    }  # fmt: skip
    run = Run.model_validate(mapping)
    one = subject_of(run, estimate(run), name="sixteen H100")
    other = Run.model_validate({**mapping, "hardware": {"gpu": "L40S", "gpus": 16}})
    return {"one": EXPORTERS["html"].render(one), "many": EXPORTERS["html"].many(Comparison((one, subject_of(other, estimate(other), name="sixteen L40S"))))}


def test_reports_print_to_clean_a4_and_ask_for_nothing(browser: Any, tmp_path: Path) -> None:
    for name, content in _reports().items():
        file = tmp_path / f"{name}.html"
        file.write_bytes(content)
        context = browser.new_context(viewport={"width": round(A4_WIDTH), "height": 1000}, offline=True)
        page, asked, said = context.new_page(), [], []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.on("console", lambda message, said=said: said.append(message.text))
        page.goto(file.as_uri())
        page.emulate_media(media="print")
        wide = page.evaluate(
            "() => [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1)"
            ".map(e => e.tagName + ' ' + (e.textContent || '').slice(0, 60))"
        )
        assert not wide, wide[:3]
        assert asked == [file.as_uri()] and not said
        breaks = page.evaluate("() => [...document.querySelectorAll('section.rest')].map(e => getComputedStyle(e).breakBefore)")
        assert breaks == ["page"]
        printed = page.pdf(prefer_css_page_size=True)
        boxes = re.findall(rb"/MediaBox\s*\[\s*0\s+0\s+([\d.]+)\s+([\d.]+)\s*\]", printed)
        assert boxes and all(abs(float(w) - 595.28) < 1 and abs(float(h) - 841.89) < 1 for w, h in boxes)
        assert b"/Subtype /Image" not in printed and b"/Subtype/Image" not in printed, "a picture in place of vectors"
        context.close()
