"""Writes what a program can write into the documents: docs/cli.md from the command line's own help, the outputs of the examples in
README.md, whatever stands between markers there and in docs/method.md, and the schema of the JSON report.

    python docs/refresh.py            write
    python docs/refresh.py --check    exit 1 and name the files that are out of date

In README.md every ```sh or ```python block runs, and a ```text block right after one holds its output. Blocks that install
something or start the app do not run here.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
README = ROOT / "README.md"
CLI = ROOT / "docs" / "cli.md"
COVERAGE = ROOT / "docs" / "coverage.md"
METHOD = ROOT / "docs" / "method.md"
LIMITS = {"ENGLISH": ROOT / "docs" / "limits.md", "CHINESE": ROOT / "docs" / "limits.zh.md"}
TUTORIALS = tuple(sorted((ROOT / "docs").glob("tutorial-*.md")))
DEVICE_DATA = ROOT / "planner" / "device" / "data"

BLOCK = re.compile(
    r"^```(?P<language>sh|python)\n(?P<code>.*?)^```\n(?P<answer>\n```text\n(?P<output>.*?)^```\n)?", re.DOTALL | re.MULTILINE
)
NOT_HERE = ("-m venv", "scripts/", "streamlit run", "benchmarks/")
"""Parts of commands that set up, serve, measure or test; the tests check that the files they name exist."""


@dataclass(frozen=True)
class Block:
    """One runnable block of a document and the output printed below it (None when none is shown)."""

    language: str
    code: str
    output: str | None

    @property
    def runs(self) -> bool:
        return not any(part in self.code for part in NOT_HERE)


def blocks(text: str) -> Iterator[Block]:
    for match in BLOCK.finditer(text):
        yield Block(match["language"], match["code"], match["output"])


def run(block: Block) -> str:
    """Standard output of a block, run by this Python in a throwaway copy of `examples/`. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "examples", Path(folder) / "examples")
        environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "110", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
        if block.language == "sh":
            code = re.sub(r"^(\.venv/bin/)?python ", f"{sys.executable} ", block.code, flags=re.MULTILINE)
            command = ["bash", "-euo", "pipefail", "-c", code]
        else:
            command = [sys.executable, "-c", block.code]
        return subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, encoding="utf-8", timeout=300).stdout


def fresh_readme(text: str) -> str:
    """The document with every shown output replaced by what its block prints now."""

    def replace(match: re.Match[str]) -> str:
        block = Block(match["language"], match["code"], match["output"])
        if block.output is None or not block.runs:
            return match[0]
        return f"```{block.language}\n{block.code}```\n\n```text\n{run(block).rstrip()}\n```\n"

    return BLOCK.sub(replace, text)


def _argument(action: argparse.Action) -> str:
    """One argument as a row. Written here and not by argparse, whose layout differs between Python versions."""
    value = action.metavar if isinstance(action.metavar, str) else "|".join(map(str, action.choices)) if action.choices else action.dest.upper()
    takes = "" if action.nargs == 0 else value.replace("|", "\\|")
    names = ", ".join(action.option_strings) or takes
    shown = names if not action.option_strings or not takes else f"{names} {takes}"
    return f"| `{shown}` | {(action.help or '').replace('|', chr(92) + '|') % {'default': action.default}} |"


