"""Samples into a profile: the laws of the defaults with the published curves as prior, and what they miss as measured residuals.

The efficiency laws are fitted first, starting from the curves that the device would have had without a measurement; a weak prior keeps
what the samples do not determine. What remains near the measured shapes becomes a correction (`planner.device.measured`), so that few
samples refine the prior and many replace it.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, cast

import numpy as np

from planner.calibrate.benchmarks.sustained import PRODUCT
from planner.calibrate.benchmarks.transfers import BESIDE
from planner.calibrate.fit_attention import fit_attention
from planner.calibrate.fit_summary import LEAST_CASES, SCALE, correction, summary, table_of
from planner.calibrate.fit_updates import hosts, updates
from planner.calibrate.hardware import Hardware
from planner.calibrate.prior import prior_profile
from planner.calibrate.result import Sample
from planner.device.conditions import Conditions
from planner.device.gemm import Gemm, GemmCurve, Layout
from planner.device.measured import Correction, Measured, Table
from planner.device.profile import DeviceProfile
from planner.device.solver import FloatArray, soft_l1_fit
from planner.device.stream import StreamCurve

_LEAST_HELD: Final = 0.5
"""A device that holds less than this of its rate is broken, or was busy."""


def fit_profile(
    hardware: Hardware,
    samples: Sequence[Sample],
    conditions: Conditions,
    *,
    context_bytes: float | None = None,
    workspace_bytes: float | None = None,
    collectives: dict[str, Correction] | None = None,
) -> DeviceProfile:
    """The profile that the samples and the prior of this device give; basis "calibrated".

    context_bytes: memory that the driver took outside of the allocator [bytes] · workspace_bytes: of a library of products [bytes] ·
    collectives: see `planner.calibrate.distributed`.
    """
    prior = prior_profile(hardware, samples)
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[sample.benchmark].append(sample)
    errors: dict[str, dict[str, float]] = {}
    products = groups["matmul"] + groups["batched"] + groups["low_precision"] + groups["grouped"]
    gemm, corrections = _products(prior, products, errors)
    attention, attention_corrections = fit_attention(prior, gemm, groups["attention"] + groups["backends"], errors)
    tables = _tables(groups["operators"] + groups["compiled"])
    dispatch, backward_dispatch = _dispatch(prior, hardware, groups, tables)
    stream = _stream(prior, tables, groups["memory"])
    steps = groups["optimizer"] + groups["fused_optimizer"] + groups["eight_bit"]
    for layout, part in _by_layout(groups["convolution"]).items():
        dtype = layout.split("/")[0]
        if dtype in gemm:
            corrections[layout] = correction(part, _law(prior, dtype, gemm[dtype]), _sizes)
    queued = {} if hardware.synchronous else updates(steps + groups["clipping"])
    if "adamw" in queued:  # other optimizers move their bytes as quickly
        rate = queued["adamw"].rate / prior.memory_bandwidth
        stream = stream.model_copy(update={"fractions": stream.fractions | {"optimizer": rate}})
    measured = Measured(
        synchronous=hardware.synchronous,
        backward_dispatch_seconds=backward_dispatch,
        operators=tables,
        dequantize=_dequantize(groups["dequantize"]),
        host_link=_host_link(groups["transfers"]),
        context_bytes=context_bytes,
        collectives=collectives or {},
        products=corrections,
        attention=attention_corrections,
        workspace_bytes=workspace_bytes,
        optimizer=hosts(steps) if hardware.synchronous else {},
        clip=hosts(groups["clipping"]) if hardware.synchronous else {},
        updates=queued,
    )
    fitted = DeviceProfile(
        **{
            **dict(prior),
            "name": f"{conditions.device}, measured {conditions.date[:10]}",
            "basis": "calibrated",
            "source": f"{len(samples)} cases measured on {conditions.device} at {conditions.date}",
            "gemm": gemm,
            "attention": attention,
            "stream": stream,
            "launch_seconds": stream.launch_s,
            "dispatch_seconds": dispatch,
            "sustained": {},
            "fit_errors": errors,
            "memory_bytes": hardware.memory_bytes,
            "measured": measured,
            "conditions": conditions,
            "notes": prior.notes,
        }
    )
    held = _sustained(fitted, groups["sustained"])
    if held:
        fitted = fitted.with_sustained(**held)
    beside = _beside(fitted, groups["transfers"])
    return fitted if beside is None else fitted.model_copy(update={"measured": measured.model_copy(update={"beside": beside})})


def _text(sample: Sample, name: str) -> str:
    return str(sample.case[name])


def _number(sample: Sample, name: str) -> float:
    return float(sample.case[name])


# -- matrix products -----------------------------------------------------------------------------------------------------------------------------


def _products(
    prior: DeviceProfile, samples: Sequence[Sample], errors: dict[str, dict[str, float]]
) -> tuple[dict[str, GemmCurve], dict[str, Correction]]:
    curves: dict[str, GemmCurve] = dict(prior.gemm)
    corrections: dict[str, Correction] = {}
    for dtype in sorted({_text(s, "dtype") for s in samples} & set(prior.gemm)):
        own = [s for s in samples if s.case["dtype"] == dtype]
        if len(own) < LEAST_CASES:
            continue
        curve = curves[dtype] = _gemm(prior, dtype, own)
        law = _law(prior, dtype, curve)
        missed: list[float] = []
        for layout in ("forward", "dgrad", "wgrad"):
            of_layout = [s for s in own if s.case["layout"] == layout]
            if len(of_layout) >= LEAST_CASES:
                made = correction(of_layout, law, _sizes)
                corrections[f"{dtype}/{layout}"] = made
                missed += made.left_out()
        if missed:
            errors[f"gemm/{dtype}"] = summary(missed)
    return curves, corrections


def _sizes(sample: Sample) -> tuple[float, float, float, float]:
    m, n, k, batch = (_number(sample, name) for name in ("m", "n", "k", "batch"))
    return m, n, k, batch


def _by_layout(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = defaultdict(list)
    for s in samples:
        found[f"{s.case['dtype']}/convolution/{s.case['layout']}"].append(s)
    return found


def _law(prior: DeviceProfile, dtype: str, curve: GemmCurve) -> Any:
    bound = Gemm(curve, prior.peak_flops[dtype], prior.memory_bandwidth, prior.sm_count, prior.l2_bytes)

    def seconds(s: Sample) -> float:
        m, n, k, batch = _sizes(s)
        return float(bound.seconds(m, n, k, batch, layout=cast(Layout, s.case["layout"])))

    return seconds


def _gemm(prior: DeviceProfile, dtype: str, samples: Sequence[Sample]) -> GemmCurve:
    """Six parameters, as logarithms of what the prior's are multiplied with."""
    base = prior.gemm[dtype]

    def curve(x: FloatArray) -> GemmCurve:
        f = [float(v) for v in np.exp(x)]
        return base.model_copy(
            update={
                "tiles": tuple(t.model_copy(update={"efficiency": t.efficiency * f[0]}) for t in base.tiles),
                "launch_s": base.launch_s * f[1],
                "prologue_k": base.prologue_k * f[2],
                "wave_s": base.wave_s * f[3],
                "cached": base.cached * f[4],
                "spilled": base.spilled * f[5],
            }
        )

    seen = np.log([s.seconds for s in samples])

    def residual(x: FloatArray) -> FloatArray:
        law = _law(prior, dtype, curve(x))
        return np.log([law(s) for s in samples]) - seen

    bound = np.full(6, 2.5)
    return curve(soft_l1_fit(residual, np.zeros(6), -bound, bound, scale=SCALE, prior=0.5))


