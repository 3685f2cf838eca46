"""Who may import whom: the core stays free of heavy libraries, and data flows one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import planner

ROOT = Path(__file__).resolve().parents[1]
CORE = ("planner", "planner.estimate", "planner.catalog", "planner.device", "planner.evidence", "planner.report", "planner.advise", "planner.cli")
HEAVY = {"pandas", "peft", "plotly", "pyarrow", "scipy", "streamlit", "torch", "transformers"}

LAYERS = (
    {"errors", "files", "parts", "registry", "words"},
    {"units"},
    {"catalog"},
    {"run", "method", "whole_run"},
    {"workload"},
    {"device"},
    {"estimate"},
    {"evidence"},
    {"search", "advise", "summary", "compare", "store", "logs", "lock"},
    {"report", "launch"},
    {"ui"},
    {"cli", "__main__"},
)
BESIDE = {"calibrate", "probe"}
"""They stand beside `estimate`: they alone import torch, and only the command line and the pages call them."""

ALLOWED = {
    "torch": ("planner/calibrate", "planner/probe", "planner/workload/structure.py"),  # builds modules to read them
    "transformers": ("planner/calibrate", "planner/probe", "planner/workload/structure.py"),
    "peft": ("planner/calibrate", "planner/probe"),
    "pynvml": ("planner/calibrate", "planner/probe"),
    "gpuhunt": ("planner/catalog/gpuhunt_offers.py",),  # in a process of its own: it has no time limit
    "streamlit": ("planner/ui", "pages/", "Home.py"),
    "plotly": ("planner/ui/charts.py", "planner/ui/pipeline_charts.py", "planner/ui/decision_charts.py", "planner/ui/audit_chart.py", "planner/report"),
    "pandas": ("planner/ui/loaded.py",),
    "scipy": (),
    "pyarrow": ("planner/device/fit",),  # offline: the fit of the kernel curves reads published Parquet files
}


def loaded_after(statement: str) -> set[str]:
    """Top-level modules in `sys.modules` of a new interpreter after a statement."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("module", CORE)
def test_core_imports_nothing_heavy(module: str) -> None:
    assert not loaded_after(f"import {module}") & HEAVY


def test_an_estimate_imports_nothing_heavy() -> None:
    code = "from planner import Run, estimate; estimate(Run(model='gpt2', hardware={'gpu': 'H100 SXM 80GB'}))"
    assert not loaded_after(code) & HEAVY


def test_the_import_test_can_fail() -> None:
    assert {"plotly"} <= loaded_after("import planner, plotly") & HEAVY


def test_public_names_are_listed_in_order_and_exist() -> None:
    assert planner.__all__ == sorted(planner.__all__)
    for name in planner.__all__:
        assert getattr(planner, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'estimator'"):
        planner.estimator  # noqa: B018


def test_estimate_is_the_function_whatever_was_imported_first() -> None:
    for first in ("import planner.estimate", "from planner.estimate.result import Term", "from planner import estimate"):
        loaded_after(f"{first}\nfrom planner import estimate\nassert callable(estimate), estimate")


def imports_of(tree: ast.AST, package: str = "") -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, those inside functions too; `package` resolves relative ones."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (base, node.module) if part)
            if name == "planner":
                yield from ((node.lineno, f"planner.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, name


def layer(room: str) -> int | None:
    return next((i for i, names in enumerate(LAYERS) if room in names), None)


def upward(room: str, imported: str) -> bool:
    """Whether a module of `room` may not import the dotted name: it stands below it in the flow of data."""
    parts = imported.split(".")
    if parts[0] != "planner" or len(parts) < 2:
        return False
    target = {"Run": "run", "Estimate": "estimate", "PlanError": "errors", "load_profile": "device", "__version__": "errors"}.get(parts[1], parts[1])
    if target in BESIDE:
        return room not in BESIDE | {"cli", "__main__", "ui"}
    if room in BESIDE:
        return target in {"ui", "cli", "__main__"}
    here, there = layer(room), layer(target)
    assert here is not None, f"planner/{room} has no place in LAYERS"
    assert there is not None, f"planner/{target} has no place in LAYERS"
    return there > here


def sources() -> list[Path]:
    return sorted(p for p in (ROOT / "planner").rglob("*.py") if p != ROOT / "planner/__init__.py")


def test_data_flows_one_way() -> None:
    wrong = []
    for path in sources():
        inside = path.relative_to(ROOT / "planner")
        package = ".".join(("planner", *inside.parent.parts))
        for line, name in imports_of(ast.parse(path.read_text(encoding="utf-8")), package):
            if upward(inside.parts[0].removesuffix(".py"), name):
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_the_direction_test_can_fail() -> None:
    found = [name for _, name in imports_of(ast.parse("def f():\n    from planner.estimate.result import Term"))]
    assert upward("workload", found[0])
    assert not upward("report", found[0])
    assert [name for _, name in imports_of(ast.parse("from ..ui import charts"), "planner.device")] == ["planner.ui"]
    assert upward("device", "planner.probe")
    assert not upward("probe", "planner.estimate.engine")


def test_only_their_rooms_import_heavy_libraries() -> None:
    wrong = []
    for path in [*sources(), *ROOT.glob("*.py"), *(ROOT / "pages").glob("*.py")]:
        where = path.relative_to(ROOT).as_posix()
        for line, name in imports_of(ast.parse(path.read_text(encoding="utf-8"))):
            allowed = ALLOWED.get(name.partition(".")[0])
            if allowed is not None and not where.startswith(allowed):
                wrong.append(f"{where}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)
