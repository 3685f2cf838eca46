"""How a plan is computed: the text of method.md with the numbers of the current plan in its equations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from planner import units
from planner.estimate.result import Estimate
from planner.estimate.words import NOT_MODELLED
from planner.summary import memory_parts, time_parts
from planner.ui import language
from planner.ui.language import _
from planner.ui.texts import EVIDENCE, plain

TEXT: Final = Path(__file__).with_suffix(".md")
FURTHER: Final = (
    "Sequences of different length in one batch, and padding.",
    "Other jobs on the machine, slow nodes, NUMA effects.",
)
_SEPARATOR = re.compile(r";\s+(?![^(]*\))")
"""Between sources of one term, not inside parentheses."""
_NUMBER = re.compile(r"<<(\w+)>>")


@dataclass(frozen=True)
class Section:
    """A titled part: paragraphs of markdown and tables in their order."""

    title: str
    blocks: tuple[str | dict[str, str], ...]


def sections(e: Estimate) -> list[Section]:
    """The method in order, with this plan's numbers. A paragraph that needs a number which this plan does not have is left out."""
    numbers, tables = _numbers(e), _tables(e)
    found = [Section("Symbols of this plan", (_symbols(e),))]
    for title, paragraphs in _parts(language.file(TEXT)):
        blocks: list[str | dict[str, str]] = []
        for paragraph in paragraphs:
            if paragraph.startswith("[table: "):
                if table := tables[paragraph.removeprefix("[table: ").rstrip("]")]:
                    blocks.append(table)
            elif all(numbers[name] is not None for name in _NUMBER.findall(paragraph)):
                blocks.append(_NUMBER.sub(lambda name: str(numbers[name[1]]), paragraph))
        found.append(Section(title, tuple(blocks)))
    return found


@cache
def _parts(file: Path) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Title and paragraphs of each section of the text."""
    parts = file.read_text(encoding="utf-8").split("## ")[1:]
    return tuple(
        (part.partition("\n")[0], tuple(filter(None, map(str.strip, part.partition("\n")[2].split("\n\n")))))
        for part in parts
    )


def _tex(value: float | None, digits: int = 3) -> str | None:
    """A number for LaTeX: 4{,}096, or 1.2 \\times 10^{15}; None where it is not known."""
    if value is None:
        return None
    if isinstance(value, int) and abs(value) < 10**7:
        return units.format_integer(value).replace(",", "{,}")
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return units.significant(value, digits).replace(",", "{,}")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return rf"{mantissa} \times 10^{{{int(exponent)}}}"


def _symbols(e: Estimate) -> dict[str, str]:
    run, m = e.run, e.details["model"]
    values: tuple[tuple[str, str, int | None], ...] = (
        ("b", "sequences per GPU and micro step", run.batch.micro),
        ("s", "tokens per sequence", run.batch.seq_len),
        ("n", "micro steps per step (accumulation)", run.batch.accumulation),
        ("T", "tokens per step", e.details["tokens_per_step"]),
        ("G", "GPUs", run.hardware.gpus),
        ("L", "layers", m["layers"]),
        ("h", "hidden size", m["hidden"]),
        ("f", "feed-forward size", m["ffn"]),
        ("a", "attention heads", m["heads"]),
        ("d", "size of a head", m["head_dim"]),
        ("N", "parameters", e.parameters),
    )
    table = {f"${symbol}$ {_(words)}": units.format_integer(value) for symbol, words, value in values if value is not None}
    if e.details.get("peak_flops"):
        table[f"$P$ {_('dense peak of the type of the matrix products')}"] = units.format_flops(
            e.details["peak_flops"], per_second=True
        )
    return table


def _numbers(e: Estimate) -> Mapping[str, str | None]:
    """Text for each name in the method's text; None where this plan has no such number."""
    run, m, usable, peak = e.run, e.details["model"], e.usable_memory_bytes, e.details.get("peak_flops")
    b, s, gib = run.batch.micro, run.batch.seq_len or 0, units.GIB
    low, high = e.peak_memory_interval_bytes
    check = e.details["crosscheck"]
    known_mfu = e.mfu is not None and bool(peak) and bool(e.step_time_s)
    model_flops = (e.mfu or 0.0) * (e.step_time_s or 0.0) * run.hardware.gpus * (peak or 0.0)
    ffn = m["ffn"] if isinstance(m["ffn"], int) and m["ffn"] > 0 else None
    ladder = "\n".join(f"{i}. **{_(name)}**: {_(words)}" for i, (name, (*_look, words)) in enumerate(EVIDENCE.items(), 1))
    return {
        "b": _tex(b),
        "s": _tex(s),
        "h": _tex(m["hidden"]),
        "a": _tex(m["heads"]),
        "d": _tex(m["head_dim"]),
        "f": _tex(ffn),
        "feed_forward": None if ffn is None else _tex(2.0 * b * s * m["hidden"] * ffn),
        "attention": _tex(4.0 * b * m["heads"] * s * s * m["head_dim"]),
        "peak": _tex(e.peak_memory_bytes / gib),
        "moment": plain(e.peak_moment),
        "reserved": _tex(e.peak_reserved_bytes / gib),
        "low": _tex(low / gib),
        "high": _tex(high / gib),
        "sign": None if usable is None else r"\le" if high <= usable else ">",
        "usable": None if usable is None else _tex(usable / gib),
        "step": _tex(e.step_time_s),
        "gpus": _tex(run.hardware.gpus),
        "peak_flops": _tex(peak),
        "model_flops": _tex(model_flops) if known_mfu else None,
        "mfu": _tex(100 * (e.mfu or 0.0), 2) if known_mfu else None,
        "one_gpu": _("This plan has one GPU: nothing is exchanged.") if run.hardware.gpus == 1 else None,
        "ladder": ladder,
        "basis": _(e.basis),
        "interval_note": plain(e.interval_note),
        "parameters": _tex(float(e.parameters)),
        "tokens": _tex(e.details["tokens_per_step"]),
        "six_nd": _tex(check["six_nd_flops"]),
        "counted": _tex(e.flops_per_step),
        "ratio": _tex(e.flops_per_step / check["six_nd_flops"], 2),
        "sixteen": _tex(check["sixteen_bytes_per_parameter"] / gib),
        "states": _tex(_states(e) / gib),
        "left_out": _bullets((*NOT_MODELLED, *FURTHER)),
        "sources": _bullets(_sources(e)),
    }


