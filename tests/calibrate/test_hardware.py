"""Why there is no accelerator, in a sentence for each reason."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

import torch

from planner.calibrate import hardware


@pytest.mark.parametrize(
    ("current", "cuda", "driver", "words"),
    [
        (SimpleNamespace(type="cuda"), "13.0", True, ""),
        (None, None, False, "built for processors alone"),
        (None, "13.0", False, "No GPU and no driver"),
        (None, "13.0", True, "torch sees no GPU"),
    ],
)
def test_a_missing_gpu_has_its_reason(monkeypatch: pytest.MonkeyPatch, current: object, cuda: str | None, driver: bool, words: str) -> None:
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: current)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(hardware.os.path, "exists", lambda path: driver)
    said = hardware.no_accelerator()
    assert words in said
    assert bool(said) is bool(words)
    if current is None:
        assert hardware.listed()[-1]["note"] == said
