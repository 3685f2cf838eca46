"""Every page in light and dark, wide and on a phone: judged by axe, nothing wider than the screen, a picture of each kept for who looks at them."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from planner.ui.frame import PAGES
from tests.browser.waiting import assert_no_fault, settle

pytestmark = pytest.mark.browser
SHOTS = Path(os.environ.get("PLUMBLINE_SHOTS") or Path(__file__).resolve().parents[2] / ".ci" / "screenshots")
NOT_OURS = ("katex",)
"""Parts of markup in which Streamlit draws a formula in a scroll box of its own, which takes no keyboard focus."""


def serious(page: Any) -> list[str]:
    """Violations of WCAG 2 that axe calls serious or critical."""
    axe = pytest.importorskip("axe_playwright_python", reason="axe is not installed")
    page.evaluate((resources.files(axe) / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']})")
    return [
        f"{one['id']}: {node['html'][:200]} {[check['message'] for check in (*node['any'], *node['all'], *node['none'])][:1]}"
        for one in found["violations"] if one["impact"] in ("serious", "critical")
        for node in one["nodes"] if not any(part in node["html"] for part in NOT_OURS)
    ]  # fmt: skip


def assert_within(page: Any) -> None:
    """Nothing is wider than the screen."""
    over = page.evaluate("(() => { const m = document.querySelector('[data-testid=stMain]'); return m.scrollWidth - m.clientWidth })()")
    assert over <= 0


@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_read_by_everybody(server: Any, open_page: Any, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page = open_page(f"{server.url}/{'' if name == 'plan' else name}", height=1400)
    settle(page)
    page.screenshot(path=str(SHOTS / f"{name}-light-1440.png"))
    assert serious(page) == []
    assert_within(page)
    unnamed = page.evaluate(
        "[...document.querySelectorAll('[data-testid=stPlotlyChart]')].filter(c => !c.querySelector('[aria-label],[alt]') && !c.getAttribute('aria-label'))"
        ".length"
    )
    assert unnamed == 0
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 1400})
    page.reload()
    page.get_by_role("heading", level=1).wait_for(timeout=60_000)
    settle(page)
    page.screenshot(path=str(SHOTS / f"{name}-dark-390.png"))
    assert serious(page) == []
    assert_within(page)
    assert_no_fault(page)
