"""A search in a process of its own, so that a page stays quick meanwhile: `python -m planner.ui.search_worker FOLDER`.

Reads request.json, writes progress.json as it goes and result.json at the end; a file named stop ends it with what was looked at.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from planner.device import DeviceProfile
from planner.errors import PlanError
from planner.files import write_whole
from planner.run import parse_run
from planner.search import Constraints, Found, Space, search


def write(path: Path, document: Any) -> None:
    """Write a document that a page may be reading."""
    write_whole(path, json.dumps(document))


def space_of(request: dict[str, Any]) -> Space:
    """The space that a request asks for."""
    run = parse_run(request["run"])
    lists = {name: tuple(values) for name, values in request["lists"].items()}
    methods = tuple(parse_run({"model": "gpt2", "method": method}).method for method in lists.pop("methods", ()))
    profile = request.get("profile")
    return Space(
        run, methods=methods, constraints=Constraints(**request["limits"]), profile=None if profile is None else DeviceProfile.model_validate(profile), **lists
    )


def document(found: Found) -> dict[str, Any]:
    """What a page needs of an answer: run files instead of estimates, which it works out again."""

    def run(one: Any) -> Any:
        return None if one is None else one.run.model_dump(mode="json", exclude_unset=True)

    return {
        "evaluated": found.evaluated,
        "seconds": found.seconds,
        "best": run(found.best),
        "next_best": run(found.next_best),
        "pareto": [run(one) for one in found.pareto],
        "pareto_size": found.pareto_size,
        "reasons": list(found.reasons),
        "left_out": list(found.left_out),
        "complete": found.complete,
        "objective": found.objective,
    }


def work(folder: Path) -> None:
    """Do what the folder's request asks."""
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    stop = folder / "stop"

    def progress(share: float, evaluated: int) -> None:
        write(folder / "progress.json", {"share": share, "evaluated": evaluated})

    try:
        found = search(space_of(request), progress, stop.exists, patience=request["patience"])
        write(folder / "result.json", document(found))
    except PlanError as error:
        write(folder / "result.json", {"error": [error.field, str(error.value), error.problem, error.fix]})


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(10)  # pages of other sessions come first
    work(Path(sys.argv[1]))
