"""Collectives between processes, started by `torchrun`: how calibration outgrows one GPU.

    torchrun --nproc-per-node 8 -m planner.calibrate.distributed --out collectives.json
    planner calibrate --collectives collectives.json --out profile.json

The backend is NCCL on CUDA (RCCL on ROCm) and gloo on a processor. Every rank takes part, the slowest rank's time counts, and rank 0
writes. Payloads follow `planner.device.collectives.collective_seconds`: the whole tensor of an all_reduce or send_recv, the gathered
output of an all_gather, the input of a reduce_scatter, the send buffer of a rank in an all_to_all.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
from pydantic import ValidationError

from planner.calibrate.result import MAX_BYTES, Sample
from planner.device.collectives import Topology, collective_seconds
from planner.device.measured import Correction
from planner.errors import PlanError

SIZES: Final = tuple(2**power for power in range(12, 31, 2))
"""Payloads [bytes]: 4 KiB to 1 GiB."""
VERSION: Final = 1
REPEATS: Final = 7


def kinds(group: int) -> dict[str, Callable[[torch.Tensor, torch.Tensor], None]]:
    """Every collective on (whole, part), tensors of the payload and of the payload over the group."""

    def send_recv(whole: torch.Tensor, part: torch.Tensor) -> None:
        rank = dist.get_rank()
        if rank == 0:
            dist.send(whole, 1)
        elif rank == 1:
            dist.recv(whole, 0)

    found: dict[str, Callable[[torch.Tensor, torch.Tensor], None]] = {
        "all_reduce": lambda whole, part: _done(dist.all_reduce(whole)),
        "all_gather": lambda whole, part: _done(dist.all_gather_into_tensor(whole, part)),
        "broadcast": lambda whole, part: _done(dist.broadcast(whole, 0)),
        "send_recv": send_recv,
    }
    if dist.get_backend() != "gloo":  # gloo has neither
        found["reduce_scatter"] = lambda whole, part: _done(dist.reduce_scatter_tensor(part, whole))
        found["all_to_all"] = lambda whole, part: _done(dist.all_to_all_single(torch.empty_like(whole), whole))
    return found if group > 1 else {}


def _done(_: Any) -> None:
    return None


def measure(device: torch.device, largest: int, seconds: float) -> list[Sample]:
    """Samples of every kind and size up to `largest` [bytes] within `seconds`; the same list on every rank."""
    samples: list[Sample] = []
    group, begin = dist.get_world_size(), time.monotonic()
    nodes = max(1, group // int(os.environ.get("LOCAL_WORLD_SIZE", group)))
    for size in (s for s in SIZES if s <= largest):
        elements = max(group, size // 4 // group * group)
        whole, part = (torch.randn(n, device=device) for n in (elements, elements // group))
        for kind, run in kinds(group).items():
            if _agreed(time.monotonic() - begin > seconds, device):
                return samples
            run(whole, part)
            raw = [_slowest(run, whole, part, device) for _ in range(REPEATS)]
            ordered = sorted(raw)
            samples.append(
                Sample(
                    benchmark="collectives",
                    case={"kind": kind, "payload": 4.0 * elements, "group": float(group), "nodes": float(nodes)},
                    seconds=ordered[REPEATS // 2],
                    iqr=ordered[3 * REPEATS // 4] - ordered[REPEATS // 4],
                    raw=tuple(raw),
                )
            )
    return samples


def _slowest(
    run: Callable[[torch.Tensor, torch.Tensor], None], whole: torch.Tensor, part: torch.Tensor, device: torch.device
) -> float:
    """Time of one collective on the rank that takes longest [s]."""
    dist.barrier()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    begin = time.perf_counter()
    run(whole, part)
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    took = torch.tensor(time.perf_counter() - begin, device=device, dtype=torch.float64)
    dist.all_reduce(took, dist.ReduceOp.MAX)
    return max(float(took), 1e-9)


def _agreed(over: bool, device: torch.device) -> bool:
    """Whether any rank's time is up: all stop together, or they would wait for each other for ever."""
    flag = torch.tensor(float(over), device=device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag > 0)


def read(path: str | Path) -> tuple[Sample, ...]:
    """Samples that a run of this module wrote. Raises `PlanError`."""
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise PlanError("collectives", str(path), "is larger than 64 MiB", "Name the file that torchrun wrote.")
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        if document["version"] != VERSION:
            raise PlanError("collectives", document["version"], f"is not version {VERSION}", "Measure again.")
        return tuple(map(Sample.model_validate, document["samples"]))
    except OSError as error:
        problem = f"cannot be read: {error.strerror or error}"
    except (ValueError, KeyError, TypeError, ValidationError) as error:
        problem = f"holds no samples ({type(error).__name__})"
    raise PlanError("collectives", str(path), problem, "Name the file that torchrun wrote.")


def corrections(samples: Sequence[Sample], topology: Topology) -> dict[str, Correction]:
    """How far the law of this wiring is off at each measured payload and group, by kind."""
    found: dict[str, Correction] = {}
    for kind in sorted({str(s.case["kind"]) for s in samples}):
        own = [s for s in samples if s.case["kind"] == kind and float(s.case["group"]) > 1]
        if not own:
            continue
        sizes = tuple((float(s.case["payload"]), float(s.case["group"])) for s in own)
        law = [collective_seconds(kind, size, int(2 if kind == "send_recv" else group), topology) for size, group in sizes]
        residuals = tuple(math.log(s.seconds / expected) for s, expected in zip(own, law, strict=True))
        found[kind] = Correction(sizes=sizes, residuals=residuals)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of every rank."""
    parser = argparse.ArgumentParser(prog="python -m planner.calibrate.distributed", description="Measure collectives under torchrun.")
    parser.add_argument("--out", required=True, metavar="FILE")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--largest-mib", type=int, default=1024)
    options = parser.parse_args(arguments)
    if "RANK" not in os.environ:
        print("planner: start this with torchrun, for example: torchrun --nproc-per-node 8 -m planner.calibrate.distributed --out FILE", file=sys.stderr)
        return 2
    accelerator = torch.accelerator.current_accelerator()
    device = torch.device("cpu")
    if accelerator is not None:
        device = torch.device(accelerator.type, int(os.environ.get("LOCAL_RANK", 0)))
        torch.accelerator.set_device_index(device.index or 0)
    dist.init_process_group("gloo" if device.type == "cpu" else None)
    try:
        samples = measure(device, options.largest_mib * 2**20, options.seconds)
        if dist.get_rank() == 0:
            document = {"version": VERSION, "samples": [s.model_dump(mode="json") for s in samples]}
            Path(options.out).write_text(json.dumps(document) + "\n", encoding="utf-8")
    finally:
        dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
