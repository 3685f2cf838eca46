"""`planner estimate RUN`: the whole answer on one screen."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from planner import units
from planner.advise import FITS_WORDS, Advice, advise, delta_texts, in_need
from planner.cli.inputs import add_json, add_no_measured, add_run, planned, read_profile, read_run
from planner.cli.output import bold, emit_json, printable, table, wrapped
from planner.estimate.result import Estimate
from planner.summary import (
    Part,
    bill_parts,
    course_facts,
    course_parts,
    facts,
    headline,
    key_figures,
    memory_parts,
    reason,
    share_text,
    time_parts,
    verdict,
)

NAME = "estimate"
HELP = "does a run fit, how long does it take, what does it cost"
DESCRIPTION = "Does this run fit, how long does it take, what does it cost, what limits it, and what would help?"
_BAR = 20


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    add_run(command)
    add_no_measured(command)
    add_json(command)


def execute(options: argparse.Namespace) -> None:
    """Estimate a run and print it."""
    run, profile = read_run(options.run), read_profile(options.profile)
    result = planned(run, profile, options)
    if options.json:
        emit_json(result.model_dump(mode="json"))
    else:
        print(as_text(result, advise(run, result, profile)))


def as_text(estimate: Estimate, advice: Advice) -> str:
    """An estimate and what would help, for a terminal."""
    several = estimate.run.hardware.gpus > 1
    blocks = [bold(printable(verdict(estimate).sentence)) + "\n" + wrapped(" · ".join(headline(estimate)), indent=0)]
    blocks.append(
        table([(f.label, f.value_text, f.chip, f.interval_text, f.basis_text) for f in key_figures(estimate)])
    )
    blocks.append(
        "\n".join(wrapped(text) for text in (estimate.limited_by, reason(estimate), estimate.interval_note) if text)
    )
    blocks.append(_titled("In numbers", table(facts(estimate))))
    memory = _bars(memory_parts(estimate), units.format_bytes)
    moment = f" ({estimate.peak_moment})" if estimate.peak_moment else ""
    blocks.append(_titled(f"Memory {'of one GPU ' if several else ''}at the peak{moment}", memory))
    if estimate.step_time_s is not None:
        blocks.append(
            _titled(
                f"Step time, {units.format_seconds(estimate.step_time_s)}",
                _bars(time_parts(estimate), units.format_seconds),
            )
        )
    if estimate.total_time_s is not None and len(course_parts(estimate)) > 1:
        blocks.append(_titled(f"The whole run, {units.format_seconds(estimate.total_time_s)}", _bars(course_parts(estimate), units.format_seconds)))
    if estimate.cost_usd is not None and len(bill_parts(estimate)) > 1:
        blocks.append(_titled(f"Cost, {units.format_usd(estimate.cost_usd)}", _bars(bill_parts(estimate), units.format_usd)))
    if known := course_facts(estimate):
        blocks.append(_titled("Beside the steps", table(known)))
    blocks.append(_titled("What would help", _help(estimate, advice)))
    for title, sentences in (("Warnings", estimate.warnings), ("Assumptions", estimate.assumptions)):
        if sentences:
            blocks.append(_titled(title, "\n".join(wrapped(text, bullet="- ") for text in sentences)))
    return "\n\n".join(block for block in blocks if block)


def _titled(title: str, body: str) -> str:
    return f"{bold(printable(title))}\n{body}"


def _bars(parts: tuple[Part, ...], formatter: Callable[[float], str]) -> str:
    largest = max((part.share for part in parts), default=1.0)
    rows = []
    for part in parts:
        bar = "█" * round(_BAR * part.share / largest) or "▏"
        rows.append((part.label, formatter(part.value), share_text(part.share), bar.ljust(_BAR), part.detail))
    return table(rows, right=(1, 2))


def _help(estimate: Estimate, advice: Advice) -> str:
    if not advice.suggestions:
        what = "makes it fit" if in_need(estimate) else "saves 1 % of time or cost"
        possible = advice.tried - advice.impossible
        return wrapped(f"None of {possible} changes tried {what}.")
    then = [FITS_WORDS[s.fits] if in_need(estimate) else "" for s in advice.suggestions]
    rows = [("", "time", "memory", "cost", "")]
    rows += [(s.title, *delta_texts(s), words) for s, words in zip(advice.suggestions, then, strict=True)]
    return table(rows, right=(1, 2, 3))