# -- memory-bound operators, dispatch, optimizer ---------------------------------------------------------------------------------------------------


def _tables(samples: Sequence[Sample]) -> dict[str, Table]:
    points: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for s in samples:
        run = "backward" if s.case["backward"] else "forward"
        moved = _number(s, "moved")
        points[f"{s.case['operator']}/{s.case['dtype']}/{run}"][moved].append(s.seconds)
    tables = {key: table_of({moved: statistics.median(times) for moved, times in found.items()}) for key, found in points.items()}
    for kind, members in KINDS.items():  # what an operator without a table is taken for: the middle of its kind
        for dtype in {key.split("/")[1] for key in points}:
            for run in ("forward", "backward"):
                own = [tables[k] for m in members if (k := f"{m}/{dtype}/{run}") in tables]
                grid = sorted({moved for table in own for moved in table.moved})
                if grid:
                    tables[f"{kind}/{dtype}/{run}"] = table_of(
                        {moved: statistics.median(t.at(moved) for t in own) for moved in grid}
                    )
    return tables


KINDS: Final = {
    "elementwise": ("mul", "residual", "scale", "relu", "contiguous", "cast"),
    "reduction": ("softmax", "log_softmax", "layer_norm", "mean"),
}
"""Operators whose middle stands for all others of their kind."""


