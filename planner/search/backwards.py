"""Questions asked backwards: what is the largest that fits, the smallest that does, how many accelerators a deadline or a budget asks for.

Every answer is a proposal: a change of the run that can be applied, and the estimate of the changed run. "Fits" is the verdict of the estimate, whose
whole 90 % interval must lie below the usable memory. Memory grows with micro batch, context, rank and model, so that the largest is found
by doubling and halving; the numbers of accelerators are tried in order.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from planner.advise import apply
from planner.catalog import accelerators, find_accelerator, models, price_for
from planner.device import DeviceProfile
from planner.errors import PlanError
from planner.estimate.engine import estimate
from planner.estimate.result import Estimate
from planner.run import Run
from planner.units import format_count, format_integer, format_seconds, format_usd, parse_duration

Change = dict[str, Any]
MOST_MICRO: Final = 2**16
MOST_CONTEXT: Final = 2**24
CONTEXT_STEP: Final = 128
"""Contexts are multiples of this [token]."""
MOST_RANK: Final = 2**13
COUNTS: Final = (1, 2, 3, 4, 5, 6, 7, 8, *range(16, 65, 8), *range(80, 129, 16), *(2**i for i in range(8, 15)))
"""Numbers of accelerators that are tried: every one of a machine, then whole machines."""
DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True)
class Proposal:
    """An answer. question: in words · change: dotted run-file paths to values; empty where nothing is possible · estimate: of the changed
    run, None where nothing is possible · text: the answer in a sentence."""

    question: str
    change: Change
    estimate: Estimate | None
    text: str

    def document(self) -> dict[str, Any]:
        """For JSON."""
        known = None if self.estimate is None else self.estimate.model_dump(mode="json")
        return {"question": self.question, "answer": self.text, "change": self.change, "estimate": known}


class Backwards:
    """Answers for one run. profile: of its device."""

    def __init__(self, run: Run, profile: DeviceProfile | None = None) -> None:
        self.run, self.profile = run, profile
        self.now = estimate(run, profile)
        if self.now.usable_memory_bytes is None:
            raise PlanError("hardware.gpu", self.now.run.hardware.gpu, "has no known memory", "Name an accelerator of the catalog.")

    def largest_micro_batch(self) -> Proposal:
        """The most sequences of a micro step that fit."""
        return self._largest("largest micro batch", "batch.micro", 1, MOST_MICRO, 1, "sequences in a micro batch")

    def longest_context(self) -> Proposal:
        """The most tokens of a sequence that fit, in steps of 128; never more than the model has positions for."""
        return self._largest("longest context", "batch.seq_len", CONTEXT_STEP, MOST_CONTEXT, CONTEXT_STEP, "tokens in a sequence")

    def largest_rank(self) -> Proposal:
        """The largest rank of the method that fits."""
        question = "largest rank"
        if self.now.run.method.rank is None:
            return Proposal(question, {}, None, f"{self.now.run.method.name} has no rank.")
        return self._largest(question, "method.rank", 1, MOST_RANK, 1, "is the largest rank that fits")

    def largest_model(self) -> Proposal:
        """The catalogue's model with most parameters that fits in this run's place; of the same kind of model, causal or not."""
        kind = self.now.run.head
        for entry in sorted(models(), key=lambda entry: -entry.parameters):
            change: Change = {"model": entry.id}
            one = self._try(change)
            if one is not None and one.fits and one.run.head == kind:
                text = f"{entry.id}, {format_count(one.parameters)} parameters, is the largest of the catalogue that fits."
                return Proposal("largest model", change, one, text)
        return Proposal("largest model", {}, None, "No model of the catalogue fits.")

    def smallest_gpu(self) -> Proposal:
        """The accelerator with least memory on which the run fits; of equal ones the cheaper."""

        def order(name: str) -> tuple[float, float]:
            part, offer = find_accelerator(name), price_for(name)
            return float(part.memory_bytes), offer.usd_per_gpu_hour if offer is not None else float("inf")

        for name in sorted((part.name for part in accelerators()), key=order):
            change: Change = {"hardware.gpu": name}
            one = self._try(change, None)
            if one is not None and one.fits:
                return Proposal("smallest GPU", change, one, f"{name} is the smallest accelerator on which it fits.")
        return Proposal("smallest GPU", {}, None, "It fits on no accelerator of the catalogue.")

    def fewest_gpus(self) -> Proposal:
        """The fewest accelerators on which the run fits, states fully sharded where that is what it takes."""
        for change, one in self._by_count():
            if one.fits:
                many = f"{_plural(one.run.hardware.gpus)} {'is' if one.run.hardware.gpus == 1 else 'are'} the fewest on which it fits"
                return Proposal("fewest GPUs", change, one, f"{many}{_sharded(change)}.")
        return Proposal("fewest GPUs", {}, None, f"It does not fit on {format_integer(COUNTS[-1])} accelerators either.")

    def by_deadline(self, seconds: float) -> Proposal:
        """The fewest accelerators with which the whole run fits and ends in time. seconds: until then [s]."""
        question = f"GPUs to end within {format_seconds(seconds)}"
        best: Estimate | None = None
        for change, one in self._by_count():
            if one.total_time_s is None:
                return Proposal(question, {}, None, "It is not known how much is trained on: add data to the run.")
            if one.fits and one.total_time_s <= seconds:
                text = f"{_plural(one.run.hardware.gpus)}{_sharded(change)}: {format_seconds(one.total_time_s)}."
                return Proposal(question, change, one, text)
            if one.fits and (best is None or one.total_time_s < (best.total_time_s or 0.0)):
                best = one
        quickest = "" if best is None else f" The quickest: {_plural(best.run.hardware.gpus)}, {format_seconds(best.total_time_s)}."
        return Proposal(question, {}, None, f"No number of accelerators is quick enough.{quickest}")

    def under_budget(self, usd: float) -> Proposal:
        """The accelerators with which the whole run ends soonest for at most so much. usd: [USD]."""
        question = f"GPUs for at most {format_usd(usd)}"
        found: tuple[Change, Estimate] | None = None
        cheapest: Estimate | None = None
        for change, one in self._by_count():
            if one.cost_usd is None or one.total_time_s is None:
                return Proposal(question, {}, None, "The cost is not known: it needs data and a price.")
            if not one.fits:
                continue
            if cheapest is None or one.cost_usd < (cheapest.cost_usd or 0.0):
                cheapest = one
            if one.cost_usd <= usd and (found is None or one.total_time_s < (found[1].total_time_s or 0.0)):
                found = change, one
        if found is not None:
            change, one = found
            text = f"{_plural(one.run.hardware.gpus)}{_sharded(change)}: {format_seconds(one.total_time_s)} for {format_usd(one.cost_usd)}."
            return Proposal(question, change, one, text)
        least = "" if cheapest is None else f" The cheapest: {_plural(cheapest.run.hardware.gpus)}, {format_usd(cheapest.cost_usd)}."
        return Proposal(question, {}, None, f"No number of accelerators is cheap enough.{least}")

    def all(self) -> Iterator[Proposal]:
        """Every question that needs no limit."""
        yield self.largest_micro_batch()
        yield self.longest_context()
        if self.now.run.method.rank is not None:
            yield self.largest_rank()
        yield self.largest_model()
        yield self.smallest_gpu()
        yield self.fewest_gpus()

    # -- trying ------------------------------------------------------------------------------------------------------------------------------------

    def _try(self, change: Change, profile: DeviceProfile | bool | None = True) -> Estimate | None:
        """The changed run's estimate, None where it cannot be planned."""
        try:
            return estimate(apply(self.run, change), self.profile if isinstance(profile, bool) else profile)
        except PlanError:
            return None

    def _largest(self, question: str, path: str, least: int, most: int, step: int, what: str) -> Proposal:
        """The largest value of a field, in steps, with which the run fits."""
        known: dict[int, Estimate | None] = {}

        def fits(units: int) -> bool:
            known[units] = one = self._try({path: units * step})
            return one is not None and one.fits is True

        best = _largest_of(fits, least // step, most // step)
        if best is None:
            return Proposal(question, {}, None, f"It does not fit with the least either, {format_integer(least)}.")
        value = best * step
        text = f"{format_integer(value)} {what}" + ("." if what.startswith("is") else " fit.")
        return Proposal(question, {path: value}, known[best], text)

    def _by_count(self) -> Iterator[tuple[Change, Estimate]]:
        """The run on every number of accelerators, its global batch kept where it divides: as it is, and fully sharded where that does not fit."""
        batch = self.run.batch
        steps = batch.micro * batch.accumulation * self.run.dp
        p = self.run.parallel
        for count in COUNTS:
            dp, rest = divmod(count, p.tp * p.pp * p.cp)
            if rest or not dp:
                continue
            accumulation = max(1, steps // (batch.micro * dp))
            change: Change = {"hardware.gpus": count, "batch.accumulation": accumulation}
            tries: list[Change] = [change] if p.sharding is not None else [change, change | {"parallel.sharding": "zero3"}]
            if p.sharding not in (None, "none", "ddp") and dp * p.cp == 1:
                tries = [change | {"parallel.sharding": "none"}]
            elif p.sharding == "none" and dp > 1:
                tries = [change | {"parallel.sharding": "ddp"}, change | {"parallel.sharding": "zero3"}]
            for one_change in tries:
                one = self._try(one_change)
                if one is not None:
                    yield one_change, one


def seconds_until(text: str, now: dt.datetime | None = None) -> float:
    """Seconds until a moment: "24h", "Friday 18:00", "18:00", "2026-12-01 09:00" [s].

    Errors: `PlanError` for a text that is none of these, and for a moment that has passed.
    """
    here = now or dt.datetime.now()
    words = text.strip().lower()
    clock = re.fullmatch(r"(?:(?P<day>[a-z]+)\s+)?(?P<hour>\d{1,2}):(?P<minute>\d{2})", words)
    if clock is not None and int(clock["hour"]) < 24 and int(clock["minute"]) < 60:
        then = here.replace(hour=int(clock["hour"]), minute=int(clock["minute"]), second=0, microsecond=0)
        if clock["day"] is not None:
            matches = [i for i, day in enumerate(DAYS) if day.startswith(clock["day"]) and len(clock["day"]) >= 3]
            if len(matches) != 1:
                raise PlanError("deadline", text, "names no day of the week", 'Write "Friday 18:00".')
            then += dt.timedelta(days=(matches[0] - here.weekday()) % 7)
        if then <= here:
            then += dt.timedelta(days=7 if clock["day"] is not None else 1)
        return (then - here).total_seconds()
    if re.match(r"\d{4}-\d{2}-\d{2}", words):
        try:
            then = dt.datetime.fromisoformat(words)
        except ValueError:
            raise PlanError("deadline", text, "is no moment", 'Write "2026-12-01 09:00".') from None
        if then.tzinfo is not None:
            then = then.astimezone().replace(tzinfo=None)
        if then <= here:
            raise PlanError("deadline", text, "has passed", "Give a later moment.")
        return (then - here).total_seconds()
    return parse_duration(text, "deadline")


def _largest_of(fits: Callable[[int], bool], least: int, most: int) -> int | None:
    """The largest number that fits, between two; None where the least does not. Doubling, then halving the gap."""
    if not fits(least):
        return None
    good, bad = least, None
    while bad is None and good < most:
        wider = min(2 * good, most)
        if fits(wider):
            good = wider
        else:
            bad = wider
    while bad is not None and bad - good > 1:
        middle = (good + bad) // 2
        if fits(middle):
            good = middle
        else:
            bad = middle
    return good


def _plural(count: int) -> str:
    return f"{format_integer(count)} accelerator{'' if count == 1 else 's'}"


def _sharded(change: Change) -> str:
    return ", fully sharded" if change.get("parallel.sharding") == "zero3" else ""
