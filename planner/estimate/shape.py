"""How long samples are, and what that makes of a step: real tokens, padding, and the longest batch.

packed: samples are joined and cut into sequences of `seq_len`; every token is real. best-fit: whole samples are packed into sequences, which
end in padding (`filling.py`). padded: each micro batch is as long as its longest sample. fixed: every sample is padded to `seq_len`. bucketed: samples
are sorted by length within 50 batches (transformers' `group_by_length`), so that a batch is hardly longer than its samples. But for packed, what
lies beyond `seq_len` is cut off.

With F the distribution of lengths cut at `seq_len`, a batch of b samples has E[longest] = Σ l (F(l)^b − F(l−)^b). Data-parallel ranks wait for each
other: a step takes as long as the rank with the longest batches, E over b · dp samples for one micro step; over k micro steps the excess
shrinks as 1/√k. Tokens per second count real tokens, never padding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from planner.errors import PlanError
from planner.estimate.filling import ROWS, sequences_of
from planner.run import Data, Run

POINTS = 2000
MEGABATCH = 50
"""Batches that transformers' LengthGroupedSampler sorts together."""


@dataclass(frozen=True)
class Shape:
    """Sequences of a step [token]: real tokens of a sequence, length of text over which time is spent, longest length.

    mean: of a sample before the cut · packed: whether all sequences have one length, filled with samples · beside: tokens of a sample that
    no length of the data changes (the target of an encoder-decoder, patches of an image); real and mean contain them ·
    cut: share of the data's tokens beyond `seq_len`, on which nothing is trained.
    """

    real: float
    timed: int
    longest: int
    mean: float
    packed: bool = True
    beside: int = 0
    cut: float = 0.0

    @property
    def computed(self) -> int:
        """Positions of a sample over which time is spent."""
        return self.timed + self.beside

    @property
    def waste(self) -> float:
        """Share of computed positions that hold padding."""
        return 1.0 - self.real / self.computed if self.computed else 0.0


def shape_of(run: Run, seq: int, beside: int = 0) -> Shape:
    """Lengths of the run's batches. seq: tokens of a full text · beside: other tokens of a sample.

    Raises `PlanError` where padding is asked for and no spread is known.
    """
    data, whole_sample = run.data, seq + beside
    mean = float(whole_sample) if data is None or data.mean_tokens is None else data.mean_tokens
    if data is None or data.packing == "packed" or run.batch.seq_len is None:
        spread = lengths_of(data) if data is not None and data.spread else None
        return Shape(float(whole_sample), seq, seq, mean if spread is None else spread.mean(), beside=beside)
    spread = lengths_of(data)
    within = Lengths(np.minimum(spread.tokens, seq), spread.weights)
    real, mean = within.mean() + beside, spread.mean() + beside
    cut = 1.0 - within.mean() / spread.mean()
    if data.packing == "best-fit":
        part = np.maximum(1, np.round(within.at((np.arange(ROWS) + 0.5) / ROWS))).astype(np.int64).tolist()
        filled = sum(part) / sequences_of(part, seq)
        return Shape(filled + beside, seq, seq, mean, beside=beside, cut=cut)
    if data.packing == "fixed":
        return Shape(real, seq, seq, mean, False, beside, cut)
    b, ranks, k = run.batch.micro, run.dp, run.batch.accumulation
    if data.packing == "padded":
        alone, together = within.longest(b), within.longest(b * ranks)
        timed = alone + (together - alone) / math.sqrt(k)
    else:
        timed = within.grouped(b)
    samples = max(1000.0, data.samples or (data.tokens or 0) / mean)
    longest = min(seq, math.ceil(_longest_of_all(spread, 1.0 - 1.0 / samples, data)))
    return Shape(real, min(seq, math.ceil(timed)), max(longest, math.ceil(timed)), mean, False, beside, cut)


@dataclass(frozen=True)
class Lengths:
    """A distribution of lengths: tokens of a sample, ascending, and the probability of each."""

    tokens: NDArray[np.float64]
    weights: NDArray[np.float64]

    def mean(self) -> float:
        """Mean tokens of a sample."""
        return float(self.tokens @ self.weights)

    def at(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """The smallest length that a sample does not exceed with these probabilities; ends of steps count to the next one."""
        steps = np.searchsorted(np.cumsum(self.weights), probabilities * (1 + 1e-12), side="right")
        return np.asarray(self.tokens[steps.clip(max=len(self.tokens) - 1)])

    def longest(self, samples: int) -> float:
        """Expected longest of so many samples."""
        power = np.minimum(1.0, np.cumsum(self.weights)) ** samples
        return float(self.tokens @ np.diff(power, prepend=0.0))

    def grouped(self, batch: int) -> float:
        """Mean length of batches of samples sorted within groups of 50: each is as long as its last sample, an order statistic of the group.

        P(X_(r) ≤ l) = P(Bin(n, F(l)) ≥ r), by the normal distribution with its continuity correction.
        """
        if batch == 1:
            return self.mean()
        n = MEGABATCH * batch
        below = np.minimum(1.0, np.cumsum(self.weights))
        z = (n * below - batch * np.arange(1, MEGABATCH + 1)[:, None] + 0.5) / np.sqrt(np.maximum(n * below * (1 - below), 1e-9))
        z = z.clip(-8, 8)
        reached = 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
        reached[:, -1] = 1.0
        return float((np.diff(reached, prepend=0.0, axis=1) @ self.tokens).mean())


def lengths_of(data: Data) -> Lengths:
    """How the lengths of the run's samples spread.

    A histogram is taken as it is; percentiles are joined by straight lines of the logarithm; mean and standard deviation make a log-normal; these
    two as lengths at equally spaced probabilities.
    """
    if data.histogram is not None:
        lengths, weights = (np.array(column, dtype=np.float64) for column in data.histogram)
        return Lengths(lengths, weights / weights.sum())
    at = (np.arange(POINTS) + 0.5) / POINTS
    same = np.full(POINTS, 1.0 / POINTS)
    if data.percentiles is not None:
        probabilities, lengths = (np.array(column, dtype=np.float64) for column in data.percentiles)
        return Lengths(np.exp(np.interp(at, probabilities, np.log(lengths))), same)
    if data.mean_tokens is None or data.std_tokens is None:
        raise PlanError(
            "data.packing",
            data.packing,
            "needs to know how lengths spread",
            "Add std_tokens beside mean_tokens, or lengths: a histogram or percentiles; `planner lengths` counts those of a file.",
        )
    mu, sigma = _lognormal(data.mean_tokens, data.std_tokens)
    return Lengths(np.exp(mu + sigma * np.array([NormalDist().inv_cdf(p) for p in at])), same)


def _lognormal(mean: float, std: float) -> tuple[float, float]:
    variance = math.log1p((std / mean) ** 2)
    return math.log(mean) - variance / 2, math.sqrt(variance)


def _longest_of_all(lengths: Lengths, probability: float, data: Data) -> float:
    """Length at a probability near 1: beyond the grid a log-normal goes on; percentiles end at their last."""
    if data.lengths is None and data.mean_tokens is not None and data.std_tokens is not None:
        mu, sigma = _lognormal(data.mean_tokens, data.std_tokens)
        return math.exp(mu + sigma * NormalDist().inv_cdf(probability))
    return float(lengths.at(np.array([probability]))[0])