def _dequantize(samples: Sequence[Sample]) -> dict[str, Table]:
    """Times by format, which the graph's kernels of that kind read by the bytes they move."""
    times: dict[str, dict[float, float]] = defaultdict(dict)
    for s in samples:
        times[_text(s, "format")][_number(s, "moved")] = s.seconds
    return {name: table_of(points) for name, points in times.items()}


def _host_link(samples: Sequence[Sample]) -> float | None:
    """Rate of the largest pinned copies, the slower of both directions [B/s]."""
    pinned = [s for s in samples if s.case["pinned"] and not s.case["beside"]]
    rates: dict[str, float] = {}
    for s in pinned:
        direction = _text(s, "direction")
        rates[direction] = max(rates.get(direction, 0.0), _number(s, "bytes") / s.seconds)
    return min(rates.values()) if len(rates) == 2 else None


def _sustained(profile: DeviceProfile, samples: Sequence[Sample]) -> dict[str, float]:
    """Rate of products held for seconds over that of a burst, of the formats that draw most power; operators between them keep their time."""
    each = {_number(s, "rounds"): s.seconds / _number(s, "rounds") for s in samples}
    if len(each) < 2:
        return {}
    burst, steady = each[min(each)], each[max(each)]
    product = min(burst, float(profile.matmul_seconds(*PRODUCT, "bf16")))
    held = max(_LEAST_HELD, product / (product + max(0.0, steady - burst)))
    return {dtype: held for dtype in ("bf16", "fp16", "fp8", "tf32") if profile.supports(dtype)}


def _beside(profile: DeviceProfile, samples: Sequence[Sample]) -> float | None:
    """What of the shorter a pinned copy and a product hide of each other: (product + copy - both at once) / shorter; the middle of all copies."""
    alone = {(s.case["bytes"], s.case["direction"]): s.seconds for s in samples if s.case["pinned"] and not s.case["beside"]}
    m, n, k = BESIDE
    product = float(profile.matmul_seconds(m, n, k, "bf16")) if profile.supports("bf16") else 0.0
    found = []
    for s in samples:
        copy = alone.get((s.case["bytes"], s.case["direction"]))
        if s.case["beside"] and copy is not None and product:
            found.append(min(1.0, max(0.0, (product + copy - s.seconds) / min(product, copy))))
    return statistics.median(found) if found else None


def _stream(prior: DeviceProfile, tables: dict[str, Table], copies: Sequence[Sample]) -> StreamCurve:
    """Fractions of the bandwidth at the largest size, and the least time of a kernel."""
    curve, fractions = prior.stream, dict(prior.stream.fractions)
    for kind in KINDS:
        found = [t for key, t in tables.items() if key.startswith(f"{kind}/") and key.endswith("/forward")]
        rates = [t.moved[-1] / t.seconds[-1] / prior.memory_bandwidth for t in found]
        if rates:
            ratio = max(rates) / fractions[kind]
            fractions[kind] = max(rates)
            same = ("copy", "optimizer") if kind == "elementwise" else ("norm", "fused_norm", "norm_backward", "softmax")
            for name in same:
                if name in fractions:
                    fractions[name] *= ratio
    if copies:
        fractions["copy"] = max(_number(s, "moved") / s.seconds for s in copies) / prior.memory_bandwidth
    smallest = [t.seconds[0] for key, t in tables.items() if key.startswith("elementwise/")]
    launch = min([curve.launch_s, *smallest]) if smallest else curve.launch_s
    return curve.model_copy(update={"fractions": fractions, "launch_s": launch})


def _dispatch(
    prior: DeviceProfile, hardware: Hardware, groups: dict[str, list[Sample]], tables: dict[str, Table]
) -> tuple[float, float | None]:
    """Host time of one kernel, forward and backward [s].

    On a device behind a queue that is the block's time over its kernels. A processor runs the kernels in the same time, so what lone
    operators of this size take is left out.
    """
    found: dict[bool, float] = {}
    for s in groups["overhead"]:
        backward = bool(s.case["backward"])
        one = s.seconds / _number(s, "kernels")
        if hardware.synchronous:
            run = "backward" if backward else "forward"
            small = [t.seconds[0] for key, t in tables.items() if key.endswith(f"/fp32/{run}")]
            one = max(0.0, one - (statistics.median(small) if small else 0.0))
        found[backward] = one
    forward = found.get(False)
    if forward is None:
        return prior.dispatch_seconds, None
    return max(forward, 1e-7), found.get(True)
