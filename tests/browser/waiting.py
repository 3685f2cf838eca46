"""What browser tests share: until a page stands still, what it is called, its address, and whether it shows a fault."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit


def settle(page: Any) -> None:
    """Until the script has run and the charts are drawn."""
    idle = "() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'"
    for _ in range(3):  # one run may follow another
        page.wait_for_function(idle, timeout=60_000)
        page.wait_for_timeout(250)


def title(page: Any) -> str:
    """The page's heading."""
    return str(page.get_by_role("heading", level=1).first.inner_text())


def address(page: Any) -> dict[str, str]:
    """What the address says."""
    return {key: values[-1] for key, values in parse_qs(urlsplit(page.url).query).items()}


def assert_no_fault(page: Any) -> None:
    """No traceback, and no sentence that says the app is at fault."""
    text = page.inner_text("body")
    assert "Traceback" not in text
    assert "fault of Plumbline" not in text
    assert page.locator("[data-testid=stException]").count() == 0
