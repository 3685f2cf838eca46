"""What only a real browser shows: the address, deep links into a fresh server, narrow and dark screens, uploads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from planner.catalog import find_model
from planner.run import parse_run
from planner.ui import link, state
from tests.browser.waiting import address, assert_no_fault, settle, title

pytestmark = pytest.mark.browser
MODEL = state.DEFAULTS["model"].rpartition("/")[2]


def figures_of(page: Any) -> list[str]:
    """The plan's four figures, once all of them stand on the page."""
    metrics = page.locator("[data-testid=stMetricValue]")
    metrics.nth(3).wait_for(timeout=30_000)
    return [str(text) for text in metrics.all_inner_texts()]


def test_the_app_opens_with_a_plan_and_the_address_keeps_changes(server: Any, open_page: Any) -> None:
    page = open_page(server.url)
    settle(page)
    asked = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [url for url in asked if not url.startswith((server.url, "data:", "blob:"))] == []
    assert title(page).split()[-1] == "spare"
    assert page.locator("[data-testid=stMetric]").count() == 4
    page.wait_for_function("() => document.querySelectorAll('.js-plotly-plot').length === 3", timeout=30_000)
    assert MODEL in page.inner_text("[data-testid=stMain]")
    assert page.get_by_role("button", name="Calculate").count() == 0

    page.get_by_role("combobox", name="Method").click()
    page.get_by_role("option", name="QLoRA").click()
    count = page.get_by_label("How many")
    count.fill("4")
    count.press("Enter")
    page.wait_for_function(
        "() => location.search.includes('gpus=4') && location.search.includes('QLoRA')", timeout=20_000
    )
    settle(page)
    assert address(page) == {"method": "QLoRA", "gpus": "4"}
    assert "4 × H100 SXM 80GB" in page.inner_text("[data-testid=stMain]")
    before = figures_of(page)

    page.get_by_role("link", name="Method").first.click()
    page.get_by_text("Closed-form cross-check").wait_for(timeout=20_000)
    assert address(page) == {"method": "QLoRA", "gpus": "4"}
    page.reload()
    page.get_by_text("Closed-form cross-check").wait_for(timeout=30_000)
    assert "4 × H100 SXM 80GB" in page.inner_text("[data-testid=stMain]")
    page.get_by_role("link", name="Plan").first.click()
    page.locator("[data-testid=stMetricValue]").first.wait_for(timeout=20_000)
    settle(page)
    assert figures_of(page) == before
    assert_no_fault(page)


@pytest.mark.parametrize("name", ["method", "accuracy", "reports"])
def test_a_deep_link_into_a_fresh_server(fresh_server: Any, open_page: Any, name: str) -> None:
    page = open_page(f"{fresh_server.url}/{name}?gpu=RTX+4090&model=meta-llama%2FLlama-3.2-1B&method=full")
    page.wait_for_url(f"**/{name}?**", timeout=30_000)
    settle(page)
    assert address(page) == {"gpu": "RTX 4090", "model": "meta-llama/Llama-3.2-1B", "method": "Full fine-tuning"}
    page.get_by_label("How many").wait_for(timeout=30_000)
    if name != "accuracy":
        assert "RTX 4090" in page.inner_text("[data-testid=stMain]")
    assert_no_fault(page)


def test_a_full_link_opens_its_plan_and_moves_to_the_address(server: Any, open_page: Any) -> None:
    run = parse_run(
        {
            "model": "Qwen/Qwen2.5-7B",
            "method": {"name": "lora", "rank": 64, "alpha": 7},
            "hardware": {"gpu": "A100 SXM4 80GB", "gpus": 2},
            "data": "1.5B",
        }
    )
    page = open_page(f"{server.url}/?plan={link.encode(run)}&v=1")
    page.get_by_text("2 × A100 SXM4 80GB").first.wait_for(timeout=30_000)
    settle(page)
    said = address(page)
    assert "plan" not in said
    assert (said["model"], said["rank"], said["gpu"], said["gpus"], said["data"]) == (
        "Qwen/Qwen2.5-7B",
        "64",
        "A100 SXM4 80GB",
        "2",
        "1.5B",
    )
    figures = figures_of(page)
    page.reload()
    page.get_by_text("2 × A100 SXM4 80GB").first.wait_for(timeout=30_000)
    settle(page)
    assert figures_of(page) == figures
    assert len(figures) == 4
    assert_no_fault(page)


def test_an_upload_that_is_no_config_is_one_error(server: Any, open_page: Any, tmp_path: Path) -> None:
    page = open_page(server.url)
    settle(page)
    figures = figures_of(page)
    page.get_by_text("config.json", exact=True).first.click()
    bad = tmp_path / "config.json"
    bad.write_text('{"model_type": "llama", "hidden_size": "<script>alert(1)</script>"}')
    page.locator("input[type=file]").set_input_files(str(bad))
    page.get_by_text("hidden_size").first.wait_for(timeout=20_000)
    settle(page)
    assert page.locator("[data-testid=stMain] [data-testid=stAlert]").count() == 1
    assert figures_of(page) == figures
    assert page.evaluate("document.querySelectorAll('[data-testid=stMain] script').length") == 0
    assert_no_fault(page)

    good = tmp_path / "good" / "config.json"
    good.parent.mkdir()
    good.write_text(json.dumps(find_model("gpt2").config | {"_name_or_path": "<b>mine</b>"}))
    page.locator("input[type=file]").set_input_files(str(good))
    page.get_by_text("<b>mine</b>").first.wait_for(timeout=20_000)
    page.wait_for_function("() => location.search.includes('config=')", timeout=20_000)
    assert_no_fault(page)
    page.reload()
    page.get_by_text("<b>mine</b>").first.wait_for(timeout=30_000)
    assert_no_fault(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_on_a_phone(server: Any, open_page: Any, scheme: str, tmp_path: Path) -> None:
    page = open_page(server.url, 390, 844, scheme)
    settle(page)
    overflow = page.evaluate(
        "document.querySelector('[data-testid=stMain]').scrollWidth - document.querySelector('[data-testid=stMain]').clientWidth"
    )
    assert overflow <= 0
    cut = page.evaluate(
        "[...document.querySelectorAll('[data-testid=stMetricValue] *')].filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.innerText)"
    )
    assert cut == []
    assert page.screenshot(path=str(tmp_path / "phone.png"), full_page=True)
    ground = page.evaluate("getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor")
    assert ground == ("rgb(17, 23, 22)" if scheme == "dark" else "rgb(255, 255, 255)")
    tick = page.locator(".js-plotly-plot .xtick text, .js-plotly-plot .ytick text").first
    tick.wait_for(state="attached", timeout=60_000)  # charts are drawn after the texts
    ink = tick.evaluate("e => getComputedStyle(e).fill")
    assert ink.replace(" ", "") in (
        ("rgb(230,237,235)", "rgb(154,168,164)") if scheme == "dark" else ("rgb(16,22,21)", "rgb(95,107,104)")
    )
    assert_no_fault(page)


def test_the_app_does_not_load_torch(server: Any) -> None:
    """Its process would take seconds to start and hold memory of the GPU that is to be measured."""
    maps = Path(f"/proc/{server.process.pid}/maps")
    if not maps.is_file():
        pytest.skip("no /proc here")
    assert "libtorch" not in maps.read_text()
