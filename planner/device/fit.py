"""Fit the efficiency curves from published kernel measurements: `python -m planner.device.fit --kernels DIR --evidence DIR --out FILE`.

DIR of --kernels holds gemm.parquet and attention_forward.parquet (gpu, dtype, shape, latency_ms), DIR of --evidence the files
attention_kernels.csv and op_kernels_liger.csv. Groups of shapes chosen by a hash are left out of every fit, and the errors on them
are what the file reports. An offline tool: it needs a parquet reader (pyarrow), the package itself does not.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from planner.catalog import Accelerator, find_accelerator
from planner.device.attention import BACKWARD_FLOPS, Attention, AttentionCurve
from planner.device.gemm import Gemm, GemmCurve, Tile
from planner.device.operators import fit_streams, published_attention
from planner.device.solver import soft_l1_fit

FloatArray = NDArray[np.float64]
Columns = dict[str, FloatArray]

SOURCE: Final = (
    "AIConfigurator kernel tables (Apache-2.0; vLLM 0.14.0 to 0.24.0), FlashAttention @ 0251105a, "
    "ml-engineering @ 744d01e1, Liger-Kernel @ ead96b61"
)
SPLIT: Final = "left out of the fit: crc32 of '{n}x{k}' (attention: '{heads}x{kv_heads}x{length}') modulo 10 below 3"
PARTS: Final = {
    "a100_sxm": "A100 SXM4 80GB",
    "h100_sxm": "H100 SXM 80GB",
    "h200_sxm": "H200 SXM 141GB",
    "b200_sxm": "B200 SXM",
    "b300_sxm": "B300 SXM",
    "gb200": "GB200 (per GPU)",
    "gb300": "GB300 (per GPU)",
    "l40s": "L40S",
    "rtx_pro_6000_server": "RTX PRO 6000 Blackwell Server",
    "b60": "Arc Pro B60 24GB",
}
DTYPES: Final = {"bfloat16": ("bf16", 2.0), "fp8": ("fp8", 1.0), "nvfp4": ("fp4", 0.5625)}
TILES: Final = ((256, 256), (256, 128), (128, 256), (192, 128), (128, 192), (128, 128), (128, 64), (64, 128), (64, 64))
FIT_ROWS: Final = 4000
WORTH: Final = 0.002
"""Mean relative time that a tile must save to be kept."""

# name: (start, lower, upper)
GEMM_FREE: Final = {
    "launch_s": (2e-6, 1e-6, 5e-5),
    "prologue_k": (100.0, 5.0, 1500.0),
    "wave_s": (2e-7, 1e-9, 5e-6),
    "wave_softness": (0.3, 0.01, 1.0),
    "drift": (0.03, 0.001, 0.5),
    "split_s": (2e-6, 1e-7, 1e-4),
    "split_traffic": (0.5, 0.01, 20.0),
    "cached": (1.2, 0.2, 10.0),
    "spilled": (2.0, 0.5, 60.0),
    "cache_fraction": (0.3, 0.01, 1.0),
    "miss_span": (1.0, 0.05, 20.0),
    "blend": (3.0, 1.2, 10.0),
    "droop": (0.1, 0.001, 1.0),
    "droop_s": (5e-4, 5e-5, 2e-2),
    "droop_power": (1.0, 0.5, 8.0),
}
QUANTIZE_FREE: Final = {
    "quantize_launch_s": (2e-6, 2e-7, 5e-5),
    "quantize_row_s": (5e-9, 1e-11, 1e-7),
    "quantize_bandwidth": (0.5, 0.05, 2.0),
}
ATTENTION_FREE: Final = {
    "efficiency": (0.65, 0.05, 1.1),
    "head_exponent": (0.7, 0.05, 1.2),
    "launch_s": (6e-6, 1e-6, 1e-4),
    "tile_s": (5e-7, 1e-9, 2e-5),
    "balance": (1.5, 1.0, 10.0),
    "bandwidth": (0.5, 0.05, 3.0),
    "blend": (2.0, 1.1, 20.0),
    "key_block": (64.0, 1.0, 400.0),
}


def left_out(keys: Sequence[str]) -> NDArray[np.bool_]:
    """Which groups of shapes are never fitted: three in ten, by hash, so that anyone can repeat the split."""
    return np.array([zlib.crc32(key.encode()) % 10 < 3 for key in keys], dtype=bool)


def _sample(held: NDArray[np.bool_], rows: int = FIT_ROWS) -> NDArray[np.int64]:
    index = np.flatnonzero(~held)
    return np.asarray(np.random.default_rng(0).choice(index, min(rows, index.size), replace=False), dtype=np.int64)


def score(predicted: FloatArray, measured: FloatArray, rows: NDArray[np.bool_]) -> dict[str, float]:
    """Median and 90th percentile of the absolute relative error, median of the signed one, number of rows."""
    error = predicted[rows] / measured[rows] - 1.0
    size = np.abs(error)
    figures = {
        "median": np.median(size),
        "p90": np.quantile(size, 0.9),
        "bias": np.median(error),
        "n": float(rows.sum()),
    }
    return {name: float(f"{figure:.4g}") for name, figure in figures.items()}


def read_gemm(directory: Path, part: str, table: str) -> tuple[Columns, FloatArray, NDArray[np.bool_]]:
    """Shapes, latencies [s] and the left-out mask of one device and number format."""
    import pyarrow.parquet as parquet  # type: ignore[import-untyped]

    rows = parquet.read_table(
        directory / "gemm.parquet", filters=[("gpu", "==", part), ("dtype", "==", table)]
    ).to_pydict()
    shapes = {name: np.asarray(rows[name], dtype=np.float64) for name in ("m", "n", "k")}
    held = left_out([f"{n}x{k}" for n, k in zip(rows["n"], rows["k"], strict=True)])
    return shapes, np.asarray(rows["latency_ms"], dtype=np.float64) / 1e3, held


def read_attention(directory: Path, part: str) -> tuple[Columns, FloatArray, NDArray[np.bool_]]:
    """Shapes, latencies [s] and the left-out mask of one device: prefill kernels from 16 tokens up to head size 256."""
    import pyarrow.parquet as parquet

    # The Arc kernel takes as long with a window as without: it is no measurement of windowed attention.
    windows = [("window_size", "==", 0)] if part == "b60" else []
    filters = [("gpu", "==", part), ("seq_len", ">=", 16), ("head_dim", "<=", 256), *windows]
    table = parquet.read_table(directory / "attention_forward.parquet", filters=filters)
    rows = table.to_pydict()
    keep = np.array(["decode" not in source for source in rows["kernel_source"]], dtype=bool)
    names = ("batch_size", "num_heads", "num_key_value_heads", "seq_len", "head_dim", "window_size")
    shapes = {name: np.asarray(rows[name], dtype=np.float64)[keep] for name in names}
    keys = [
        f"{h}x{g}x{s}" for h, g, s in zip(rows["num_heads"], rows["num_key_value_heads"], rows["seq_len"], strict=True)
    ]
    return shapes, np.asarray(rows["latency_ms"], dtype=np.float64)[keep] / 1e3, left_out(keys)[keep]


def bind_gemm(curve: GemmCurve, part: Accelerator, dtype: str) -> Gemm:
    """A GEMM curve on the datasheet figures of `part`."""
    return Gemm(curve, part.peak_flops[dtype], part.memory_bandwidth, part.sm_count or 1, part.l2_bytes or 0)


def gemm_seconds(kernel: Gemm, shapes: Columns) -> FloatArray:
    """What the tables time: quantising the left operand, where the format needs it, and the product."""
    times = kernel.seconds(shapes["m"], shapes["n"], shapes["k"])
    if kernel.curve.quantize_launch_s:
        times = times + kernel.quantize_seconds(shapes["m"], shapes["k"])
    return np.asarray(times, dtype=np.float64)


def fit_gemm(
    shapes: Columns, seconds: FloatArray, part: Accelerator, dtype: str, element_bytes: float, launch_s: float | None
) -> GemmCurve:
    """GEMM curve of one number format from measured products.

    Arguments
    ---------
    shapes: columns m, n, k. seconds: measured times [s].
    launch_s: launch time known from another format [s]; then quantising the left operand is fitted beside the product.
    """
    free = {name: bound for name, bound in GEMM_FREE.items() if launch_s is None or name != "launch_s"}
    if launch_s is not None:
        free |= QUANTIZE_FREE
    fixed: dict[str, Any] = {"element_bytes": element_bytes} | ({"launch_s": launch_s} if launch_s else {})
    bounds = np.array(list(free.values()))
    logs = np.log(seconds)

    def curve(x: FloatArray, tiles: Sequence[tuple[int, int]], split_k: float) -> GemmCurve:
        values = np.exp(x)
        shaped = tuple(Tile(rows=a, columns=b, efficiency=float(e)) for (a, b), e in zip(tiles, values, strict=False))
        named = {name: float(value) for name, value in zip(free, values[len(tiles) :], strict=True)}
        return GemmCurve(tiles=shaped, split_k=split_k, **named, **fixed)

    def solve(
        tiles: Sequence[tuple[int, int]], start: FloatArray, split_k: float, iterations: int
    ) -> tuple[FloatArray, float]:
        lower = np.log(np.concatenate([np.full(len(tiles), 0.02), bounds[:, 1]]))
        upper = np.log(np.concatenate([np.full(len(tiles), 1.05), bounds[:, 2]]))

        def residual(x: FloatArray) -> FloatArray:
            return np.asarray(np.log(gemm_seconds(bind_gemm(curve(x, tiles, split_k), part, dtype), shapes)) - logs)

        x = soft_l1_fit(residual, start, lower, upper, iterations=iterations)
        return x, float(np.mean(np.sqrt(1.0 + (residual(x) / 0.05) ** 2)))

    found = []
    for depth in (256.0, 1024.0):
        for cache in (0.15, 0.6):
            start = np.log(np.concatenate([np.full(len(TILES), 0.75), bounds[:, 0]]))
            start[len(TILES) + list(free).index("cache_fraction")] = np.log(cache)
            found.append((*solve(TILES, start, depth, 40), depth))
    x, _, split_k = min(found, key=lambda item: item[1])
    kept = _winners(curve(x, TILES, split_k), part, dtype, shapes)
    tiles = [TILES[i] for i in kept]
    x, _ = solve(tiles, np.concatenate([x[kept], x[len(TILES) :]]), split_k, 40)
    return curve(x, tiles, split_k)


def _winners(curve: GemmCurve, part: Accelerator, dtype: str, shapes: Columns, most: int = 6) -> list[int]:
    """The tiles that are worth their evaluation: dropped one by one, the one whose absence costs least, down to `most`."""
    alone = [bind_gemm(curve.model_copy(update={"tiles": (tile,)}), part, dtype) for tile in curve.tiles]
    times = np.stack([gemm_seconds(kernel, shapes) for kernel in alone])
    kept, full = list(range(len(alone))), np.log(times.min(axis=0))
    while len(kept) > 1:
        losses = [float(np.mean(np.log(times[[j for j in kept if j != i]].min(axis=0)) - full)) for i in kept]
        least = int(np.argmin(losses))
        if len(kept) <= most and losses[least] > WORTH:
            break
        del kept[least]
    return kept


def attention_forward(bound: Attention, shapes: Columns) -> FloatArray:
    """Causal forward times of the table's shapes [s], full and windowed."""
    b, h, g, s, d = (shapes[name] for name in ("batch_size", "num_heads", "num_key_value_heads", "seq_len", "head_dim"))
    out = np.empty_like(b)
    for window in np.unique(shapes["window_size"]):
        rows = shapes["window_size"] == window
        out[rows] = bound.seconds(
            b[rows], h[rows], g[rows], s[rows], s[rows], d[rows], True, False, int(window) or None
        )
    return out