def _tables(e: Estimate) -> dict[str, dict[str, str]]:
    flops: dict[str, float] = {}
    for term in e.terms:
        if term.name.startswith("flops/"):
            flops[term.name.split("/")[1]] = flops.get(term.name.split("/")[1], 0.0) + term.value
    work = {phase.capitalize(): units.format_flops(value) for phase, value in flops.items()}
    exposed = sum(term.value for term in e.terms if term.name.startswith("time/communication/"))
    talk = {
        "Exposed, or slowing compute, in a step": units.format_seconds(exposed),
        "GPUs in a machine": units.format_integer(e.run.hardware.gpus_per_node),
        "Shared": plain(e.run.parallel.sharding),
    }
    return {
        "flops": {**work, "One step, all GPUs": units.format_flops(e.flops_per_step)},
        "memory": {
            part.label: f"{units.format_bytes(part.value)} ({units.format_percent(part.share, 2)})"
            for part in memory_parts(e)
        },
        "time": {
            part.label: f"{units.format_seconds(part.value)} ({units.format_percent(part.share, 2)})"
            for part in time_parts(e)
        },
        "communication": talk if e.run.hardware.gpus > 1 else {},
    }


def _states(e: Estimate) -> float:
    """Weights, gradients and optimizer states of the whole model [bytes]: those of one GPU, times the GPUs that share them evenly."""
    share = e.run.dp if e.run.parallel.sharding == "zero3" else 1
    return share * sum(part.value for part in memory_parts(e) if part.name in ("weights", "gradients", "optimizer"))


def _sources(e: Estimate) -> list[str]:
    counts = Counter(part for term in e.terms for part in _SEPARATOR.split(term.source) if part)
    return [f"{source} ({count} {'term' if count == 1 else 'terms'})" for source, count in counts.most_common()]


def _bullets(lines: Any) -> str:
    return "\n".join(f"- {plain(line)}" for line in lines)
