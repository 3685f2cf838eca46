"""How long samples are, and what that makes of a step: real tokens, padding, and the longest batch.

packed: samples fill sequences of `seq_len`; every token is real. padded: each micro batch is as long as its longest sample. bucketed: samples are
sorted by length within 50 batches (transformers' `group_by_length`), so that a batch is hardly longer than its samples.

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
from planner.run import Data, Run

POINTS = 2000
MEGABATCH = 50
"""Batches that transformers' LengthGroupedSampler sorts together."""


@dataclass(frozen=True)
class Shape:
    """Sequences of a step [token]: real tokens of a sample, length of text over which time is spent, longest length.

    mean: of a sample before the cut · packed: whether every position is a real token · beside: tokens of a sample that
    no length of the data changes (the target of an encoder-decoder, patches of an image); real and mean contain them.
    """

    real: float
    timed: int
    longest: int
    mean: float
    packed: bool = True
    beside: int = 0

    @property
    def computed(self) -> int:
        """Positions of a sample over which time is spent."""
        return self.timed + self.beside

    @property
    def waste(self) -> float:
        """Share of computed positions that hold padding."""
        return 1.0 - self.real / self.computed if not self.packed and self.computed else 0.0


def shape_of(run: Run, seq: int, beside: int = 0) -> Shape:
    """Lengths of the run's batches. seq: tokens of a full text · beside: other tokens of a sample.

    Raises `PlanError` where padding is asked for and no spread is known.
    """
    data, whole_sample = run.data, seq + beside
    mean = float(whole_sample) if data is None or data.mean_tokens is None else data.mean_tokens
    if data is None or data.packing == "packed" or run.batch.seq_len is None:
        whole = quantiles(data) if data is not None and data.spread else None
        mean = mean if whole is None else float(whole.mean())
        return Shape(float(whole_sample), seq, seq, mean, beside=beside)
    whole = quantiles(data)
    cut = np.minimum(whole, seq)
    b, ranks, k = run.batch.micro, run.dp, run.batch.accumulation
    if data.packing == "padded":
        alone, together = _longest(cut, b), _longest(cut, b * ranks)
        timed = alone + (together - alone) / math.sqrt(k)
    else:
        timed = _grouped(cut, b)
    mean = float(whole.mean()) + beside
    samples = max(1000.0, data.samples or (data.tokens or 0) / mean)
    longest = min(seq, math.ceil(_at(whole, 1.0 - 1.0 / samples, data)))
    return Shape(
        float(cut.mean()) + beside, min(seq, math.ceil(timed)), max(longest, math.ceil(timed)), mean, False, beside
    )


def quantiles(data: Data) -> NDArray[np.float64]:
    """Lengths at equally spaced probabilities [token], ascending.

    A histogram is taken as it is; percentiles are joined by straight lines of the logarithm; mean and standard deviation make a log-normal.
    """
    at = (np.arange(POINTS) + 0.5) / POINTS
    if data.lengths is not None and data.histogram is not None:
        lengths, weights = data.histogram
        steps = np.searchsorted(np.cumsum(weights) / sum(weights), at).clip(max=len(lengths) - 1)
        drawn: NDArray[np.float64] = np.array(lengths, dtype=np.float64)[steps]
        return drawn
    if data.percentiles is not None:
        probabilities, lengths = data.percentiles
        return np.asarray(np.exp(np.interp(at, probabilities, np.log(lengths))), dtype=np.float64)
    if data.mean_tokens is None or data.std_tokens is None:
        raise PlanError(
            "data.packing",
            data.packing,
            "needs to know how lengths spread",
            "Add std_tokens beside mean_tokens, or lengths: a histogram or percentiles.",
        )
    mu, sigma = _lognormal(data.mean_tokens, data.std_tokens)
    return np.exp(mu + sigma * np.array([NormalDist().inv_cdf(p) for p in at]))


def _lognormal(mean: float, std: float) -> tuple[float, float]:
    variance = math.log1p((std / mean) ** 2)
    return math.log(mean) - variance / 2, math.sqrt(variance)


def _at(lengths: NDArray[np.float64], probability: float, data: Data) -> float:
    """Length at a probability: beyond the grid only a log-normal goes on."""
    if data.lengths is None and data.mean_tokens is not None and data.std_tokens is not None:
        mu, sigma = _lognormal(data.mean_tokens, data.std_tokens)
        return math.exp(mu + sigma * NormalDist().inv_cdf(probability))
    return float(lengths[-1])


def _longest(lengths: NDArray[np.float64], samples: int) -> float:
    """Expected longest of so many samples."""
    upper = (np.arange(len(lengths)) + 1.0) / len(lengths)
    power = upper**samples
    return float((lengths * np.diff(power, prepend=0.0)).sum())


def _grouped(lengths: NDArray[np.float64], batch: int) -> float:
    """Mean length of batches of samples sorted within groups: each is as long as the upper end of its slice of the distribution."""
    if batch == 1:
        return float(lengths.mean())
    ends = (np.arange(MEGABATCH) + (batch - 1) / batch + 0.5 / batch) / MEGABATCH
    return float(np.interp(ends, (np.arange(len(lengths)) + 0.5) / len(lengths), lengths).mean())
