"""Rules of the house that a program can check."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import planner

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 700
"""A hard stop; over about 400 lines a file wants to be two."""
TEXT = {".md", ".py", ".toml", ".txt", ".yaml", ".yml", ".csv", ".json", ".css", ""}
SOURCES = sorted((ROOT / "planner").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def own_files() -> list[Path]:
    """Files that git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def is_overload(node: ast.FunctionDef | ast.ClassDef) -> bool:
    return any(isinstance(name, ast.Name) and name.id == "overload" for name in node.decorator_list)


def test_modules_are_short_and_say_what_they_are() -> None:
    long = {str(p.relative_to(ROOT)): n for p in SOURCES if (n := len(read(p).splitlines())) > MAX_LINES}
    assert not long
    silent = [str(p.relative_to(ROOT)) for p in SOURCES if read(p).strip() and ast.get_docstring(ast.parse(read(p))) is None]
    assert not silent


def test_public_functions_and_classes_say_what_they_do() -> None:
    silent = []
    for path in SOURCES:
        for node in ast.parse(read(path)).body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_") or is_overload(node):
                continue
            if ast.get_docstring(node) is None:
                silent.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert not silent, "\n".join(silent)


def test_no_error_is_swallowed() -> None:
    wrong = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(read(path))):
            if isinstance(node, ast.ExceptHandler) and (node.type is None or all(isinstance(s, ast.Pass) for s in node.body)):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not wrong


def test_texts_hold_no_leftovers() -> None:
    """No notes to self, no banner comments, no paths or keys of somebody's machine."""
    patterns = {
        "a note to self": r"\b(TODO|FIXME|XXX|HACK)\b",
        "a banner": r"^\s*# ?[-=#*]{8,}",
        "a path of one machine": r"(?<![\w.])/(home|root|work|Users)/\w+",
        "a key": r"\b(hf_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16})\b",
    }
    found = []
    for path in own_files():
        if path.suffix not in TEXT or path == Path(__file__).resolve() or path.stat().st_size > 2**21:
            continue
        for what, pattern in patterns.items():
            if match := re.search(pattern, read(path), re.MULTILINE):
                found.append(f"{path.relative_to(ROOT)}: {what}: {match[0].strip()}")
    assert not found, "\n".join(found)


def test_requirements_are_pinned_and_installed() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        for line in read(ROOT / name).splitlines():
            if line.startswith(("#", "-r ")):
                continue
            package, pinned = line.split("==")
            assert version(package).partition("+")[0] == pinned, f"{package} differs from {name}"


def test_the_package_asks_for_what_is_pinned() -> None:
    pinned, besides = (
        {line.partition("==")[0].lower() for line in read(ROOT / name).splitlines() if "==" in line} for name in ("requirements.txt", "requirements-dev.txt")
    )
    project = PROJECT["project"]
    asked = project["dependencies"] + [name for extra in project["optional-dependencies"].values() for name in extra]
    names = {re.match(r"[\w-]+", name)[0].lower() for name in asked}  # type: ignore[index]
    assert pinned <= names, "what the app needs stands in an extra"
    assert names <= pinned | besides, "what an extra asks for is tested"


def test_the_version_has_an_entry_in_the_changelog() -> None:
    assert f"\n## {planner.__version__}" in read(ROOT / "CHANGELOG.md")


def test_every_data_file_ships_with_the_package() -> None:
    shipped = {Path(pattern).suffix or pattern for pattern in PROJECT["tool"]["setuptools"]["package-data"]["*"]}
    files = [p for p in own_files() if (ROOT / "planner") in p.parents and p.suffix != ".py"]
    unshipped = [str(p.relative_to(ROOT)) for p in files if p.suffix not in shipped and p.name not in shipped]
    assert not unshipped


def test_scripts_are_executable() -> None:
    for path in (ROOT / ".ci" / "run", ROOT / "scripts" / "test"):
        assert path.stat().st_mode & 0o100, path
