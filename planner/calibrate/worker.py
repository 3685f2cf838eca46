"""The process that measures for the app: `python -m planner.calibrate.worker FOLDER`, or `--devices` to list what could be measured."""

from __future__ import annotations

import json
import sys
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from planner.calibrate.jobs import HEARTBEAT_S, Job, Status
from planner.errors import PlanError

MOST_LOOKS = 120
"""Looks at the device that a status keeps, one a heartbeat."""


@dataclass
class Reporter:
    """Says how far the measurement is, every second and at every change, from a thread of its own: one case may take longer."""

    job: Job
    pid: int
    begun: float = field(default_factory=time.time)
    label: str = "Starting"
    share: float = 0.0
    cases: int = 0
    reading: dict[str, float | None] = field(default_factory=dict)
    history: dict[str, list[float]] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    planned: dict[str, int] = field(default_factory=dict)
    measured: Counter[str] = field(default_factory=Counter)
    warnings: tuple[str, ...] = ()
    ended: threading.Event = field(default_factory=threading.Event)

    def status(self, **changes: object) -> Status:
        told = {
            "state": "running", "label": self.label, "share": min(1.0, self.share), "seconds": time.time() - self.begun,
            "cases": self.cases, "pid": self.pid, "heartbeat": time.time(), "reading": self.reading, "warnings": self.warnings,
            "history": {name: tuple(values) for name, values in self.history.items()},
            "benchmarks": tuple((self.labels.get(n, n), self.measured[n], self.planned[n]) for n in sorted(self.planned)),
        }  # fmt: skip
        return Status.model_validate(told | changes)

    def beat(self) -> None:
        """Until the end: write, wait."""
        while not self.ended.wait(HEARTBEAT_S):
            for name, value in list(self.reading.items()):
                if value is not None:
                    self.history[name] = [*self.history.get(name, []), value][-MOST_LOOKS:]
            self.job.write(self.status())

    def warn(self, names: tuple[str, ...]) -> None:
        """Called by the runner between cases."""
        self.warnings = names

    def progress(self, label: str, share: float) -> None:
        """Called by the runner before each case."""
        self.label, self.share = label, share


def main(arguments: list[str]) -> int:
    """Measure what the folder's request says and leave profile, samples and a last status there."""
    if arguments == ["--devices"]:
        from planner.calibrate.hardware import listed

        print(json.dumps(listed()))
        return 0
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("planner: name the folder of a job; the app and `planner calibrate` start this themselves", file=sys.stderr)
        return 2
    return work(Job(Path(arguments[0])))


def work(job: Job) -> int:
    """Run one job to its end; whatever happens, the last status says it in a sentence."""
    import os

    reporter = Reporter(job, os.getpid())
    job.write(reporter.status())
    beating = threading.Thread(target=reporter.beat, daemon=True)
    beating.start()
    try:
        warnings = _measure(job, reporter)
        state, message = ("cancelled" if job.cancelled else "done"), ""
    except PlanError as error:
        state, message, warnings = "failed", str(error), ()
    except Exception as error:
        traceback.print_exc()
        state, message, warnings = "failed", f"The measurement broke off: {type(error).__name__}: {str(error)[:300]}", ()
    finally:
        reporter.ended.set()
        beating.join()
    job.write(reporter.status(state=state, share=1.0, message=message, warnings=warnings))
    return 0 if state != "failed" else 1


def _measure(job: Job, reporter: Reporter) -> tuple[str, ...]:
    from planner.calibrate.benchmarks import benchmarks
    from planner.calibrate.focus import cases_of
    from planner.calibrate.partial import Partial
    from planner.calibrate.result import Sample
    from planner.calibrate.runner import calibrate
    from planner.run import Run

    request = job.request()
    first = []
    if request.run is not None:
        try:
            first = cases_of(Run.model_validate(request.run), request.device)
        except PlanError as error:  # the plan is for another device: the common cases serve it as well
            print(f"the plan's own operations are not measured first: {error}")
    partial = Partial(job.samples)
    finished = partial.read()
    with partial.open(fresh=False) as write:

        def keep(sample: Sample) -> None:
            write(sample)
            reporter.cases += 1
            reporter.measured[sample.benchmark] += 1

        reporter.cases = len(finished)
        reporter.measured.update(sample.benchmark for sample in finished)
        reporter.labels = {b.name: b.label for b in benchmarks()}
        calibration = calibrate(
            request.device, request.budget, first=first, finished=finished, progress=reporter.progress,
            cancelled=lambda: job.cancelled, keep=keep, watch=lambda reading: reporter.reading.update(reading),
            planned=reporter.planned.update, warned=reporter.warn,
        )  # fmt: skip
    calibration.save(job.profile)
    return calibration.conditions.warnings


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
