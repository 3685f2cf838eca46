"""Writes what a program can write into the documents: outputs in README.md, docs/cli.md from the command line's own help, and the
tables of docs/method.md that tell how far the fitted curves are off.

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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
CLI = ROOT / "docs" / "cli.md"
METHOD = ROOT / "docs" / "method.md"
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
        environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
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


def fresh_cli() -> str:
    """docs/cli.md: what every command says of itself with --help."""
    os.environ["COLUMNS"] = "100"
    sys.path.insert(0, str(ROOT))
    from planner.cli import parser

    top = parser()
    actions = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    parts = ["# Command line", "", "`python -m planner COMMAND` in a checkout, `planner COMMAND` once installed. Written by `docs/refresh.py`.", ""]
    parts += ["```text", top.format_help().rstrip(), "```", ""]
    for name, command in actions[0].choices.items():
        parts += [f"## {name}", "", "```text", command.format_help().rstrip(), "```", ""]
    return "\n".join(parts)


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


def fresh_method(text: str) -> str:
    """The document with the tables between its markers replaced."""
    for name, table in (("kernels", kernel_table()), ("collectives", collective_table())):
        head, start, rest = text.partition(f"<!-- {name}: written by docs/refresh.py -->\n")
        _, end, tail = rest.partition(f"<!-- end of {name} -->")
        text = f"{head}{start}{table}\n{end}{tail}"
    return text


def main() -> int:
    check = "--check" in sys.argv[1:]
    stale = []
    fresh = (
        (CLI, fresh_cli()),
        (METHOD, fresh_method(METHOD.read_text(encoding="utf-8"))),
        (README, fresh_readme(README.read_text(encoding="utf-8"))),
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