def fresh_cli() -> str:
    """docs/cli.md: what every command says of itself."""
    from planner.cli import parser
    from planner.cli.doctor import fields

    top = parser()
    commands = next(action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    parts = [
        "# Command line", "",
        "`python -m planner COMMAND` in a checkout, `planner COMMAND` once installed. Written by `docs/refresh.py` from the commands themselves.", "",
        top.epilog or "", "",
        "Exit codes: 0 done; 2 bad input, with one line on stderr that names the field and the fix; 1 a fault of ours.", "",
    ]  # fmt: skip
    for name, command in commands.choices.items():
        shown = [action for action in command._actions if action.help != argparse.SUPPRESS and action.dest != "help"]
        parts += [f"## {name}", "", command.description or "", "", "| argument | meaning |", "|---|---|", *map(_argument, shown), ""]
    parts += ["## Fields of a run file", "", "| field | takes | default | meaning |", "|---|---|---|---|"]
    for row in fields():
        also = f" Also `{row['also']}`." if row["also"] else ""
        cells = (f"`{row['field']}`", row["takes"], row["default"], row["description"] + also)
        parts.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(parts) + "\n"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def kernel_table() -> str:
    """Errors of the kernel curves on shapes that no fit has seen."""
    devices = json.loads((DEVICE_DATA / "curves.json").read_text(encoding="utf-8"))["devices"]
    lines = ["| accelerator | kernels | shapes | median error | 90 % below |", "|---|---|--:|--:|--:|"]
    for device in devices.values():
        for kind, label in (("gemm/bf16", "matrix products, bf16"), ("gemm/fp8", "matrix products, fp8"), ("attention", "fused attention")):
            if kind in device["errors"]:
                e = device["errors"][kind]
                lines.append(f"| {device['accelerator']} | {label} | {e['n']:.0f} | {_percent(e['median'])} | {_percent(e['p90'])} |")
    return "\n".join(lines)


def collective_table() -> str:
    """Errors of the collectives on measurements that no fit has seen, messages of 1 MiB and more."""
    data = json.loads((DEVICE_DATA / "collectives.json").read_text(encoding="utf-8"))
    lines = ["| machine | collective | rows | median error | 90 % below |", "|---|---|--:|--:|--:|"]
    for row in data["accuracy"]:
        if row["part"] == "left out" and row["sizes"] == "1 MiB and more":
            cells = (row["hardware"], row["collective"], row["rows"], f"{row['median_error_percent']} %", f"{row['p90_error_percent']} %")
            lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def accuracy_text() -> str:
    """The record of accuracy in one paragraph."""
    from planner.evidence.accuracy import accuracy

    record = accuracy()
    seen, unseen = record["in_sample"], record["held_out"]
    tokens, memory, said = unseen["tokens"]["all"], unseen["memory"]["all"], record["verdicts"]
    ran, failed = said["ran"], said["out_of_memory"]
    sentences = (
        f"Of {seen['rows']} published training runs, {seen['predicted']} can be planned by now; they are predicted from their configuration "
        "alone, and judged in five folds, on runs that took no part in fitting constants or intervals.",
        f"Tokens per second: median error {_percent(tokens['median'])}, 90 % of {tokens['n']} runs within {_percent(tokens['p90'])}; the 90 % "
        f"interval held {_percent(tokens['coverage'])} of them.",
        "[docs/accuracy.md](docs/accuracy.md) has every source by itself.",
        f"Peak memory: median error {_percent(memory['median'])}, 90 % of {memory['n']} runs within {_percent(memory['p90'])} (which software "
        f"keeps which copy was read off some of them); the interval held {_percent(memory['coverage'])}.",
        f"Of {ran['rows']} runs that ran, {ran['fits']} are said to fit and {ran['too_close']} are too close to call; of {failed['rows']} that ran out of "
        f"memory, {failed['does_not_fit']} are said not to fit and {failed['fits']} to fit (area under the curve {said['auc']:.3f}).",
    )
    return " ".join(sentences)


def coverage_text() -> str:
    """What the registries hold now, as a list."""
    from planner.catalog import accelerators, models
    from planner.device.default import measured_parts
    from planner.errors import PlanError
    from planner.workload import read_config
    from planner.workload.families import FAMILIES
    from planner.workload.methods import METHODS
    from planner.workload.optimizers import OPTIMIZERS
    from planner.workload.stacks import STACKS

    missing: dict[str, None] = {}
    planned = 0
    for entry in models():
        try:
            read_config(entry.config)
            planned += 1
        except PlanError:
            missing[entry.config["model_type"]] = None
    return "\n".join(
        (
            f"- **Models**: {len(FAMILIES)} model types with a reader of their own, each checked against the real modules "
            f"([docs/coverage.md](docs/coverage.md)): decoders, mixtures of experts, encoders, encoder-decoders, vision, speech, vision-language, "
            f"state space and hybrids, diffusion transformers; {planned} of the {len(models())} configurations in the catalogue, and your own "
            f"`config.json`. Other types are imported by structure where torch and transformers are installed. Not yet: "
            f"{', '.join(sorted(missing)) or 'none of the catalogue'}.",
            f"- **Methods**: {', '.join(method.label for method in METHODS.values())}.",
            f"- **Optimizers**: {', '.join(OPTIMIZERS)}.",
            f"- **Training software**: {', '.join(STACKS)}.",
            f"- **Hardware**: {len(accelerators())} accelerators, {len(measured_parts())} of them with fitted kernel curves of their own; edited ones.",
        )
    )


def between_markers(text: str, parts: dict[str, Callable[[], str]]) -> str:
    """The document with what stands between the markers of each part replaced."""
    for name, write in parts.items():
        head, start, rest = text.partition(f"<!-- {name}: written by docs/refresh.py -->\n")
        if start:
            _, end, tail = rest.partition(f"<!-- end of {name} -->")
            text = f"{head}{start}{write()}\n{end}{tail}"
    return text


PARTS = {"kernels": kernel_table, "collectives": collective_table, "accuracy": accuracy_text, "coverage": coverage_text}


def fresh_limits(language: str) -> str:
    """docs/limits.md, or its translation, with tables estimated now."""
    sys.path.insert(0, str(ROOT / "docs"))
    import limits

    return between_markers(LIMITS[language].read_text(encoding="utf-8"), getattr(limits, language))


def main() -> int:
    from planner.report.schema import SCHEMA, schema_text
    from tests.oracles import coverage

    check = "--check" in sys.argv[1:]
    stale = []
    fresh = (
        (CLI, fresh_cli()),
        (METHOD, between_markers(METHOD.read_text(encoding="utf-8"), PARTS)),
        (COVERAGE, coverage.document()),
        (SCHEMA, schema_text()),
        *((path, fresh_limits(language)) for language, path in LIMITS.items()),
        *((path, fresh_readme(path.read_text(encoding="utf-8"))) for path in TUTORIALS),
        (README, fresh_readme(between_markers(README.read_text(encoding="utf-8"), PARTS))),
    )
    for path, text in fresh:
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path)
        if not check:
            path.write_text(text, encoding="utf-8")
    for path in stale:
        print(f"{path.relative_to(ROOT)} {'is out of date: run python docs/refresh.py' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