def bind_attention(curve: AttentionCurve, part: Accelerator) -> Attention:
    """An attention curve on the datasheet figures of `part`, bf16."""
    return Attention(curve, part.peak_flops["bf16"], part.memory_bandwidth, part.sm_count or 1)


def fit_attention(shapes: Columns, seconds: FloatArray, part: Accelerator) -> AttentionCurve:
    """Forward attention curve; the backward efficiency stands at that of the forward until published backward rates replace it."""
    bounds, logs = np.log(np.array(list(ATTENTION_FREE.values()))), np.log(seconds)

    def curve(x: FloatArray, rows: int) -> AttentionCurve:
        named = {name: float(value) for name, value in zip(ATTENTION_FREE, np.exp(x), strict=True)}
        return AttentionCurve(tile_rows=rows, backward_efficiency=named["efficiency"], **named)

    found = []
    for rows in (64, 128, 256):

        def residual(x: FloatArray, rows: int = rows) -> FloatArray:
            return np.asarray(np.log(attention_forward(bind_attention(curve(x, rows), part), shapes)) - logs)

        x = soft_l1_fit(residual, bounds[:, 0], bounds[:, 1], bounds[:, 2], scale=0.08)
        found.append((float(np.mean(np.sqrt(1.0 + (residual(x) / 0.08) ** 2))), rows, x))
    _, rows, x = min(found, key=lambda item: item[0])
    return curve(x, rows)


