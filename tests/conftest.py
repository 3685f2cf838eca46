"""What all tests share: no network, the browser, the evidence beside the repository, reproducible random cases."""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.metadata import distributions
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

# Before any test module imports them: no test may reach a hub or send statistics.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false"}

os.environ["PLANNER_DATA"] = tempfile.mkdtemp(prefix="plumbline-tests-")  # what a test measures is nobody's evidence

settings.register_profile("plain", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("plain")


def pytest_report_header() -> str:
    known = {distribution.name.lower(): distribution.version for distribution in distributions()}
    return ", ".join(f"{name} {known.get(name, 'absent')}" for name in ("torch", "transformers", "peft", "streamlit", "pydantic"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of published measurements beside a development checkout; tests that need it skip elsewhere."""
    if not (SHARED / "evidence").is_dir():
        pytest.skip("no folder of published measurements beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the installed browser. CI must have one; elsewhere its tests skip."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        if os.environ.get("CI"):
            pytest.fail("CI has no chromium")
        pytest.skip("chromium is not installed")
    return path
