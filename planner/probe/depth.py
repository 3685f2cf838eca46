"""A model that is too large for the device, measured at two depths: time and memory of equal layers grow by the same amount each.

T(L) = T(a) + (L − a) · (T(b) − T(a)) / (b − a), and the same for every phase and for memory. Exact where all layers are equal and the
moment of the peak stays the same; what is not (a mixture of kinds of layers) keeps its pattern by cutting at whole periods.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from planner.probe.measure import Measured, Spread

KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers")
PER_LAYER = ("layer_types", "mlp_layer_types", "no_rope_layers")
"""Lists in configs with one entry a layer."""


def layers(config: Mapping[str, Any]) -> int | None:
    """Layers of a config (of the deepest stack), None where no key says."""
    found = [config[key] for key in KEYS if isinstance(config.get(key), int)]
    return max(found, default=None)


def at_depth(config: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """The config with its stacks cut to `depth` layers each."""
    cut = {key: min(value, depth) if key in KEYS and isinstance(value, int) else value for key, value in config.items()}
    return {key: value[:depth] if key in PER_LAYER and isinstance(value, list) else value for key, value in cut.items()}


def depths(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Two depths to measure: one and two periods of the model's layers (at least 2 and 4), None where the model is not deeper than that."""
    total = layers(config)
    if total is None or len({config[key] for key in KEYS if isinstance(config.get(key), int)}) > 1:
        return None
    kinds = config.get("layer_types")
    period = _period(kinds) if isinstance(kinds, list) else int(config.get("sliding_window_pattern") or 1)
    first = period * -(-2 // period)
    return (first, 2 * first) if 2 * first < total else None


def _period(kinds: list[Any]) -> int:
    return next((size for size in range(1, len(kinds)) if all(a == b for a, b in zip(kinds, kinds[size:], strict=False))), len(kinds))


def extrapolate(low: Measured, high: Measured, at: tuple[int, int], total: int) -> Measured:
    """What `total` layers take, from measurements at two depths. Quartiles are carried the same way, and at least as wide as measured."""
    share = (total - at[0]) / (at[1] - at[0])

    def line(a: float, b: float) -> float:
        return max(b, a + share * (b - a))

    def spread(a: Spread | None, b: Spread | None) -> Spread | None:
        if a is None or b is None:
            return None
        middle = line(a.median, b.median)
        below = (b.median - b.low) / b.median if b.median else 0.0
        above = (b.high - b.median) / b.median if b.median else 0.0
        return Spread(median=middle, low=middle * (1 - below), high=middle * (1 + above))

    def size(name: str) -> int | None:
        a, b = getattr(low, name), getattr(high, name)
        return None if a is None or b is None else round(line(a, b))

    times = spread(low.step_time_s, high.step_time_s)
    assert times is not None and high.step_time_s is not None
    faster = high.step_time_s.median / times.median
    energy = (
        None if low.energy_per_step_j is None or high.energy_per_step_j is None
        else line(low.energy_per_step_j, high.energy_per_step_j)
    )  # fmt: skip
    return high.model_copy(
        update={
            "step_time_s": times,
            "phases": {name: spread(low.phases[name], high.phases[name]) for name in high.phases},
            "samples": (),
            "tokens_per_s": None if high.tokens_per_s is None else high.tokens_per_s * faster,
            "samples_per_s": None if high.samples_per_s is None else high.samples_per_s * faster,
            "energy_per_step_j": energy,
            "parameters": size("parameters"),
            "trainable_parameters": size("trainable_parameters"),
            **{name: size(name) for name in ("allocated_bytes", "reserved_bytes", "static_bytes")},
            "peak_by_phase": {
                name: round(line(low.peak_by_phase[name], peak)) for name, peak in high.peak_by_phase.items() if name in low.peak_by_phase
            },
            "depths": at,
            "loss": None,
            "notes": (*high.notes, f"The whole model does not fit: {at[0]} and {at[1]} of {total} layers were measured, and the rest extrapolated."),
        }
    )
