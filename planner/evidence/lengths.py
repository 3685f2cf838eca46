"""How long the longest batch is where a source tells only the mean: peak memory follows it, time does not.

Lengths of instruction data are close to log-normal. The two ratios below are properties of the data sets behind such rows, set once for all of
them from how far memory lies above that of a batch of mean length; they are assumptions about data, not about hardware.
"""

from __future__ import annotations

import math
import re
from functools import cache
from statistics import NormalDist
from typing import Final

from planner.evidence.rows import Row

SPREAD: Final = 0.8
"""Standard deviation of the logarithm of a sample's length."""
LONGEST: Final = 8.7
"""Longest sample of some thousand over the mean: exp(3.1 σ - σ²/2)."""
PERCENTILE_99: Final = 2.9
"""Where memory is a 99th percentile over steps of batches sorted by length, their length over the mean."""

ARTICLE: Final = 321.0
"""Mean length of what is cut into samples of BERT's pretraining [token]: where lengths are exponential, half of all tokens at 512 are padding
(Krell et al. 2021, arXiv:2107.02027, of Wikipedia)."""

_MEAN = re.compile(r"\bmean\b")
_CUT = re.compile(r"\bcut at (\d+)\b")
_DATE = re.compile(r"-(20\d\d)-\d\d-\d\d-")
_POINTS = 400


def has_mean_length(row: Row) -> bool:
    """Whether `seq_len` is a mean over samples of different length, so that the longest batch is another."""
    text = row.packing_or_padding or ""
    return _MEAN.search(text) is not None and "longest sample, which is seq_len" not in text


def told_share(row: Row) -> float:
    """Share of a row's tokens that are no padding, where its software drops padding and its source counts it; 1 elsewhere.

    NVIDIA's PyTorch and PaddlePaddle examples load BERT's samples by length since 2021 (LDDL) and count sequences of the full length. The
    mean of an article's pieces of at most L tokens over L is (1 - exp(-L / a)) a / L, with articles of exponential length, mean a.
    """
    source = row.source or ""
    by_length = source.startswith(("NVIDIA/DeepLearningExamples PyTorch", "NVIDIA/DeepLearningExamples PaddlePaddle")) and "cfdbf4ed" not in source
    if not by_length or row.task != "pretrain" or row.gpu != "A100 SXM4 80GB" or not row.seq_len:
        return 1.0
    whole = row.seq_len / ARTICLE
    return (1.0 - math.exp(-whole)) / whole


def longest_is_known(row: Row) -> bool:
    """Whether the batch that sets the peak of memory is told: not where samples differ in length and only a mean or a limit stands there."""
    text = row.packing_or_padding or ""
    if row.framework == "ms-swift" and text.startswith("packed") and "megatron" not in (row.variant or "") and (row.ep or 1) == 1:
        return False  # its packing joins whole samples: batches are nearly, not exactly, of one length
    return not any(word in text for word in ("mean", "dropped", "not packed", "longest"))


def cache_is_cleared(row: Row) -> bool:
    """Whether the source empties the allocator's cache during training (peft's method comparison, every ten steps)."""
    return "p99" in (row.quality_reason or "")


def cache_is_whole(row: Row) -> bool:
    """Whether lengths leave no gaps in the cache: in peft's method comparison until 2025, all of whose runs hold 2 GiB less than the same ones on
    software of 2026."""
    return cache_is_cleared(row) and (found := _DATE.search(row.id)) is not None and int(found[1]) < 2026


def memory_length(row: Row) -> int:
    """Tokens of a sequence in the batch that sets the peak of memory [token]; `seq_len` where all samples are alike."""
    length = row.seq_len or 0.0
    if not has_mean_length(row):
        return round(length)
    text = row.packing_or_padding or ""
    cut = float(found[1]) if (found := _CUT.search(text)) else math.inf
    if "p99" in (row.quality_reason or ""):
        return round(min(cut, PERCENTILE_99 * length))
    batch = row.micro_batch or 1
    mean = length / longest_of(batch) if "incl. padding" in text else length
    longest = min(cut, LONGEST * mean)
    return round(mean + (longest - mean) / batch) if "padding-free" in text else round(longest)


def walked_share(row: Row) -> float:
    """Tokens that the busiest accelerator computes over those that the source counts for each; 1 where all compute what is counted.

    Less where padding is counted and dropped, more where samples of different length leave ranks with unequal batches: all wait for the longest.
    """
    return told_share(row) * _straggler(row)


def _straggler(row: Row) -> float:
    """Tokens of the longest batch among ranks that wait for each other, over the mean batch.

    Sums of b samples are taken as lognormal with the spread that follows from one sample's (Fenton 1960); a batch that is padded is as long as its longest
    sample, and one that is balanced over ranks no longer than its mean or its longest sample.
    """
    ranks = max(1, (row.gpus or 1) // ((row.tp or 1) * (row.pp or 1) * (row.cp or 1)))
    if not has_mean_length(row):
        return 1.0
    text, each = row.packing_or_padding or "", row.micro_batch or 1
    if row.sharding not in ("zero3", "hsdp"):  # ranks meet once a step
        each *= row.grad_accum or 1
    joined = min(row.ep or 1, ranks) if row.experts else 1  # ranks that share experts compute each other's tokens
    ranks, each = ranks // joined, each * joined
    if ranks == 1:
        return 1.0
    if "multipack" in (row.variant or ""):
        return max(1.0, longest_of(ranks * each) / each)
    if "incl. padding" in text:
        return longest_of(ranks * each) / longest_of(each)
    return longest_of(ranks, math.sqrt(math.log1p(math.expm1(SPREAD**2) / each)))


@cache
def longest_of(batch: int, spread: float = SPREAD) -> float:
    """Expected length of the longest of `batch` samples over the mean of one: the integral of the quantiles of the maximum."""
    normal = NormalDist(-(spread**2) / 2, spread)
    levels = (((i + 0.5) / _POINTS) ** (1 / batch) for i in range(_POINTS))
    return math.fsum(math.exp(normal.inv_cdf(level)) for level in levels) / _POINTS