def fit_part(kernels: Path, key: str) -> dict[str, Any]:
    """Curves and held-out errors of one measured device."""
    part = find_accelerator(PARTS[key])
    gemm: dict[str, GemmCurve] = {}
    errors: dict[str, dict[str, float]] = {}
    for table, (dtype, element_bytes) in DTYPES.items():
        if dtype not in part.peak_flops:
            continue
        shapes, seconds, held = read_gemm(kernels, key, table)
        if not seconds.size:
            continue
        rows = _sample(held)
        launch = gemm["bf16"].launch_s if dtype != "bf16" else None
        curve = fit_gemm({n: c[rows] for n, c in shapes.items()}, seconds[rows], part, dtype, element_bytes, launch)
        gemm[dtype] = curve
        times = gemm_seconds(bind_gemm(curve, part, dtype), shapes)
        large = 2.0 * shapes["m"] * shapes["n"] * shapes["k"] > 2e10
        errors[f"gemm/{dtype}"] = score(times, seconds, held)
        errors[f"gemm/{dtype}/fitted_rows"] = score(times, seconds, ~held)
        errors[f"gemm/{dtype}/above_20_gflop"] = score(times, seconds, held & large)
    shapes, seconds, held = read_attention(kernels, key)
    rows = _sample(held)
    attention = fit_attention({n: c[rows] for n, c in shapes.items()}, seconds[rows], part)
    times = attention_forward(bind_attention(attention, part), shapes)
    errors["attention"] = score(times, seconds, held)
    errors["attention/fitted_rows"] = score(times, seconds, ~held)
    errors["attention/512_tokens_and_more"] = score(times, seconds, held & (shapes["seq_len"] >= 512))
    return {"accelerator": part.name, "gemm": gemm, "attention": attention, "errors": errors}


