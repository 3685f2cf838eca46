"""Every branch of the telemetry, at the driver's boundary."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from planner.calibrate.telemetry import WARNINGS, Reading, contained, open_telemetry, remedy
from planner.errors import PlanError
from tests.calibrate.driver import FakeNvml


def test_a_reading_is_in_si_and_plain_units() -> None:
    seen = open_telemetry("cuda", library=FakeNvml())
    reading = seen.read()
    assert reading == Reading(
        sm_clock_mhz=1755.0,
        memory_clock_mhz=1755.0,
        power_w=412.0,
        power_limit_w=700.0,
        temperature_c=63.0,
        utilization=0.87,
        memory_used_bytes=2**30,
        energy_j=5000.0,
        held=(),
        others=0,
    )
    assert seen.warnings == []
    assert seen.identity() == {"driver": "580.65", "uuid": "0123abcd"}


def test_a_processor_has_no_telemetry_and_no_warning() -> None:
    seen = open_telemetry("cpu")
    assert (seen.read(), seen.held(), seen.warnings) == (Reading(), False, [])
    assert seen.identity() == {"driver": None, "uuid": None}
    seen.close()


@pytest.mark.parametrize(("bits", "held"), [(0x4, True), (0x20, True), (0x80, True), (0x1, False), (0x2, False)])
def test_only_power_and_heat_hold_the_clock_down(bits: int, held: bool) -> None:
    seen = open_telemetry("cuda", library=FakeNvml(nvmlDeviceGetCurrentClocksThrottleReasons=bits))
    assert seen.held() is held
    assert bool(seen.read().held) is held
    assert ("throttled" in seen.warnings) is held


def test_other_processes_are_told_apart_from_this_one() -> None:
    import os

    own, other = SimpleNamespace(pid=os.getpid()), SimpleNamespace(pid=1)
    assert contained(Path("/nowhere")) is False
    seen = open_telemetry("cuda", library=FakeNvml(nvmlDeviceGetComputeRunningProcesses=[own]))
    assert seen.read().others == 0
    assert seen.warnings == []
    seen = open_telemetry("cuda", library=FakeNvml(nvmlDeviceGetComputeRunningProcesses=[own, other]))
    assert seen.read().others == 1
    assert seen.warnings == ["other_processes"]


@pytest.mark.parametrize(
    ("answers", "warning"),
    [
        ({"nvmlInit": -9}, "no_telemetry"),
        ({"nvmlInit": -4}, "not_permitted"),
        ({"nvmlDeviceGetHandleByIndex": -15}, "lost"),
        ({"nvmlDeviceGetMigMode": [1, 1]}, "mig"),
        ({"nvmlDeviceGetPowerUsage": -3}, "not_supported"),
        ({"nvmlDeviceGetComputeRunningProcesses": -4}, "not_permitted"),
        ({"nvmlDeviceGetPowerUsage": -15}, "lost"),
    ],
)
def test_what_the_driver_refuses_is_one_warning_and_measuring_goes_on(answers: dict[str, object], warning: str) -> None:
    seen = open_telemetry("cuda", library=FakeNvml(**answers))
    seen.read()
    seen.read()
    assert seen.warnings == [warning]
    if warning == "lost":
        assert seen.read() == Reading()
        assert seen.held() is False
    seen.close()


@pytest.mark.parametrize(
    ("function", "field"),
    [
        ("nvmlDeviceGetClockInfo", "sm_clock_mhz"), ("nvmlDeviceGetPowerUsage", "power_w"), ("nvmlDeviceGetEnforcedPowerLimit", "power_limit_w"),
        ("nvmlDeviceGetTemperature", "temperature_c"), ("nvmlDeviceGetUtilizationRates", "utilization"),
        ("nvmlDeviceGetMemoryInfo", "memory_used_bytes"), ("nvmlDeviceGetTotalEnergyConsumption", "energy_j"),
        ("nvmlDeviceGetComputeRunningProcesses", "others"),
    ],
)  # fmt: skip
def test_a_figure_that_is_not_reported_is_unknown_and_the_others_stand(function: str, field: str) -> None:
    seen = open_telemetry("cuda", library=FakeNvml(**{function: -3}))
    reading = seen.read()
    assert getattr(reading, field) is None
    assert sum(getattr(reading, name) is not None for name in ("power_w", "temperature_c", "energy_j")) >= 2
    assert seen.warnings == ["not_supported"]


def test_a_gpu_lost_while_its_throttling_is_asked_for_measures_nothing_more() -> None:
    seen = open_telemetry("cuda", library=FakeNvml(nvmlDeviceGetCurrentClocksThrottleReasons=-15))
    assert seen.held() is False
    assert seen.warnings == ["lost"]
    assert (seen.read(), seen.figures(), seen.identity()) == (Reading(), {}, {"driver": None, "uuid": None})


def test_a_slice_names_itself_shortly_and_without_a_library_there_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = open_telemetry("cuda", library=FakeNvml(nvmlDeviceGetUUID=b"MIG-0123abcd-ffff", nvmlDeviceGetMigMode=[1, 1]))
    assert seen.identity()["uuid"] == "0123abcd"
    assert seen.warnings == ["mig"]
    assert seen.figures() == {"sm_clock_mhz": 1755.0, "power_w": 412.0, "temperature_c": 63.0, "memory_bytes": 2.0**30}
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    bare = open_telemetry("cuda")
    assert (bare.warnings, bare.read(), bare.held()) == (["no_telemetry"], Reading(), False)


def test_a_gpu_that_cannot_be_partitioned_gets_no_warning() -> None:
    assert open_telemetry("cuda", library=FakeNvml(nvmlDeviceGetMigMode=-3)).warnings == []


def test_the_gpu_is_found_by_identifier_where_torch_knows_it() -> None:
    library = FakeNvml()
    open_telemetry("cuda", "GPU-1", 5, library)
    assert "nvmlDeviceGetHandleByUUID" in library.asked
    assert "nvmlDeviceGetHandleByIndex" not in library.asked


def test_in_a_container_one_process_of_another_number_is_this_one(tmp_path: Path) -> None:
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/1/comm").write_text("systemd\n")
    assert contained(tmp_path) is False
    (tmp_path / "proc/1/comm").write_text("python\n")
    assert contained(tmp_path) is True
    (tmp_path / "proc/1/comm").unlink()
    assert contained(tmp_path) is False
    (tmp_path / ".dockerenv").touch()
    assert contained(tmp_path) is True
    two = [SimpleNamespace(pid=900001), SimpleNamespace(pid=900002)]
    for inside, listed, others in ((True, two[:1], 0), (True, two, 1), (False, two, 2), (True, [], 0)):
        seen = open_telemetry("cuda", library=FakeNvml(nvmlDeviceGetComputeRunningProcesses=listed))
        seen.in_container = inside
        assert seen.read().others == others
        assert ("other_processes" in seen.warnings) is bool(others)


def test_every_warning_has_a_remedy_and_there_are_no_others() -> None:
    assert all(remedy(name).endswith(".") for name in WARNINGS)
    with pytest.raises(PlanError, match="is no warning"):
        remedy("fire")
