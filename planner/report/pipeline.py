"""A pipeline as it is shown: which rank works on what when, and how full each kind of stage becomes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final, NamedTuple

from planner import units
from planner.estimate.curve import StageView
from planner.estimate.pipeline import Timeline
from planner.estimate.result import Estimate, MemoryPoint
from planner.report import svg
from planner.report.svg import FAINT, INK, LINE, WIDTH

KINDS: Final = {"F": "forward", "B": "backward", "I": "backward of activations", "W": "gradients of weights"}
COMPONENTS: Final = {"F": "weights", "B": "activations", "I": "activations", "W": "gradients"}
"""Memory component whose colour a kind of work has; backward is one colour whether or not its weight gradients are apart."""
COLOURS: Final = {kind: svg.COLOURS[name] for kind, name in COMPONENTS.items()}
LINES: Final = ("#0f766e", "#b4472f", "#4a7fe0", "#8e5bb5", "#d9982b", "#7a6a4f")
MOST_ROWS: Final = 16
MOST_BARS: Final = 3000


class Bar(NamedTuple):
    """One piece of work. row: of those shown · stage · start, end [s]."""

    row: int
    stage: int
    kind: str
    chunk: int
    batch: int
    start: float
    end: float


def timeline_of(e: Estimate) -> Timeline | None:
    """The simulated schedule of a run with stages."""
    found: Timeline | None = e.details.get("timeline")
    return found


def stages_of(e: Estimate) -> tuple[StageView, ...]:
    """The different stages of a run, in the order of the model; none without stages."""
    found: tuple[StageView, ...] = e.details.get("stages", ())
    return tuple(sorted(found, key=lambda view: view.indices[0]))


def rows(timeline: Timeline) -> list[int]:
    """Stages that are drawn: all, or evenly chosen ones with the first and the last."""
    count = len(timeline.busy)
    if count <= MOST_ROWS:
        return list(range(count))
    return sorted({round(i * (count - 1) / (MOST_ROWS - 1)) for i in range(MOST_ROWS)})


def bars(timeline: Timeline) -> list[Bar]:
    """The work that is drawn, from the start on: all that is simulated, or as much as a chart can hold."""
    chosen = {stage: row for row, stage in enumerate(rows(timeline))}
    found = [Bar(chosen[stage], stage, *work, start, end) for stage, work, start, end in timeline.spans if stage in chosen]
    found.sort(key=lambda bar: bar.start)
    return found[:MOST_BARS]


def name_of(view: StageView, of: int) -> str:
    """Stages in words: "stage 1", "stages 2 to 7 of 8"."""
    first, last = view.indices[0] + 1, view.indices[-1] + 1
    return f"stage {first} of {of}" if first == last else f"stages {first} to {last} of {of}"


def layers_text(view: StageView) -> str:
    """Layers of a stage; of several chunks each."""
    total = sum(view.layers)
    return f"{total}" if len(view.layers) == 1 else f"{total} ({' + '.join(map(str, view.layers))})"


def sentence(timeline: Timeline) -> str:
    """What the timeline says, in words."""
    batches = {work[2] for _, work, _, _ in timeline.spans}
    chunks = f", {timeline.chunks} chunks a stage" if timeline.chunks > 1 else ""
    said = f"{timeline.schedule} over {len(timeline.busy)} stages{chunks}: the busiest stage waits {units.format_percent(timeline.bubble, 2)} of the time."
    if len(batches) < timeline.micro:
        said += f" Shown are {len(batches)} of {units.format_integer(timeline.micro)} micro batches; the others repeat the same pattern."
    return said


def waits(timeline: Timeline, stage: int) -> float:
    """Share of the step's passes in which a stage waits."""
    return max(0.0, 1.0 - timeline.busy[stage] / timeline.total)


def table(e: Estimate) -> tuple[tuple[str, ...], ...]:
    """Stages, their layers, seconds of work, waiting, and peak memory, as text."""
    timeline, views = timeline_of(e), stages_of(e)
    if timeline is None:
        return ()
    return tuple(
        (
            name_of(view, len(timeline.busy)).capitalize(),
            layers_text(view),
            units.format_seconds(timeline.busy[view.indices[0]]),
            units.format_percent(waits(timeline, view.indices[0]), 2),
            units.format_bytes(view.peak),
        )
        for view in views
    )


