"""The login: none where the secrets ask for none, and nothing of the app before it where they do."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import streamlit as st

from planner.ui import login

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What stands in the secrets, and who is logged in."""
    told: dict[str, Any] = {"auth": {"redirect_uri": "https://plan.example.org/oauth2callback"}, "plumbline": {"allowed": ["@example.org"]}, "user": {}}

    class Secrets(dict[str, Any]):
        def load_if_toml_exists(self) -> bool:
            return bool(self)

    monkeypatch.setattr(st, "secrets", Secrets(told))
    monkeypatch.setattr(st, "user", told["user"])
    return told


def test_before_the_login_there_is_nothing_but_the_button(open_app: Any, secrets: dict[str, Any]) -> None:
    app = open_app()
    assert not app.exception and "current" not in app.session_state
    assert [button.label for button in app.button] == ["Log in"]
    assert not app.sidebar.selectbox and not app.get("download_button")
    secrets["user"].update(is_logged_in=True, email="eve@elsewhere.org")
    app.run()
    assert "current" not in app.session_state and "eve@elsewhere.org may not use this app" in str(app.error[0].proto)
    secrets["user"].update(email="ann@example.org")
    app.run()
    assert not app.exception and "current" in app.session_state


@pytest.mark.parametrize(
    ("user", "allowed", "enters"),
    [
        ({"email": "Ann@Example.org"}, ["@example.org"], True),
        ({"email": "ann@example.org"}, ["ANN@example.org"], True),
        ({"email": "ann@example.org", "email_verified": False}, ["@example.org"], False),
        ({"email": "ann@evil-example.org"}, ["@example.org"], False),
        ({"email": "ann@example.org@evil.org"}, ["@example.org", "@example.org@evil.org"], False),
        ({"email": "ann@example.org"}, [], False),
        ({"email": None}, ["@example.org"], False),
        ({}, ["@"], False),
        ({"email": "ann@example.org"}, [None, 3, {"@example.org": 1}], False),
    ],
)
def test_who_may_enter(user: dict[str, Any], allowed: list[Any], enters: bool) -> None:
    assert login.may_enter(user, allowed) is enters


def test_the_app_binds_to_this_machine_and_limits_uploads() -> None:
    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))
    assert config["server"]["address"] == "localhost" and config["server"]["maxUploadSize"] == 2
    assert config["client"]["showErrorDetails"] == "type" and config["browser"]["gatherUsageStats"] is False
    assert config["server"].get("enableXsrfProtection", True) and config["server"].get("enableCORS", True)
