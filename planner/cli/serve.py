"""`planner serve RUN`: can the trained model be served on the same card?"""

from __future__ import annotations

import argparse

from planner import units
from planner.cli.inputs import add_json, add_run, read_profile, read_run
from planner.cli.output import bold, emit_json, table, wrapped

NAME = "serve"
HELP = "can the trained model be served on the same card (a side feature)"
DESCRIPTION = (
    "Memory with its cache, time of the prompt and generated tokens a second of the run's model on one of its accelerators. A side feature: its times "
    "were compared with no published run."
)


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    add_run(command)
    command.add_argument("--batch", metavar="N", default="1", help="sequences at once")
    command.add_argument("--context", metavar="N", default="4096", help="tokens of a sequence at the end, prompt and answer")
    command.add_argument("--prompt", metavar="N", help="of those the prompt's; three quarters when left out")
    command.add_argument("--weights", metavar="TYPE", help="storage of the weights: bf16, fp16, int8, int4, nf4, …; as trained when left out")
    command.add_argument("--adapters", choices=("merged", "beside"), default="merged", help="added into the weights, or computed beside them")
    add_json(command)


def execute(options: argparse.Namespace) -> None:
    """Plan serving and print it."""
    from planner.estimate.serving import serving
    from planner.report.serving import rows, sentence

    found = serving(
        read_run(options.run),
        read_profile(options.profile),
        batch=units.parse_count(options.batch, "batch"),
        context=units.parse_count(options.context, "context"),
        prompt=None if options.prompt is None else units.parse_count(options.prompt, "prompt"),
        merged=options.adapters == "merged",
        weights=options.weights,
    )
    if options.json:
        emit_json(found.document())
        return
    blocks = [bold(sentence(found)), table(rows(found)), "\n".join(wrapped(line, bullet="- ") for line in found.notes)]
    print("\n\n".join(blocks))
