"""A measurement that was started in the browser: followed by everybody, through reload, navigation and a restart; stopped; killed and gone on from."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from planner.calibrate import jobs
from planner.calibrate.jobs import ENDED
from planner.calibrate.partial import Partial
from tests.browser.conftest import Server
from tests.browser.waiting import assert_no_fault, settle

pytestmark = pytest.mark.browser


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for job in jobs.jobs(tmp_path):
        job.kill()


def started(folder: Path, chromium: str) -> Server:
    server = Server(folder / "log", PLANNER_DATA=str(folder))
    server.wait()
    return server


def wait_for(ready: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.2)


def begin(page: Any, time_label: str) -> None:
    page.get_by_role("button", name="Measure", exact=False).last.wait_for(timeout=60_000)
    page.get_by_text(time_label, exact=False).first.click()
    settle(page)
    page.locator(".st-key-calibrate_start button").click()
    page.locator("[data-testid=stProgress]").first.wait_for(timeout=60_000)


def test_a_job_outlives_reload_navigation_and_the_server_and_is_one_for_all(chromium: str, open_page: Any, folder: Path) -> None:
    server = started(folder, chromium)
    try:
        page = open_page(f"{server.url}/calibrate")
        begin(page, "Standard")
        (job,) = jobs.jobs(folder)
        wait_for(lambda: job.status().cases >= 3)
        page.get_by_text("Memory in use").wait_for(timeout=30_000)
        page.locator("[data-testid=stDataFrame]").first.wait_for(timeout=30_000)
        page.reload()
        page.locator("[data-testid=stProgress]").first.wait_for(timeout=60_000)
        page.get_by_role("link", name="Method").first.click()
        page.locator("[data-testid=stProgress]").first.wait_for(state="detached", timeout=60_000)
        page.get_by_role("link", name="Calibrate").first.click()
        page.locator("[data-testid=stProgress]").first.wait_for(timeout=60_000)

        other = open_page(f"{server.url}/calibrate")  # a second user: the same job, and no second one
        other.locator("[data-testid=stProgress]").first.wait_for(timeout=60_000)
        assert other.locator(".st-key-calibrate_start button").is_disabled()
        assert jobs.jobs(folder) == [job]
        assert_no_fault(other)
    finally:
        server.stop()
    assert job.status().state == "running"

    server = started(folder, chromium)
    try:
        page = open_page(f"{server.url}/calibrate")
        page.locator("[data-testid=stProgress]").first.wait_for(timeout=60_000)
        page.get_by_role("button", name="Stop and keep what was measured").click()
        page.get_by_text("It was stopped early").wait_for(timeout=60_000)
        assert page.get_by_text("On this device your plan").count() >= 1
        assert job.status().state == "cancelled"
        assert job.profile.exists()
        assert_no_fault(page)
    finally:
        server.stop()


def test_a_killed_worker_is_reported_and_gone_on_from(chromium: str, open_page: Any, folder: Path) -> None:
    server = started(folder, chromium)
    try:
        page = open_page(f"{server.url}/calibrate")
        begin(page, "Quick")
        (job,) = jobs.jobs(folder)
        wait_for(lambda: job.status().cases >= 3)
        pid = job.status().pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        page.get_by_text("The measuring process is gone").wait_for(timeout=60_000)
        kept = Partial(job.samples).read()
        page.get_by_role("button", name="Go on").click()
        page.locator("[data-testid=stProgress]").first.wait_for(timeout=60_000)
        again = jobs.jobs(folder)[0]
        assert again != job
        wait_for(lambda: again.status().state not in ENDED and again.status().cases > len(kept))
        assert Partial(again.samples).read()[: len(kept)] == kept
        assert_no_fault(page)
    finally:
        server.stop()
