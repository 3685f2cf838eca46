"""How a plan is computed, in sections whose symbols carry the numbers of the current plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from planner import units
from planner.estimate.engine import NOT_MODELLED
from planner.estimate.result import Estimate
from planner.summary import memory_parts, time_parts
from planner.ui.texts import EVIDENCE, plain

FURTHER: Final = (
    "Chunks of a batch that differ in length, and what padding costs.",
    "NUMA effects, other jobs on the machine, slow nodes.",
)


@dataclass(frozen=True)
class Section:
    """A titled part: paragraphs and equations in order, then a table of (name, value)."""

    title: str
    blocks: tuple[tuple[str, str], ...]
    table: dict[str, str] = field(default_factory=dict)


def sections(e: Estimate) -> list[Section]:
    """The method in order, with this plan's numbers."""
    return [
        _symbols(e),
        _graph(e),
        _memory(e),
        _time(e),
        _communication(e),
        _ladder(e),
        _crosscheck(e),
        _left_out(),
        _sources(e),
    ]


def _tex(value: float, digits: int = 3) -> str:
    """A number for LaTeX: 4{,}096, or 1.2 \\times 10^{15}."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return units.significant(value, max(digits, len(str(int(abs(value)))))).replace(",", "{,}")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return rf"{mantissa} \times 10^{{{int(exponent)}}}"


def _symbols(e: Estimate) -> Section:
    run, m = e.run, e.details["model"]
    values: tuple[tuple[str, str, Any], ...] = (
        ("b", "sequences per GPU and micro step", run.batch.micro),
        ("s", "tokens per sequence", run.batch.seq_len),
        ("h", "hidden size", m["hidden"]),
        ("L", "layers", m["layers"]),
        ("a", "attention heads", m["heads"]),
        ("a_{kv}", "key-value heads", m["kv_heads"]),
        ("d", "size of a head", m["head_dim"]),
        ("f", "feed-forward size", m["ffn"]),
        ("V", "vocabulary", m["vocab"]),
        ("n", "micro steps per step (accumulation)", run.batch.accumulation),
        ("G", "GPUs", run.hardware.gpus),
        ("T", "tokens per step", e.details["tokens_per_step"]),
    )
    table = {f"${symbol}$ {words}": units.format_integer(value) for symbol, words, value in values if value is not None}
    table["$N$ parameters"] = (
        f"{units.format_integer(e.parameters)}, {units.format_integer(e.trainable_parameters)} of them trained"
    )
    if e.details.get("peak_flops"):
        table["$P$ dense peak of the matrix products' type"] = units.format_flops(
            e.details["peak_flops"], per_second=True
        )
    return Section("Symbols of this plan", (), table)


def _graph(e: Estimate) -> Section:
    run, m = e.run, e.details["model"]
    b, s, h, f = run.batch.micro, run.batch.seq_len or 0, m["hidden"], m["ffn"]
    blocks = [
        ("text", "The model's configuration is read into a list of operations, as the training software runs them. Each operation knows its work forward and "
                 "backward, the bytes that it moves, and what autograd keeps for backward. A linear layer from $m$ to $k$ features does"),
        ("tex", r"2\,b\,s\,m\,k \ \text{forward}, \qquad 2\,b\,s\,m\,k \ \text{for its input's gradient}, \qquad 2\,b\,s\,m\,k \ \text{for its weight's gradient}"),
        ("text", "The last is there only if the weight is trained, the second only if something below is trained. That is why LoRA saves work and frozen layers "
                 "keep no inputs: nothing is corrected by a factor. One feed-forward product of this plan:"),
    ]  # fmt: skip
    if isinstance(f, int) and f > 0:
        work = 2.0 * b * s * h * f
        blocks.append(
            (
                "tex",
                rf"2\,b\,s\,h\,f = 2 \cdot {_tex(b)} \cdot {_tex(s)} \cdot {_tex(h)} \cdot {_tex(f)} = {_tex(work)}\ \text{{FLOP}}",
            )
        )
    blocks.append(
        (
            "text",
            "Fused attention multiplies queries with keys and scores with values, over the whole square of positions:",
        )
    )
    attention = 4.0 * b * m["heads"] * s * s * m["head_dim"]
    blocks.append(
        (
            "tex",
            rf"4\,b\,a\,s^2 d = 4 \cdot {_tex(b)} \cdot {_tex(m['heads'])} \cdot {_tex(s)}^2 \cdot {_tex(m['head_dim'])} = {_tex(attention)}\ \text{{FLOP forward, a layer}}",
        )
    )
    flops: dict[str, float] = {}
    for term in e.terms:
        if term.name.startswith("flops/"):
            flops[term.name.split("/")[1]] = flops.get(term.name.split("/")[1], 0.0) + term.value
    table = {phase.capitalize(): units.format_flops(value) for phase, value in flops.items()}
    return Section(
        "From a configuration to operations",
        tuple(blocks),
        {**table, "One step, all GPUs": units.format_flops(e.flops_per_step)},
    )


def _memory(e: Estimate) -> Section:
    usable = e.usable_memory_bytes
    low, high = e.peak_memory_interval_bytes
    blocks = [
        ("text", "The operations are walked forward and backward with a book of what is alive. A tensor is freed after its last use; the fullest moment is the peak:"),
        ("tex", r"M_{\text{peak}} = \max_t \Big( M_{\text{weights}} + M_{\text{gradients}}(t) + M_{\text{optimizer}} + M_{\text{activations}}(t) + M_{\text{temporaries}}(t) \Big)"
                rf" = {_tex(e.peak_memory_bytes / units.GIB)}\ \text{{GiB}}"),
        ("text", f"Here it occurs in {plain(e.peak_moment)}. The allocator holds more than tensors fill, in whole segments; the sum is compared with what the device "
                 "offers after the driver's context. A run fits when the whole 90 % interval lies below that:"),
    ]  # fmt: skip
    if usable is not None:
        sign = r"\le" if high <= usable else r">"
        blocks.append(
            ("tex", rf"M_{{\text{{reserved}}}} = {_tex(e.peak_reserved_bytes / units.GIB)}\ \text{{GiB}} \in [{_tex(low / units.GIB)},\ {_tex(high / units.GIB)}], \qquad "
                    rf"{_tex(high / units.GIB)} {sign} {_tex(usable / units.GIB)} = M_{{\text{{usable}}}}")
        )  # fmt: skip
    table = {
        part.label: f"{units.format_bytes(part.value)} ({units.format_percent(part.share, 2)})"
        for part in memory_parts(e)
    }
    return Section("Memory of a step", tuple(blocks), table)


def _time(e: Estimate) -> Section:
    blocks = (
        ("text", "Each kernel takes the time of its compute and its memory traffic, joined smoothly, and a launch. Matrix products are cut into tiles that fill the "
                 "processors in waves, so that odd shapes and small batches are slow by themselves:"),
        ("tex", r"t = t_{\text{launch}} + \left( t_{\text{compute}}^{\,p} + t_{\text{memory}}^{\,p} \right)^{1/p}, \qquad t_{\text{compute}} \ge \frac{2\,m\,n\,k}{P}, \qquad t_{\text{memory}} \ge \frac{\text{bytes}}{B}"),
        ("text", "A stretch of the model takes the sum of its kernels, or the time in which the processor can issue them, whichever is longer. A step is"),
        ("tex", r"t_{\text{step}} = n \cdot \sum_{\text{stretches}} \max\Big(\sum t,\ \text{operators} \cdot t_{\text{dispatch}}\Big) + t_{\text{exposed communication}} + t_{\text{optimizer}} + t_{\text{overhead}}"
                rf" = {_tex(e.step_time_s or 0.0)}\ \text{{s}}"),
    )  # fmt: skip
    blocks += _mfu(e)
    table = {
        part.label: f"{units.format_seconds(part.value)} ({units.format_percent(part.share, 2)})"
        for part in time_parts(e)
    }
    return Section("Time of a step", blocks, table)


def _mfu(e: Estimate) -> tuple[tuple[str, str], ...]:
    peak = e.details.get("peak_flops")
    if e.mfu is None or not e.step_time_s or not peak:
        return ()
    work = e.mfu * e.step_time_s * e.run.hardware.gpus * peak
    shown = rf"\frac{{{_tex(work)}}}{{{_tex(e.step_time_s)} \cdot {e.run.hardware.gpus} \cdot {_tex(peak)}}} = {_tex(100 * e.mfu, 2)}\,\%"
    return (
        (
            "text",
            "Model FLOP utilisation sets the model's work, without recomputation, against the peak (Chowdhery et al. 2022, app. B):",
        ),
        ("tex", r"\text{MFU} = \frac{F_{\text{model}}}{t_{\text{step}}\, G\, P} = " + shown),
    )


def _communication(e: Estimate) -> Section:
    blocks = [
        ("text", "Data-parallel GPUs exchange gradients once a step, or gather and scatter sharded weights block by block. A collective of $S$ bytes is a line with a ramp, "
                 "the fastest of the library's algorithms:"),
        ("tex", r"t(S) = \alpha + \beta S + \gamma \sqrt{\beta S}, \qquad t_{\text{exposed}} = \sum \max(0,\ t_{\text{collective}} - t_{\text{compute beside it}})"),
    ]  # fmt: skip
    exposed = sum(term.value for term in e.terms if term.name.startswith("time/communication"))
    if e.run.hardware.gpus == 1:
        blocks.append(("text", "This plan has one GPU: nothing is exchanged."))
        return Section("Communication", tuple(blocks))
    table = {
        "Exposed in a step": units.format_seconds(exposed),
        "GPUs of one machine": str(e.run.hardware.gpus_per_node),
        "Sharing": plain(e.run.parallel.sharding),
    }
    return Section("Communication", tuple(blocks), table)


def _ladder(e: Estimate) -> Section:
    lines = "\n".join(f"{i}. **{name}**: {words}" for i, (name, (_, _, words)) in enumerate(EVIDENCE.items(), 1))
    text = f"Trusted in this order:\n\n{lines}\n\nThis plan is **{e.basis}**. {plain(e.interval_note)} The interval holds 90 % of comparable measured runs that were not used to make it."
    return Section("Evidence", (("text", text),))


def _crosscheck(e: Estimate) -> Section:
    check, tokens = e.details["crosscheck"], e.details["tokens_per_step"]
    six, sixteen = check["six_nd_flops"], check["sixteen_bytes_per_parameter"]
    states = sum(part.value for part in memory_parts(e) if part.name in ("weights", "gradients", "optimizer")) * (
        e.run.dp if _sharded(e) else 1
    )
    blocks = (
        ("text", "Two rules of thumb, printed beside the estimate. They hold for full training of large models with short sequences (Kaplan et al. 2020; "
                 "Rajbhandari et al. 2020); where they differ, the reasons are in the tables above: frozen weights, attention, recomputation, number formats."),
        ("tex", rf"6\,N\,T = 6 \cdot {_tex(e.parameters)} \cdot {_tex(tokens)} = {_tex(six)}\ \text{{FLOP}}, \qquad \text{{counted: }} {_tex(e.flops_per_step)} = {_tex(e.flops_per_step / six, 2)} \times"),
        ("tex", rf"16\,\text{{B}} \cdot N = {_tex(sixteen / units.GIB)}\ \text{{GiB}}, \qquad \text{{weights, gradients, optimizer here: }} {_tex(states / units.GIB)}\ \text{{GiB}}"),
    )  # fmt: skip
    return Section("Closed-form cross-check", blocks)


def _sharded(e: Estimate) -> bool:
    return e.run.parallel.sharding == "zero3"


def _left_out() -> Section:
    return Section(
        "What is not modelled", (("text", "\n".join(f"- {plain(line)}" for line in (*NOT_MODELLED, *FURTHER))),)
    )


def _sources(e: Estimate) -> Section:
    counts = Counter(part for term in e.terms for part in term.source.split("; ") if part)
    lines: Sequence[str] = [
        f"- {plain(source)} ({count} {'term' if count == 1 else 'terms'})" for source, count in counts.most_common()
    ]
    return Section("Sources of this plan", (("text", "\n".join(lines)),))
