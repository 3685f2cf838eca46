"""Plain SVG charts for reports: no script, no font, no request. Shapes say their figures under the pointer; each chart has a sentence in words.

Colours are told apart by people with red-green colour blindness too (Okabe and Ito 2008, darkened for white paper), and every part has its label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from planner import units
from planner.estimate.result import MemoryPoint
from planner.summary import COMPONENTS, Part

WIDTH: Final = 560
COLOURS: Final = {
    "weights": "#0f766e",
    "gradients": "#d9982b",
    "optimizer": "#8e5bb5",
    "activations": "#4a7fe0",
    "logits": "#b4472f",
    "workspace": "#56b4c9",
    "communication": "#7a6a4f",
    "reserved": "#9aa6a1",
}
"""One colour per memory component, the same in every chart."""
ACCENT: Final = "#0f766e"
INK: Final = "#1b2422"
FAINT: Final = "#5f6b68"
LINE: Final = "#d5dbd9"
_CHARACTER = 6.3
_MOST_POINTS = 300


def memory_bar(parts: Sequence[Part], usable: float | None) -> str:
    """One stacked bar of what is held at the peak, with the line of what the device offers; what stands beyond it is hatched.

    Arguments
    ---------
    parts: memory by component [bytes].
    usable: memory that the device offers [bytes]; None when it is not known.
    """
    total = math.fsum(part.value for part in parts)
    highest = 1.06 * max(total, usable or 0.0, 1.0)
    scale = (WIDTH - 8) / highest
    top, height = 24, 46
    out = []
    x = 0.0
    for part in parts:
        width = part.value * scale
        colour = COLOURS.get(part.name, FAINT)
        told = f"{part.label}: {units.format_bytes(part.value)}" + (f" ({part.detail})" if part.detail else "")
        out.append(f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="{height}" fill="{colour}">{hint(told)}</rect>')
        number = units.significant(part.value / units.GIB, 3)
        clear = width if usable is None else max(0.0, min(x + width, usable * scale) - x)  # what is hatched is no ground for text
        if clear > 10 + _CHARACTER * len(number):
            out.append(_text(x + clear / 2, top + height / 2 + 4, number, fill=_on(colour), anchor="middle"))
        x += width
    if usable is not None:
        out.append(_usable_mark(usable * scale, x, top, height, usable))
    y = top + height
    for tick in _ticks(highest / units.GIB):
        out.append(
            _text(
                tick * units.GIB * scale,
                y + 18,
                f"{units.significant(tick)} GiB" if tick else "0",
                fill=FAINT,
                anchor="middle" if tick else "start",
            )
        )
    legend, bottom = _legend([(part.label, COLOURS.get(part.name, FAINT)) for part in parts], y + 34)
    largest = max(parts, key=lambda part: part.value, default=None)
    words = f"Memory at the peak: {units.format_bytes(total)}"
    words += f"; {units.format_bytes(usable)} are usable." if usable is not None else "."
    if largest is not None:
        words += f" Largest part: {largest.label}, {units.format_bytes(largest.value)}."
    return _svg(bottom, words, "".join(out) + legend)


def memory_curve(points: Sequence[MemoryPoint], usable: float | None) -> str:
    """Live memory over one step, stacked by component [bytes]; empty without points."""
    if len(points) < 2:
        return ""
    points = _thinned(points)
    peak = max(points, key=lambda p: p.allocated)
    known = {name for point in points for name, value in point.parts.items() if value}
    names = [*(name for name in COMPONENTS if name in known), *sorted(known - set(COMPONENTS))]
    left, top, plot = 44.0, 14.0, 170.0
    highest = max(peak.allocated, usable if usable is not None and usable < 2.5 * peak.allocated else 0.0, 1.0) * 1.06
    width = WIDTH - left - 8

    def at(progress: float, value: float) -> str:
        return f"{left + width * min(max(progress, 0.0), 1.0):.1f},{top + plot * (1 - value / highest):.1f}"

    out = []
    for tick in _ticks(highest / units.GIB):
        y = top + plot * (1 - tick * units.GIB / highest)
        out.append(f'<line x1="{left}" y1="{y:.1f}" x2="{WIDTH - 8}" y2="{y:.1f}" stroke="{LINE}"/>')
        out.append(_text(left - 6, y + 4, units.significant(tick), fill=FAINT, anchor="end"))
    below = [0.0] * len(points)
    for name in names:
        above = [low + point.parts.get(name, 0.0) for low, point in zip(below, points, strict=True)]
        line = [at(point.progress, value) for point, value in zip(points, above, strict=True)]
        base = [at(point.progress, value) for point, value in zip(reversed(points), reversed(below), strict=True)]
        told = f"{COMPONENTS.get(name, name)}: at most {units.format_bytes(max(point.parts.get(name, 0.0) for point in points))}"
        out.append(f'<polygon points="{" ".join(line + base)}" fill="{COLOURS.get(name, FAINT)}">{hint(told)}</polygon>')
        below = above
    if usable is not None and usable <= highest:
        y = top + plot * (1 - usable / highest)
        out.append(
            f'<line x1="{left}" y1="{y:.1f}" x2="{WIDTH - 8}" y2="{y:.1f}" stroke="{INK}" stroke-width="2" stroke-dasharray="5 4"/>'
        )
        out.append(_text(WIDTH - 8, y - 5, f"usable {units.format_bytes(usable)}", fill=FAINT, anchor="end"))
    x, y = (float(value) for value in at(peak.progress, peak.allocated).split(","))
    out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{INK}"/>')
    out.append(_text(left - 6, top - 3, "GiB", fill=FAINT, anchor="end"))
    for phase in dict.fromkeys(point.phase for point in points):
        inside = [point.progress for point in points if point.phase == phase]
        start, end = left + width * inside[0], left + width * inside[-1]
        if start > left + 1:
            out.append(
                f'<line x1="{start:.1f}" y1="{top}" x2="{start:.1f}" y2="{top + plot + 6}" stroke="{FAINT}" stroke-dasharray="2 3"/>'
            )
        if end - start > _CHARACTER * len(phase):
            out.append(_text((start + end) / 2, top + plot + 18, phase, fill=FAINT, anchor="middle"))
    legend, bottom = _legend(
        [(COMPONENTS.get(name, name), COLOURS.get(name, FAINT)) for name in names], top + plot + 34
    )
    words = f"Allocated memory over one step; the peak of {units.format_bytes(peak.allocated)} is in the {peak.phase} phase ({peak.moment})."
    return _svg(bottom, words, "".join(out) + legend)


def time_bars(parts: Sequence[Part]) -> str:
    """One bar per part of the step time [s], the longest first."""
    if not parts:
        return ""
    longest = max(part.value for part in parts)
    left, row = min(230.0, 12 + _CHARACTER * max(len(part.label) for part in parts)), 26
    room = WIDTH - left - 78
    out = []
    for i, part in enumerate(parts):
        y = 4 + i * row
        width = max(1.0, room * part.value / longest)
        out.append(_text(left - 8, y + 14, part.label, anchor="end"))
        told = f"{part.label}: {units.format_seconds(part.value)}, {units.format_percent(part.share, 2)}" + (f" ({part.detail})" if part.detail else "")
        out.append(f'<rect x="{left:.1f}" y="{y}" width="{width:.1f}" height="19" fill="{ACCENT}">{hint(told)}</rect>')
        out.append(_text(left + width + 6, y + 14, units.format_seconds(part.value, 2), fill=FAINT))
    first = max(parts, key=lambda part: part.value)
    words = f"Where a step goes: {first.label} takes {units.format_percent(first.share, 2)} of it."
    return _svg(8 + len(parts) * row, words, "".join(out))


def _usable_mark(edge: float, end: float, top: float, height: float, usable: float) -> str:
    """The dashed line of what is usable, its label, and the hatching of what stands beyond it."""
    out = f'<rect x="{edge:.1f}" y="{top}" width="{end - edge:.1f}" height="{height}" fill="url(#beyond)"/>' if end > edge else ""
    out += f'<line x1="{edge:.1f}" y1="{top - 6}" x2="{edge:.1f}" y2="{top + height + 6}" stroke="{INK}" stroke-width="2" stroke-dasharray="5 4"/>'
    return out + _text(min(max(edge, 60), WIDTH - 60), top - 10, f"usable {units.format_bytes(usable)}", fill=FAINT, anchor="middle")


def hint(text: str) -> str:
    """What is shown while the pointer rests on a shape: charts can be asked without a script."""
    return f"<title>{escape(text)}</title>"


def _svg(height: float, words: str, body: str) -> str:
    hatch = (
        '<defs><pattern id="beyond" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect width="3" height="7" fill="#ffffff" fill-opacity=".75"/></pattern></defs>'
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(words)}" xmlns="http://www.w3.org/2000/svg" '
        f'font-family="inherit" font-size="12">{hatch if "#beyond" in body else ""}{body}</svg>'
    )


def _text(x: float, y: float, text: str, *, fill: str = INK, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{fill}" text-anchor="{anchor}">{escape(text)}</text>'


def _legend(entries: Sequence[tuple[str, str]], top: float) -> tuple[str, float]:
    """Swatches with labels in as many rows as they need, and the y below them."""
    out, x, y = [], 0.0, top
    for label, colour in entries:
        width = 30 + _CHARACTER * len(label)
        if x + width > WIDTH and x:
            x, y = 0.0, y + 20
        out.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="11" height="11" fill="{colour}"/>' + _text(x + 16, y + 10, label)
        )
        x += width
    return "".join(out), y + 18


def _ticks(highest: float) -> list[float]:
    """Round numbers from 0 on, at most five below `highest`."""
    step = 10.0 ** math.floor(math.log10(highest)) if highest > 0 else 1.0
    step = next(step * factor for factor in (0.1, 0.2, 0.5, 1, 2, 5, 10) if highest / (step * factor) <= 5)
    return [i * step for i in range(math.floor(highest / step) + 1)]


def _thinned(points: Sequence[MemoryPoint]) -> list[MemoryPoint]:
    """At most about `_MOST_POINTS` points; of each stretch the lowest and the highest stay, so that no peak is lost."""
    if len(points) <= _MOST_POINTS:
        return list(points)
    size = math.ceil(2 * len(points) / _MOST_POINTS)
    kept: list[MemoryPoint] = []
    for start in range(0, len(points), size):
        stretch = range(start, min(start + size, len(points)))
        ends = {stretch[0], stretch[-1]} if start == 0 or stretch[-1] == len(points) - 1 else set()
        chosen = ends | {
            min(stretch, key=lambda i: points[i].allocated),
            max(stretch, key=lambda i: points[i].allocated),
        }
        kept += [points[i] for i in sorted(chosen)]
    return kept


def _on(colour: str) -> str:
    """White or ink, whichever reads better on a colour (relative luminance of WCAG 2, section 1.4.3)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#ffffff" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.0671 else INK
