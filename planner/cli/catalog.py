"""`planner models` and `planner gpus`: what the catalogue knows."""

from __future__ import annotations

import argparse
from types import SimpleNamespace
from typing import Any

from planner import units
from planner.catalog import accelerators, models, price_for, snapshot_date
from planner.cli.inputs import add_json
from planner.cli.output import emit_json, table


def show_models(options: argparse.Namespace) -> None:
    """Print the models of the catalogue."""
    entries = models()
    if options.json:
        emit_json(
            [{"id": m.id, "parameters": m.parameters, "aliases": list(m.aliases), "source": m.source} for m in entries]
        )
        return
    rows = [("Model", "Parameters", "Also known as")]
    rows += [(m.id, units.format_count(m.parameters), ", ".join(m.aliases)) for m in entries]
    print(table(rows, right=(1,), indent=0, header=True))
    print(f"\n{len(entries)} models. Any other: the path to its config.json.")


def show_gpus(options: argparse.Namespace) -> None:
    """Print the accelerators of the catalogue, with the price that an estimate would take."""
    parts = [(part, price_for(part.name)) for part in accelerators()]
    if options.json:
        emit_json(
            [
                part.model_dump(mode="json") | {"price": price.model_dump(mode="json") if price else None}
                for part, price in parts
            ]
        )
        return
    rows: list[tuple[str, ...]] = [("Accelerator", "Memory", "Bandwidth", "Dense peak", "Power", "Per hour, as of")]
    for part, price in parts:
        kind = next((key for key in ("bf16", "fp16", "fp32") if key in part.peak_flops), next(iter(part.peak_flops)))
        rows.append(
            (
                part.name,
                units.format_bytes(part.memory_bytes),
                units.format_bandwidth(part.memory_bandwidth),
                f"{units.format_flops(part.peak_flops[kind], per_second=True)} {kind}",
                f"{part.tdp_w:g} W" if part.tdp_w else "–",
                f"{units.format_usd(price.usd_per_gpu_hour)}, {price.date:%Y-%m}" if price else "–",
            )
        )
    print(table(rows, right=(1, 2, 3, 4, 5), indent=0, gap=2, header=True))
    print(
        f"\n{len(parts)} accelerators. Prices: snapshot up to {snapshot_date().isoformat()}, providers with --json; your own price always counts more."
    )


def _command(name: str, help_text: str, execute: Any) -> SimpleNamespace:
    return SimpleNamespace(
        NAME=name,
        HELP=help_text,
        DESCRIPTION=help_text[:1].upper() + help_text[1:] + ".",
        arguments=add_json,
        execute=execute,
    )


models_command = _command("models", "list the models of the catalogue", show_models)
gpus_command = _command("gpus", "list the accelerators of the catalogue", show_gpus)
