"""How quickly the app is there and answers, in headless Chromium on this machine: python benchmarks/page_speed.py [repetitions]

First paint: from asking a server that has served nobody yet until the verdict stands on the page. Interaction: from a change in the sidebar until the
figures that follow from it are on the page.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")


def serve() -> tuple[subprocess.Popen[bytes], str]:
    """A server that nobody has asked anything, and its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
    command = [sys.executable, "-m", "streamlit", "run", "Home.py", f"--server.port={port}", "--server.headless=true", "--server.fileWatcherType=none"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1).close()
            break
        except OSError:
            time.sleep(0.1)
    return process, f"http://127.0.0.1:{port}"


def painted(browser: Any, url: str) -> tuple[float, Any]:
    """Seconds until the four figures stand there, and the page."""
    page = browser.new_context(viewport={"width": 1440, "height": 900}, locale="en-US").new_page()
    began = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.locator("[data-testid=stMetricValue]").nth(3).wait_for(timeout=60_000)
    return time.perf_counter() - began, page


def answered(page: Any, gpus: int) -> float:
    """Seconds from another number of GPUs until the page says it."""
    count = page.get_by_label("How many")
    count.fill(str(gpus))
    began = time.perf_counter()
    count.press("Enter")
    page.get_by_text(f"{gpus} × H100 SXM 80GB").first.wait_for(timeout=60_000)
    return time.perf_counter() - began


def main() -> None:
    """Print the medians as JSON."""
    from playwright.sync_api import sync_playwright

    repetitions = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    cold, warm, changes = [], [], []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for _ in range(repetitions):
            process, url = serve()
            try:
                cold.append(painted(browser, url)[0])
                seconds, page = painted(browser, url)
                warm.append(seconds)
                page.wait_for_timeout(2000)
                changes += [answered(page, gpus) for gpus in (2, 4, 8, 16)]
            finally:
                process.terminate()
                process.wait(20)
        browser.close()
    figures = {"first_paint_cold_s": cold, "first_paint_warm_s": warm, "interaction_s": changes}
    machine = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    print(json.dumps({name: round(statistics.median(values), 3) for name, values in figures.items()} | machine))


if __name__ == "__main__":
    main()
