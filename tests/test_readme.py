"""What README.md says can be done, can be done, and what it prints is what comes out."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _refresh() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_refresh", ROOT / "docs" / "refresh.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


refresh = _refresh()
BLOCKS = list(refresh.blocks(README))
RUNNABLE = [block for block in BLOCKS if block.runs]
TAUGHT = [block for path in refresh.TUTORIALS for block in refresh.blocks(path.read_text(encoding="utf-8"))]


def test_there_are_commands_to_check() -> None:
    assert len(RUNNABLE) >= 3
    assert {block.language for block in RUNNABLE} == {"sh", "python"}
    assert sum(block.output is not None for block in RUNNABLE) >= 3


@pytest.mark.parametrize("block", [*RUNNABLE, *TAUGHT], ids=lambda block: block.code.strip().splitlines()[-1][:60])
def test_every_block_runs_and_prints_what_the_readme_shows(block: object) -> None:
    printed = refresh.run(block)
    shown = block.output  # type: ignore[attr-defined]
    if shown is not None:
        assert printed.rstrip() == shown.rstrip(), "run python docs/refresh.py"


def test_setup_commands_name_files_that_exist() -> None:
    setup = [block for block in BLOCKS if not block.runs]
    assert any("streamlit run Home.py" in block.code for block in setup)
    for block in setup:
        for name in re.findall(r"[\w./-]+\.(?:txt|py)\b|scripts/\w+", block.code):
            assert (ROOT / name).is_file(), name


def test_a_failing_command_is_noticed() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        refresh.run(refresh.Block("sh", "python -m planner no-such-command 2>/dev/null\n", None))


def test_the_command_line_page_is_current() -> None:
    assert refresh.CLI.read_text(encoding="utf-8") == refresh.fresh_cli(), "run python docs/refresh.py"


@pytest.mark.parametrize("language", refresh.LIMITS)
def test_the_limits_are_told_with_the_numbers_of_now(language: str) -> None:
    assert refresh.LIMITS[language].read_text(encoding="utf-8") == refresh.fresh_limits(language), "run python docs/refresh.py"


def test_there_is_a_tutorial_for_each_kind_of_user() -> None:
    assert [path.stem for path in refresh.TUTORIALS] == ["tutorial-cluster", "tutorial-one-card", "tutorial-one-node"]
    assert sum(block.output is not None for block in TAUGHT) >= 9


def test_the_page_of_coverage_is_current() -> None:
    from tests.oracles import coverage

    assert refresh.COVERAGE.read_text(encoding="utf-8") == coverage.document(), "run python docs/refresh.py"


@pytest.mark.parametrize("path", [refresh.README, refresh.METHOD], ids=lambda p: p.name)
def test_what_stands_between_markers_is_current(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("written by docs/refresh.py -->") >= 2
    assert text == refresh.between_markers(text, refresh.PARTS), "run python docs/refresh.py"


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_every_example_gives_a_whole_answer(path: Path) -> None:
    from planner import estimate
    from planner.run import load_run

    answer = estimate(load_run(path))
    assert answer.fits_reason
    assert answer.step_time_s is not None
    assert answer.cost_usd is not None


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_file_map_is_complete() -> None:
    """Every tracked file and folder at the top, and every room of planner/, stands in the map, and nothing that is gone does."""
    listed = re.search(r"## Files\n.*?```text\n(.*?)```", README, re.DOTALL)
    assert listed is not None
    names = {line.split()[0].rstrip("/") for line in listed[1].splitlines() if line.strip()}
    top = {p.name for p in ROOT.iterdir() if not p.name.startswith(".") or p.name in {".ci", ".streamlit"}}
    ignored = {line.strip("/\n") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()}
    top = {name for name in top if name not in ignored and not name.endswith((".egg-info", ".db"))}
    rooms = {f"planner/{p.name}" for p in (ROOT / "planner").iterdir() if not p.name.startswith("__") and p.name != "py.typed"}
    assert (top - {"planner"}) | rooms <= names, f"missing: {sorted(((top - {'planner'}) | rooms) - names)}"
    assert all((ROOT / name).exists() for name in names), f"gone: {sorted(n for n in names if not (ROOT / n).exists())}"
