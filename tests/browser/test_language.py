"""The language in a real browser: chosen, kept in the address, and taken from the browser."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.waiting import address, assert_no_fault, settle, title

pytestmark = pytest.mark.browser


def test_the_language_is_switched_with_the_plan_and_the_address(server: Any, open_page: Any) -> None:
    page = open_page(f"{server.url}/?method=full&gpus=4")
    settle(page)
    assert title(page).endswith("on each GPU")
    page.get_by_role("radio", name="简体中文").click()
    page.get_by_text("瓶颈所在").wait_for(timeout=30_000)
    settle(page)
    assert "每个 GPU 超出" in title(page)
    page.wait_for_function("() => decodeURIComponent(location.search).includes('全参数微调')", timeout=20_000)
    assert address(page) == {"method": "全参数微调", "gpus": "4", "lang": "简体中文"}
    page.reload()
    page.get_by_text("瓶颈所在").wait_for(timeout=30_000)
    settle(page)
    assert address(page)["method"] == "全参数微调"
    assert "每个 GPU 超出" in title(page)
    page.get_by_role("radio", name="English").click()
    page.get_by_text("What limits it").wait_for(timeout=30_000)
    settle(page)
    page.wait_for_function("() => location.search.includes('Full+fine-tuning') || location.search.includes('Full%20fine-tuning')", timeout=20_000)
    assert address(page)["gpus"] == "4"
    assert_no_fault(page)


def test_a_chinese_browser_is_answered_in_chinese(server: Any, browser: Any) -> None:
    context = browser.new_context(locale="zh-CN", viewport={"width": 1280, "height": 900})
    try:
        page = context.new_page()
        page.goto(f"{server.url}/method?method=QLoRA")
        page.get_by_role("heading", level=1, name="计算方法").wait_for(timeout=60_000)
        settle(page)
        assert address(page)["method"] == "QLoRA"
        assert_no_fault(page)
    finally:
        context.close()
