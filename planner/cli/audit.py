"""`planner audit RUN LOG…`: a finished run beside its plan."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from planner import units
from planner.cli.inputs import add_json, add_run, read_profile, read_run
from planner.cli.output import bold, emit_json, printable, table, wrapped

if TYPE_CHECKING:
    from planner.logs import Audit
    from planner.logs.audit import Finding

NAME = "audit"
HELP = "set logs of a finished run beside its plan: how far off, what explains it, what to change"
DESCRIPTION = (
    "Reads logs of one run (trainer_state.json, TensorBoard event files, Weights & Biases exports, Lightning's metrics.csv, consoles of torchtitan, "
    "Megatron-LM, NeMo, DeepSpeed and torchtune, LLaMA-Factory's trainer_log.jsonl, nvidia-smi tables, a CUDA out-of-memory message), recognised by their "
    "content, compares them with the plan, and tests what would explain the difference. The run is kept: later plans of it on this machine stand on it."
)
_STATUS = {"explains": ": explains it", "in part": ": explains it in part", "does not": ": does not explain it", "seen": ""}


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    add_run(command)
    command.add_argument("logs", nargs="+", metavar="LOG", help="logs of the run, or its folder; - reads standard input, for a pasted message")
    command.add_argument("--no-keep", action="store_true", help="do not keep it: no later plan stands on it, and it is not among the saved work")
    add_json(command)


def execute(options: argparse.Namespace) -> None:
    """Audit a run and print the answer."""
    from planner.logs import audit, read_files, read_uploads
    from planner.logs.keep import keep_both
    from planner.logs.source import MAX_DOCUMENT

    run, profile = read_run(options.run), read_profile(options.profile)
    named = [name for name in options.logs if name != "-"]
    records = read_files(named) if named else []
    if "-" in options.logs:
        records += read_uploads([("standard input", sys.stdin.buffer.read(MAX_DOCUMENT + 1))])
    found = audit(run, records, profile)
    if not options.no_keep:
        found = keep_both(found, profile)
    if options.json:
        emit_json(found.model_dump(mode="json"))
    else:
        print(as_text(found))


def as_text(found: Audit) -> str:
    """An audit for a terminal."""
    head = found.verdict.capitalize() if found.shortage is None else "Out of memory, " + found.shortage.verdict
    blocks = [bold(head) + f": {printable(found.model)} on {printable(found.device)}"]
    if found.shortage is not None:
        blocks.append(wrapped(found.shortage.sentence))
        blocks.append(_findings("Why", found.shortage.causes))
    if found.shortage is None or found.steps or found.verdict != "unknown":
        blocks.append(wrapped(found.why))
    rows = [("", "measured", "planned", "plan is off", "planned, 90 %")]
    for figure in found.figures:
        off = "–" if figure.error is None else f"{figure.error:+.0%}"
        interval = "" if figure.interval is None else _interval(figure.unit, figure.interval)
        rows.append((figure.label, figure.measured_text, figure.planned_text if figure.planned is not None else "–", off, interval))
    if len(rows) > 1:
        blocks.append(table(rows, right=(1, 2, 3)))
    blocks.append(_findings("What ran otherwise than planned", found.corrections))
    blocks.append(_findings("What the log shows", tuple(one for one in found.findings if one.status == "seen")))
    blocks.append(_findings("What was tested", tuple(one for one in found.findings if one.status in ("explains", "in part"))))
    if out := [one.title for one in found.findings if one.status == "does not"]:
        blocks.append(wrapped(f"Tested and ruled out: {'; '.join(out)}."))
    lines = []
    for proposal in found.proposals:
        change = "".join(f" [{path}: {value}]" for path, value in proposal.change.items())
        lines.append(wrapped(f"{proposal.title}. {proposal.sentence}{change}", bullet="- "))
    if lines:
        blocks.append(bold("What to change") + "\n" + "\n".join(lines))
    read = [f"{log.source}: {log.reader}, {log.entries:,} entries" for log in found.logs]
    notes = [note for log in found.logs for note in log.notes] + list(found.notes)
    if found.kept is not None:
        notes.append(f"Kept in {found.kept}: plans of this run on this device now stand on it.")
    blocks.append("\n".join(wrapped(text, bullet="- ") for text in (*read, *notes)))
    return "\n\n".join(block for block in blocks if block)


def _findings(title: str, found: tuple[Finding, ...]) -> str:
    if not found:
        return ""
    return bold(title) + "\n" + "\n".join(wrapped(f"{one.title}{_STATUS[one.status]}. {one.sentence}", bullet="- ") for one in found)


def _interval(unit: str, ends: tuple[float, float]) -> str:
    text = units.format_seconds if unit == "s" else units.format_bytes
    return f"{text(ends[0])} to {text(ends[1])}"
