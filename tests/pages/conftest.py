"""The app without a browser: every test starts from Home.py, as the server does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).resolve().parents[2]
Open = Callable[..., AppTest]


@pytest.fixture
def open_app(monkeypatch: pytest.MonkeyPatch) -> Open:
    """Start the app, with what the address says, and go to a page, as in a server in which Home.py has run once.

    AppTest forgets after each run that Home.py is a router, because there is a folder named pages; a server remembers.
    """
    begin = PagesManager.__init__

    def remember(self: PagesManager, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        PagesManager.uses_pages_directory = False

    monkeypatch.setattr(PagesManager, "__init__", remember)

    def start(page: str = "plan", **address: str) -> AppTest:
        app = AppTest.from_file(str(ROOT / "Home.py"), default_timeout=20)
        for key, value in address.items():
            app.query_params[key] = value
        app.run()
        if page != "plan":
            app.switch_page(f"pages/{page}.py").run()
        return app

    return start
