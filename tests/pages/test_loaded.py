"""What every script imports first holds all modules of the app, so that no two sessions import them in different orders."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OTHERS = {"__init__", "loaded", "search_worker"}
"""The worker of a search is a process of its own."""


def test_every_module_of_the_app_is_loaded_in_one_order() -> None:
    tree = ast.parse((ROOT / "planner" / "ui" / "loaded.py").read_text(encoding="utf-8"))
    names = [alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert set(names) == {path.stem for path in (ROOT / "planner" / "ui").glob("*.py")} - OTHERS


def test_every_script_imports_it_before_anything_else_of_the_planner() -> None:
    for path in [ROOT / "Home.py", *(ROOT / "pages").glob("*.py")]:
        imports = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        ours = [node.names[0].name if isinstance(node, ast.Import) else node.module for node in imports]
        assert next(name for name in ours if name and name.startswith("planner")) == "planner.ui.loaded", path.name
