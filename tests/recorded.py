"""Every recorded truth of the oracles and the engine's answer to it: one place for the tests and for docs/coverage.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from planner.estimate import Estimate
from tests.engine_cases import comparable, counted_flops, engine_estimate, tensor_peak
from tests.oracles import multimodal_cases, record, towers_cases

KINDS = ("parameters", "flops", "memory")
APART = ("float8-memory", "checkpoint-memory", "offload-memory", "optimizers", "structure")
"""Truths that tests of their own read."""


@dataclass(frozen=True)
class Case:
    """One truth. area: the file it stands in, "" for the first · kind: parameters, flops or memory."""

    area: str
    kind: str
    name: str
    config: Mapping[str, Any]
    arguments: Mapping[str, Any]
    truth: Mapping[str, Any]
    config_name: str = ""

    @property
    def model(self) -> str:
        """The name under which a reader is registered."""
        return str(self.config.get("model_type") or self.config.get("_class_name"))

    @property
    def method(self) -> str:
        return str((self.arguments.get("method") or {"name": "full"})["name"])

    def asked(self) -> dict[str, Any]:
        """The arguments, with the least batch that the model takes where only parameters are counted."""
        if self.kind != "parameters":
            return dict(self.arguments)
        if self.area == "multimodal":
            least = {} if self.config_name in multimodal_cases.DIFFUSION else {"seq": 256, "images": 2}
            return {
                **self.arguments, "attention": "sdpa", **least, **multimodal_cases.SIZES.get(self.config_name, {})
            }  # fmt: skip
        if self.area == "towers":
            return {**self.arguments, "attention": "sdpa", **towers_cases.LEAST, **towers_cases.SIZES.get(self.config_name, {})}
        text = self.area not in ("encdec", "wide", "detection", "audio") and (self.area != "vision" or self.arguments["head"] == "contrastive")
        return {**self.arguments, **({"seq": 8} if text else {})}

    def estimate(self) -> Estimate:
        """The engine's answer."""
        return engine_estimate(self.config, self.asked())

    def error(self) -> float:
        """Relative error of FLOPs or peak; of parameters 1 where a count differs and 0 where both are equal."""
        e, truth = self.estimate(), self.truth
        if self.kind == "parameters":
            return float((e.parameters, e.trainable_parameters) != (truth["total"], truth["trainable"]))
        if self.kind == "flops":
            return abs(counted_flops(e, self.config, self.arguments) / (truth["forward"] + truth["backward"]) - 1)
        return abs(tensor_peak(e) / truth["peak"] - 1)


@cache
def areas() -> tuple[str, ...]:
    """Files of truths: what stands before the kind in their names."""
    found = (name.rpartition("-") for name in record.recorded() if name not in APART)
    return tuple(sorted({area for area, _, kind in found if kind in KINDS}))


@cache
def cases(area: str, kind: str) -> tuple[Case, ...]:
    """The truths of one file that a run can express; none when there is no such file."""
    name = f"{area}-{kind}" if area else kind
    if name not in record.recorded():
        return ()
    document = record.load(name)
    configs = document["configs"]
    return tuple(
        Case(area, kind, row["id"], configs[row["config"]], row["arguments"], row["truth"], row["config"])
        for row in document["cases"]
        if row["config"] in configs and comparable(row)
    )


def every() -> Iterator[Case]:
    """All truths."""
    for area in areas():
        for kind in KINDS:
            yield from cases(area, kind)