def print_errors(parts: dict[str, dict[str, Any]]) -> None:
    """The table of held-out errors."""
    print(f"{'device':20} {'curve':30} {'median':>8} {'p90':>8} {'bias':>8} {'n':>7}")
    for key, part in parts.items():
        for name, figures in part["errors"].items():
            print(
                f"{key:20} {name:30} {figures['median']:8.2%} {figures['p90']:8.2%} {figures['bias']:+8.2%} {figures['n']:7.0f}"
            )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return [_rounded(inner) for inner in value] if isinstance(value, list | tuple) else value


def main(argv: Sequence[str] | None = None) -> int:
    """Fit every measured device, print the held-out errors, write the curves."""
    parser = argparse.ArgumentParser(
        prog="python -m planner.device.fit", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument(
        "--kernels", type=Path, required=True, help="directory with gemm.parquet and attention_forward.parquet"
    )
    parser.add_argument(
        "--evidence", type=Path, required=True, help="directory with attention_kernels.csv and op_kernels_liger.csv"
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args(argv)
    parts = {key: fit_part(options.kernels, key) for key in PARTS}
    kernels, published = published_attention(
        options.evidence, {key: part["attention"] for key, part in parts.items()}, PARTS
    )
    for key, part in parts.items():
        part["attention"], part["attention_kernel"] = kernels[key]
        part["errors"] |= published.get(key, {})
    print_errors(parts)
    document = {
        "version": 1,
        "source": SOURCE,
        "split": SPLIT,
        "backward_flops": BACKWARD_FLOPS,
        "devices": {
            key: part
            | {"gemm": {dtype: curve.model_dump() for dtype, curve in part["gemm"].items()}}
            | {"attention": {name: curve.model_dump() for name, curve in part["attention"].items()}}
            for key, part in parts.items()
        },
        "stream": fit_streams(options.evidence),
    }
    options.out.write_text(json.dumps(_rounded(document), indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
