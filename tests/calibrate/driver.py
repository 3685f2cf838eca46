"""A stand-in for `pynvml` that says what a test tells it to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value


class FakeNvml:
    """answers: what a function returns, or the error code that it raises, by function name."""

    NVMLError = NVMLError
    NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NO_PERMISSION, NVML_ERROR_GPU_IS_LOST = 3, 4, 15
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {
            "nvmlInit": None,
            "nvmlShutdown": None,
            "nvmlDeviceGetHandleByUUID": "handle",
            "nvmlDeviceGetHandleByIndex": "handle",
            "nvmlDeviceGetMigMode": [0, 0],
            "nvmlDeviceGetCurrentClocksThrottleReasons": 0,
            "nvmlDeviceGetComputeRunningProcesses": [],
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=2**30),
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=87),
            "nvmlDeviceGetClockInfo": 1755,
            "nvmlDeviceGetPowerUsage": 412_000,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetTemperature": 63,
            "nvmlDeviceGetTotalEnergyConsumption": 5_000_000,
            "nvmlDeviceGetUUID": "GPU-0123abcd-ffff",
            "nvmlSystemGetDriverVersion": b"580.65",
        } | answers
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(*_: Any) -> Any:
            self.asked.append(name)
            answer = self.answers[name]
            if isinstance(answer, int) and answer < 0:
                raise NVMLError(-answer)
            return answer

        if name not in self.answers:
            raise AttributeError(name)
        return call