def timeline_svg(timeline: Timeline | None) -> str:
    """Stages over time as plain SVG; empty without stages."""
    if timeline is None:
        return ""
    shown, drawn = rows(timeline), bars(timeline)
    left, top, height = 62.0, 6.0, 15.0
    end = max(bar.end for bar in drawn)
    scale = (WIDTH - left - 8) / end
    out = []
    for row, stage in enumerate(shown):
        y = top + row * (height + 3)
        hint = svg.hint(f"Stage {stage + 1}: works {units.format_seconds(timeline.busy[stage])}, waits {units.format_percent(waits(timeline, stage), 2)}")
        out.append(f'<rect x="{left}" y="{y:.1f}" width="{WIDTH - left - 8:.1f}" height="{height}" fill="{LINE}" fill-opacity=".45">{hint}</rect>')
        out.append(f'<text x="{left - 8}" y="{y + 12:.1f}" fill="{FAINT}" text-anchor="end">stage {stage + 1}</text>')
    for kind in dict.fromkeys(bar.kind for bar in drawn):
        path = ""
        for bar in (bar for bar in drawn if bar.kind == kind):
            x, width = left + bar.start * scale, max((bar.end - bar.start) * scale - 0.4, 0.2)
            path += f"M{x:.2f},{top + bar.row * (height + 3):.1f}h{width:.2f}v{height}H{x:.2f}z"
        out.append(f'<path d="{path}" fill="{COLOURS[kind]}">{svg.hint(KINDS[kind].capitalize())}</path>')
    y = top + len(shown) * (height + 3) + 12
    out.append(f'<text x="{left}" y="{y}" fill="{FAINT}">0</text>')
    out.append(f'<text x="{WIDTH - 8}" y="{y}" fill="{FAINT}" text-anchor="end">{escape(units.format_seconds(end))}</text>')
    legend = [(KINDS[kind], COLOURS[kind]) for kind in KINDS if any(bar.kind == kind for bar in drawn)]
    out.append(_legend([*legend, ("waiting", LINE)], y + 10))
    return _svg(y + 28, sentence(timeline), "".join(out))


def stages_svg(e: Estimate) -> str:
    """Memory of one rank of each kind of stage over a step, as plain SVG; empty without stages."""
    views = stages_of(e)[: len(LINES)]
    if not views:
        return ""
    usable, left, top, plot = e.usable_memory_bytes, 44.0, 14.0, 150.0
    most = max(view.peak for view in views)
    highest = 1.06 * max(most, usable if usable is not None and usable < 2.5 * most else 0.0)
    width = WIDTH - left - 8
    out = [f'<line x1="{left}" y1="{top + plot}" x2="{WIDTH - 8}" y2="{top + plot}" stroke="{LINE}"/>']
    out.append(f'<text x="{left - 6}" y="{top + 4}" fill="{FAINT}" text-anchor="end">{units.significant(highest / units.GIB, 2)}</text>')
    out.append(f'<text x="{left - 6}" y="{top + plot}" fill="{FAINT}" text-anchor="end">0 GiB</text>')
    for view, colour in zip(views, LINES, strict=False):
        line = " ".join(f"{left + width * p.progress:.1f},{top + plot * (1 - p.allocated / highest):.1f}" for p in thin(view.curve))
        told = svg.hint(f"{name_of(view, e.run.parallel.pp).capitalize()}: {units.format_bytes(view.peak)} at the peak")
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6">{told}</polyline>')
    if usable is not None and usable <= highest:
        y = top + plot * (1 - usable / highest)
        out.append(f'<line x1="{left}" y1="{y:.1f}" x2="{WIDTH - 8}" y2="{y:.1f}" stroke="{INK}" stroke-width="2" stroke-dasharray="5 4"/>')
    names = [(name_of(view, e.run.parallel.pp), colour) for view, colour in zip(views, LINES, strict=False)]
    out.append(_legend(names, top + plot + 16))
    return _svg(top + plot + 34, stages_sentence(e), "".join(out))


def stages_sentence(e: Estimate) -> str:
    """How full each kind of stage becomes, in words."""
    said = ", ".join(f"{name_of(view, e.run.parallel.pp)} {units.format_bytes(view.peak)}" for view in stages_of(e))
    return f"Allocated memory at the peak: {said}."


def thin(points: Sequence[MemoryPoint], most: int = 240) -> list[MemoryPoint]:
    """At most about so many points; of every stretch the highest stays."""
    every = list(points)
    size = max(1, -(-len(every) // most))
    return [max(every[i : i + size], key=lambda p: p.allocated) for i in range(0, len(every), size)]


def _legend(entries: Sequence[tuple[str, str]], y: float) -> str:
    out, x = [], 0.0
    for label, colour in entries:
        out.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="11" height="11" fill="{colour}"/>')
        out.append(f'<text x="{x + 16:.1f}" y="{y + 10:.1f}" fill="{INK}">{escape(label)}</text>')
        x += 30 + 6.3 * len(label)
    return "".join(out)


def _svg(height: float, words: str, body: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(words)}" xmlns="http://www.w3.org/2000/svg" '
        f'font-family="inherit" font-size="12">{body}</svg>'
    )
