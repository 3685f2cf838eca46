"""A named run of the matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from planner.run import Run, parse_run

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """A named run. quick: belongs to the short matrix too."""

    name: str
    run: Run
    quick: bool = False


def case(
    family: str, config: Fields, method: Fields, precision: str | Fields, micro: int, seq: int | None, quick: bool = False, **more: Any
) -> Case:
    """A case named by what it holds: family, method, precision, batch, and what differs from the defaults.

    seq: None where the model's images decide it · quick: belongs to the short matrix · more: other fields of the run.
    """
    batch = {"micro": micro, **({} if seq is None else {"seq_len": seq}), **more.pop("batch", {})}
    numbers = (method.get(key) for key in ("rank", "virtual_tokens", "last"))
    what = "-".join([method["name"], *(str(number) for number in numbers if number is not None)])
    kind = precision if isinstance(precision, str) else precision["weights"]
    words = [family, what, kind, f"{micro}x{seq}" if seq is not None else f"{micro}"]
    words += [f"{value}" for key, value in more.items() if key in ("attention", "optimizer")]
    words += ["checkpointing"] if more.get("activation_checkpointing") == "full" else []
    words += [f"accumulation-{batch['accumulation']}"] if "accumulation" in batch else []
    given = precision if isinstance(precision, str) else dict(precision)
    run = parse_run({"model": dict(config), "method": dict(method), "precision": given, "batch": batch, **more})
    return Case(" ".join(words), run, quick)
