"""Small spaces on which a search is compared with brute force."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from planner.run import parse_run
from planner.search import Constraints, Space
from planner.search.evaluate import Evaluator
from planner.search.figures import Figures
from planner.search.space import complete

TINY: dict[str, Any] = {"base": "meta-llama/Llama-3.1-8B", "num_hidden_layers": 8}
MIXTURE: dict[str, Any] = {"base": "mistralai/Mixtral-8x7B-v0.1", "num_hidden_layers": 4}


def space_of(run: dict[str, Any], **fields: Any) -> Space:
    """A complete space around a run."""
    constraints = fields.pop("constraints", Constraints())
    return complete(Space(parse_run(run), constraints=constraints, **fields))


def places(figures: list[Figures]) -> Iterator[tuple[Figures, int, int]]:
    """Every configuration: its figures and where they stand."""
    for one in figures:
        for i, j in zip(*np.nonzero(one.cell.allowed), strict=True):
            yield one, int(i), int(j)


def sampled(space: Space, count: int, seed: int = 0) -> tuple[list[tuple[Figures, int, int]], Evaluator]:
    """Some configurations of a space at random, after all of it was evaluated."""
    evaluator = Evaluator(space)
    everything = list(places(list(evaluator.figures(space))))
    return random.Random(seed).sample(everything, min(count, len(everything))), evaluator
