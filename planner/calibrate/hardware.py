"""The torch device under measurement: what it is, how its clock is read, how its cache is emptied."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, TypeVar

import torch

from planner.errors import PlanError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
T = TypeVar("T")
_SHORTEST = 2e-4
"""A processor's clock is read around at least this long [s]; shorter work is repeated inside one reading."""


@dataclass(frozen=True)
class Staged:
    """Work that needs something fresh each time: `before` runs outside of the clock."""

    before: Callable[[], Any]
    work: Callable[[], Any]

    def __call__(self) -> Any:
        return self.work()


@dataclass
class Hardware:
    """One device.

    cache_bytes: cache near the processors [bytes] · flush_bytes: what data must outgrow to be cold [bytes] ·
    units: processors that share one operator · uuid: of a GPU, to find it again in the driver, where torch says it.
    """

    device: torch.device
    name: str
    memory_bytes: int | None
    cache_bytes: float
    units: int
    threads: int | None = None
    uuid: str | None = None
    flush_bytes: float = 128.0 * 2**20
    _pools: dict[str, torch.Tensor] = field(default_factory=dict)
    _offset: int = 0
    _kept: list[torch.Tensor] = field(default_factory=list)
    _kept_bytes: int = 0

    @property
    def synchronous(self) -> bool:
        """Whether an operator runs where it is issued (a processor), rather than on a device that works behind a queue."""
        return self.device.type == "cpu"

    def synchronize(self) -> None:
        """Wait until everything that was issued is done."""
        if not self.synchronous:
            torch.accelerator.synchronize(self.device)

    def time(self, work: Callable[[], Any], inner: int) -> float:
        """Seconds of one `work()`, measured around `inner` of them: events on the device where it has them, else the clock [s].

        `Staged` work is measured once.
        """
        if isinstance(work, Staged):
            work.before()
            inner = 1
        if self.device.type == "cuda":
            event: Any = torch.cuda.Event
            start, end = event(enable_timing=True), event(enable_timing=True)
            start.record()
            for _ in range(inner):
                work()
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end)) / 1e3 / inner
        self.synchronize()
        made: list[Any] = []
        begin = time.perf_counter()
        for _ in range(inner):
            made.append(work())
        self.synchronize()
        took = (time.perf_counter() - begin) / inner
        self._keep(made)
        return took

    def _keep(self, made: list[Any]) -> None:
        """Hold on to results as autograd does, so that the next ones need fresh pages, and let go of all at once as the end of a step does."""
        if not self.synchronous:
            return  # a caching allocator hands out the same memory without the operating system
        for result in made:
            for tensor in result if isinstance(result, tuple | list) else (result,):
                if isinstance(tensor, torch.Tensor):
                    self._kept.append(tensor)
                    self._kept_bytes += tensor.nbytes
        if self._kept_bytes > self.flush_bytes:
            self._kept.clear()
            self._kept_bytes = 0

    def inner(self, seconds: float) -> int:
        """How many repetitions one reading of the clock takes."""
        return max(1, min(1000, int(_SHORTEST / max(seconds, 1e-9))))

    def random(self, *shape: int, dtype: str = "fp32", grad: bool = False) -> torch.Tensor:
        """Random data, never zeros: zeros draw less power and clock higher.

        Parts of one pool, each further on than the last, so that data is as cold as in training and costs no time to make.
        """
        numel = math.prod(shape)
        if dtype not in self._pools:
            some = torch.randn(1 << 20, device=self.device).to(DTYPES[dtype])
            self._pools[dtype] = some.repeat(max(1, int(self.flush_bytes) // 4 >> 20))
        pool = self._pools[dtype]
        if numel > pool.numel():
            made = pool[: 1 << 20].repeat(-(-numel >> 20))[:numel]
        else:
            start = self._offset if self._offset + numel <= pool.numel() else 0
            self._offset = start + -(-numel // 64) * 64
            made = pool[start : start + numel]
        return made.view(*shape).detach().requires_grad_(grad)

    def rotated(self, make: Callable[[], T], size: float, most: int = 16) -> Callable[[], T]:
        """`make()` as often as it takes to outgrow the caches at `size` [bytes] each, handed out in turn."""
        copies = max(1, min(most, int(self.flush_bytes / size) + 1))
        turn = cycle([make() for _ in range(copies)])
        return lambda: next(turn)

    def gradients(self, make: Callable[[], tuple[Any, Any, Any]], size: float) -> Callable[[], Any]:
        """Backward alone of what `make()` ran forward: it returns the result, what it is derived by, and the gradient of the result."""
        turn = self.rotated(make, size, most=6)

        def work() -> Any:
            result, wanted, given = turn()
            return torch.autograd.grad(result, wanted, given, retain_graph=True)

        return work


def default_device() -> str:
    """The accelerator of this machine, or its processor."""
    found = torch.accelerator.current_accelerator()
    return "cpu" if found is None else f"{found.type}:0"


def no_accelerator() -> str:
    """Why torch sees no accelerator here, in a sentence; empty where it sees one."""
    if torch.accelerator.current_accelerator() is not None:
        return ""
    if torch.version.cuda or torch.version.hip:
        driver = os.path.exists("/proc/driver/nvidia/version") or os.path.exists("/dev/kfd")
        if driver:
            return "A driver is installed, but torch sees no GPU: look at its version, at CUDA_VISIBLE_DEVICES and at the container's access to the device."
        return "No GPU and no driver is visible here. Planning works on; measure this processor, or run `planner calibrate` on the machine with the GPU."
    return "This torch was built for processors alone. With a GPU here, install torch's CUDA or ROCm build; planning works on."


def listed() -> list[dict[str, str]]:
    """What could be measured here: torch's name and a name to read, accelerators first; `note` says why there is none."""
    found = []
    current = torch.accelerator.current_accelerator()
    for index in range(torch.accelerator.device_count() if current is not None else 0):
        assert current is not None
        name = torch.cuda.get_device_properties(index).name if current.type == "cuda" else f"{current.type} device"
        found.append({"device": f"{current.type}:{index}", "name": name})
    note = no_accelerator()
    return [*found, {"device": "cpu", "name": _processor_name()} | ({"note": note} if note else {})]


def open_hardware(name: str) -> Hardware:
    """The device that `name` ("cpu", "cuda:0", "xpu", "mps", …) means here. Raises `PlanError` with what is missing."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise PlanError("device", name, "is no torch device", "Write cpu, cuda:0, xpu or mps.") from None
    if device.type == "cpu":
        pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        threads = torch.get_num_threads()
        return Hardware(device, _processor_name(), pages * size, 2.0 * 2**20 * threads, threads, threads)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            built = torch.version.cuda or torch.version.hip
            why = "no usable GPU or driver is visible to torch" if built else "this torch was built without CUDA"
            raise PlanError("device", name, f"cannot be measured: {why}", "Write cpu, or install the driver and a CUDA build.")
        if (device.index or 0) >= torch.cuda.device_count():
            raise PlanError("device", name, f"is not among the {torch.cuda.device_count()} visible GPUs", "Use a lower number.")
        p = torch.cuda.get_device_properties(device)
        uuid = getattr(p, "uuid", None)
        return Hardware(
            device, p.name, p.total_memory, float(p.L2_cache_size), p.multi_processor_count,
            uuid=f"GPU-{uuid}" if uuid else None, flush_bytes=max(128.0 * 2**20, 3.0 * p.L2_cache_size),
        )  # fmt: skip
    current = torch.accelerator.current_accelerator()
    if current is None or current.type != device.type:
        raise PlanError("device", name, "is not available to this torch", "Write cpu, or install torch for that device.")
    return Hardware(device, f"{device.type} device", None, 32.0 * 2**20, 1)


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            found = next((line.split(":", 1)[1].strip() for line in handle if line.startswith("model name")), "")
    except OSError:  # not Linux
        found = ""
    return f"{found or platform.processor() or platform.machine()} ({torch.get_num_threads()} threads)"
