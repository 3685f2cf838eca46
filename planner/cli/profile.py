"""`planner profile`: look at a measured device, compare two, carry one to another part."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from planner import units
from planner.cli.inputs import add_json
from planner.cli.output import bold, emit_json, printable, table
from planner.errors import PlanError

if TYPE_CHECKING:
    from planner.device.profile import DeviceProfile

NAME = "profile"
HELP = "show a device profile, compare two, or carry one to another accelerator"
DESCRIPTION = "What a calibration found: rates of products by size, conditions, errors of its laws. With two files: side by side."


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    command.add_argument("profile", nargs="+", metavar="FILE", help="one profile, or two to compare")
    command.add_argument("--carry-to", default=None, metavar="GPU", help="carry the profile to this accelerator of the catalogue by physical ratios")
    command.add_argument("--out", "-o", default=None, metavar="FILE", help="where the carried profile goes")
    add_json(command)


def execute(options: argparse.Namespace) -> None:
    """Show, compare or carry."""
    from planner.device import load_profile

    if len(options.profile) > 2:
        raise PlanError("profile", len(options.profile), "are more files than two", "Name one or two profiles.")
    profiles = [load_profile(path) for path in options.profile]
    if options.carry_to is not None:
        profiles = [_carried(profiles, options.carry_to, options.out)]
    elif options.out is not None:
        raise PlanError("out", options.out, "has nothing to write", "Say --carry-to GPU, or leave --out away.")
    if options.json:
        emit_json([_facts(profile) for profile in profiles])
    else:
        print(as_text(profiles))


def _carried(profiles: list[DeviceProfile], to: str, out: str | None) -> DeviceProfile:
    from planner.catalog import find_accelerator
    from planner.device.carry import carry

    if len(profiles) != 1:
        raise PlanError("profile", len(profiles), "files cannot be carried at once", "Name one.")
    made = carry(profiles[0], find_accelerator(to, "carry-to"))
    if out is not None:
        try:
            made.dump(out)
        except OSError as error:
            raise PlanError("out", out, f"cannot be written: {error.strerror or error}", "Name a file in a folder that exists.") from None
    return made


def rates(profile: DeviceProfile) -> dict[str, float]:
    """Rate of products of each number format and size [FLOP/s]."""
    from planner.device.rates import product_rates

    return {f"{dtype} {m}×{n}×{k}": rate for dtype, (m, n, k), rate in product_rates(profile)}


def _facts(profile: DeviceProfile) -> dict[str, object]:
    return {
        "name": profile.name,
        "accelerator": profile.accelerator_name,
        "basis": profile.basis,
        "source": profile.source,
        "rates_flops": rates(profile),
        "fit_errors": profile.fit_errors,
        "conditions": None if profile.conditions is None else profile.conditions.model_dump(mode="json"),
        "notes": list(profile.notes),
    }


def as_text(profiles: list[DeviceProfile]) -> str:
    """One profile, or two beside each other with the ratio of the second to the first."""
    first = profiles[0]
    found = [rates(profile) for profile in profiles]
    header = ("Product", *(printable(p.name) for p in profiles), *(("ratio",) if len(profiles) == 2 else ()))
    rows = [header]
    for name in dict.fromkeys(name for each in found for name in each):
        values = [each.get(name) for each in found]
        shown = [units.format_flops(v, per_second=True) if v is not None else "–" for v in values]
        ratio = (f"{values[1] / values[0]:.2f}" if values[0] and values[1] else "–",) if len(values) == 2 else ()
        rows.append((name, *shown, *ratio))
    blocks = [bold(" beside ".join(printable(p.name) for p in profiles)), table(rows, header=True)]
    if len(profiles) == 2 and first.conditions is not None and profiles[1].conditions is not None:
        changed = first.conditions.stale_against(profiles[1].conditions)
        blocks.append("\n".join(["Measured under other conditions:", *(f"  {line}" for line in changed)]) if changed else "Measured under the same versions.")
    blocks += [f"{printable(p.name)}: {printable(p.source)}" for p in profiles]
    return "\n\n".join(blocks)
