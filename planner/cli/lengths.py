"""`planner lengths FILE`: how long the samples of a file are, as the data section of a run file."""

from __future__ import annotations

import argparse
from typing import get_args

from planner import units
from planner.cli.inputs import add_json
from planner.cli.output import bold, emit_json, table, wrapped
from planner.run import Data

NAME = "lengths"
HELP = "how long the samples of a text or JSONL file are, for the data section of a run file"
DESCRIPTION = (
    "Counts the tokens of every sample of a text or JSONL file, one a line, with a tokenizer.json, and prints the data section of a run file: "
    "samples and the histogram of their lengths. Nothing of the tokenizer's repository is run."
)


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    command.add_argument("file", metavar="FILE", help="text file, or JSONL with one object a line")
    tokenizer = "path of a tokenizer.json, or the name of a model that has one (asks huggingface.co)"
    command.add_argument("--tokenizer", metavar="NAME", required=True, help=tokenizer)
    command.add_argument("--field", metavar="NAME", help="field of a JSONL object that holds the text; the usual ones when left out")
    command.add_argument("--limit", metavar="MIB", default="1024", help="megabytes of the file that are read; the rest is taken to be alike")
    command.add_argument("--packing", choices=get_args(Data.model_fields["packing"].annotation), default="packed", help="how samples become sequences")
    add_json(command)


def execute(options: argparse.Namespace) -> None:
    """Count and print."""
    from planner.workload.counting import count_file, tokenizer_of

    limit = units.parse_number(options.limit, "limit", above_zero=True)
    counted = count_file(options.file, tokenizer_of(options.tokenizer), options.field, int(limit * units.MIB))
    data = counted.data | {"packing": options.packing}
    if options.json:
        emit_json({"data": data, "tokens": counted.tokens, "read": counted.read, "whole": counted.whole, "remarks": list(counted.remarks)})
        return
    rows = [("samples", f"{counted.samples:,}"), ("mean", f"{counted.tokens / counted.read:,.1f} tokens")]
    rows += [(f"{share:.0%} have at most", f"{counted.percentile(share):,} tokens") for share in (0.5, 0.9, 0.99)]
    rows.append(("longest", f"{max(counted.lengths):,} tokens"))
    lengths = ", ".join(f"{length}: {weight:g}" for length, weight in counted.histogram.items())
    section = f"data:\n  samples: {counted.samples}\n  packing: {options.packing}\n  lengths: {{{lengths}}}"
    blocks = [table(rows), "\n".join(wrapped(line, bullet="- ") for line in counted.remarks), f"{bold('For the run file')}\n\n{section}"]
    print("\n\n".join(filter(None, blocks)))
