"""What browser tests share: until a page stands still, and whether it shows a fault."""

from __future__ import annotations

from typing import Any


def settle(page: Any) -> None:
    """Until the script has run and the charts are drawn."""
    idle = "() => document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'"
    for _ in range(3):  # one run may follow another
        page.wait_for_function(idle, timeout=60_000)
        page.wait_for_timeout(250)


def assert_no_fault(page: Any) -> None:
    """No traceback, and no sentence that says the app is at fault."""
    text = page.inner_text("body")
    assert "Traceback" not in text
    assert "fault of Plumbline" not in text
    assert page.locator("[data-testid=stException]").count() == 0
