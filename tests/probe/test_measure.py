"""Steps measured for real on a processor, and what a GPU says at its boundary."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

import torch

from planner.calibrate.telemetry import open_telemetry
from planner.errors import PlanError
from planner.probe import load as load_module
from planner.probe import measure as measure_module
from planner.probe import run as run_module
from planner.probe.build import build
from planner.probe.depth import at_depth, depths, extrapolate, layers
from planner.probe.device import Device, open_device
from planner.probe.measure import Measured, Spread, measure
from planner.probe.plan import plan
from planner.probe.power import Watch, sample
from planner.probe.predict import Predicted, predict
from planner.probe.run import probe
from planner.probe.training import PHASES
from tests.calibrate.driver import FakeNvml
from tests.probe import tiny


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measure(tiny.run(precision="fp32", batch={"accumulation": 2}), "cpu", steps=4)


def test_a_measurement_is_whole(measured: Measured) -> None:
    assert measured.outcome == "ok"
    assert measured.step_time_s is not None
    assert 0 < measured.step_time_s.low <= measured.step_time_s.median <= measured.step_time_s.high
    assert len(measured.samples) == 4
    assert measured.tokens_per_s == pytest.approx(2 * 2 * 32 / measured.step_time_s.median)
    assert {"torch", "transformers", "peft", "threads"} <= set(measured.versions)
    assert measured.memory_kind == "tracked"
    assert measured.reserved_bytes is None
    assert measured.power_w is None
    assert measured.loss is not None and measured.loss[1] < measured.loss[0]  # it trains


def test_phases_add_up_to_the_step(measured: Measured) -> None:
    for step in measured.samples:
        assert sum(step[name] for name in PHASES) == pytest.approx(step["step"], rel=0.02)


def test_tracked_memory_is_what_the_states_and_gradients_take() -> None:
    loop = build(plan(tiny.run(precision="fp32"), "cpu"), torch.device("cpu"))
    loop.run(2)
    found = loop.tracked()
    weights = sum(4 * p.numel() for p in loop.model.parameters())
    assert found["static"] == pytest.approx(3 * weights, rel=0.02)  # weights and two moments
    assert found["peak"] >= found["static"] + weights  # and the gradients
    assert found["by_phase"]["backward"] <= found["peak"]
    assert loop.tracker is None
    assert not any(module._forward_hooks for module in loop.model.modules())


def test_frozen_layers_need_less_memory_and_checkpointing_keeps_less() -> None:
    peaks = {}
    for name, changes in (
        ("full", {}), ("last", {"method": {"name": "freeze", "last": 1}}), ("checkpoints", {"activation_checkpointing": "full"})
    ):  # fmt: skip
        found = measure(tiny.run(batch={"micro": 16}, seq=64, **changes), "cpu", steps=1)
        assert found.allocated_bytes is not None and found.static_bytes is not None
        peaks[name] = found.allocated_bytes - found.static_bytes
    assert peaks["last"] < peaks["full"]
    assert peaks["checkpoints"] < peaks["full"]


def test_vision_speech_and_sequence_models_run() -> None:
    for model, seq in ((tiny.VIT, None), (tiny.T5, 16), (tiny.MIXTRAL, 16), (tiny.BERT, 16)):
        found = measure(tiny.run(model, seq=seq), "cpu", steps=1, memory=False)
        assert found.outcome == "ok"
        assert found.allocated_bytes is None
        assert (found.tokens_per_s is None) == (seq is None)


def test_fewer_steps_when_time_is_short() -> None:
    assert len(measure(tiny.run(), "cpu", steps=50, seconds=0.0, memory=False).samples) == 3


class _Refusing:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, *_: Any, **__: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
        MemoryError(),
    ],
)
def test_out_of_memory_is_a_result(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "build", _Refusing(error))
    found = measure(tiny.run(), "cpu")
    assert found.outcome == "oom"
    assert found.oom is not None
    assert found.step_time_s is None


def test_other_errors_are_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "build", _Refusing(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        measure(tiny.run(), "cpu")


def test_two_depths_stand_for_a_model_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = {**tiny.LLAMA, "num_hidden_layers": 8}
    whole = measure(tiny.run(deep), "cpu", steps=1)
    real = measure_module.build

    def small_machine(made: Any, device: Any, config: Any = None) -> Any:
        if config is None:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(made, device, config)

    monkeypatch.setattr(measure_module, "build", small_machine)
    result = probe(tiny.run(deep), "cpu", steps=2)
    assert result.measured.outcome == "oom"
    assert result.row["outcome"] == "oom" and result.row["targets"] == "fit" and result.row["step_time_s"] == ""
    assert result.extrapolated is not None
    assert result.extrapolated.depths == (2, 4)
    assert result.extrapolated.parameters == whole.parameters
    assert result.extrapolated.static_bytes == pytest.approx(whole.static_bytes, rel=1e-3)
    assert result.extrapolated.allocated_bytes == pytest.approx(whole.allocated_bytes, rel=0.02)
    assert "2 and 4 of 8 layers" in result.extrapolated.notes[-1]


def test_a_processor_does_not_start_what_its_memory_cannot_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    planned = Predicted(
        step_time_s=1.0, step_time_interval_s=(0.9, 1.1), allocated_bytes=5000.0, reserved_bytes=5000.0,
        reserved_interval_bytes=(4000.0, 6000.0), static_bytes=1000.0, fits=False, basis="datasheet",
    )  # fmt: skip
    monkeypatch.setattr(Device, "free_memory", lambda self: 1000)
    monkeypatch.setattr(run_module, "_predict", lambda *_: planned)
    monkeypatch.setattr(run_module, "depths", lambda config: None)
    result = probe(tiny.run(), "cpu")
    assert result.measured.outcome == "oom"
    assert "not started" in (result.measured.oom or "")
    assert result.comparison.fit_hit is True


def test_depths_keep_the_pattern_of_layers() -> None:
    assert depths({"num_hidden_layers": 32}) == (2, 4)
    assert depths({"num_hidden_layers": 4}) is None
    assert depths({"hidden_size": 4}) is None
    assert depths({"num_hidden_layers": 26, "layer_types": ["sliding"] * 5 + ["full"] + (["sliding"] * 5 + ["full"]) * 3 + ["sliding"] * 2}) == (6, 12)
    assert depths({"num_layers": 24, "num_decoder_layers": 12}) is None
    assert at_depth({"num_hidden_layers": 8, "layer_types": list("abababab"), "hidden_size": 9}, 2) == {
        "num_hidden_layers": 2, "layer_types": ["a", "b"], "hidden_size": 9,
    }  # fmt: skip
    assert layers({"n_layer": 12}) == 12


def test_extrapolation_is_a_line_through_two_depths() -> None:
    def at(seconds: float, size: int) -> Measured:
        spread = Spread(median=seconds, low=0.9 * seconds, high=1.2 * seconds)
        return Measured(
            outcome="ok", device="d", device_kind="cpu", step_time_s=spread, phases=dict.fromkeys(PHASES, spread),
            tokens_per_s=100 / seconds, allocated_bytes=size, energy_per_step_j=10 * seconds,
        )  # fmt: skip

    found = extrapolate(at(0.3, 1000), at(0.5, 1600), (2, 4), 10)
    assert found.step_time_s is not None
    assert found.step_time_s.median == pytest.approx(1.1)
    assert found.step_time_s.high == pytest.approx(1.32)
    assert found.allocated_bytes == 3400
    assert found.energy_per_step_j == pytest.approx(11.0)
    assert found.tokens_per_s == pytest.approx(100 / 1.1)


class _Counting(FakeNvml):
    """Every look at the energy counter finds 50 J more."""

    def __getattr__(self, name: str) -> Any:
        if name == "nvmlDeviceGetTotalEnergyConsumption" and not self.answers[name] < 0:
            self.answers[name] += 50_000
        return super().__getattr__(name)


def test_a_sample_is_what_the_driver_says() -> None:
    found = sample(open_telemetry("cuda", "GPU-1", library=FakeNvml()))
    assert (found["power_w"], found["energy_j"], found["sm_clock_mhz"], found["held"]) == (412.0, 5000.0, 1755.0, 0.0)


def test_energy_is_the_counter_or_power_over_time() -> None:
    with Watch(open_telemetry("cuda", library=_Counting())) as watch:
        time.sleep(0.01)
    assert watch.energy == pytest.approx(50.0)
    assert watch.clock == 1755.0 and not watch.throttled
    telemetry = open_telemetry("cuda", library=_Counting(nvmlDeviceGetTotalEnergyConsumption=-3))
    with Watch(telemetry) as watch:
        time.sleep(0.01)
    assert watch.power == pytest.approx(412.0)
    assert "not_supported" in telemetry.warnings


def test_a_clock_that_is_held_down_is_seen_between_steps() -> None:
    with Watch(open_telemetry("cuda", library=FakeNvml(nvmlDeviceGetCurrentClocksThrottleReasons=4))) as watch:
        time.sleep(0.25)
    assert len(watch.samples) >= 3
    assert watch.throttled


def test_no_driver_and_no_gpu_measure_no_power() -> None:
    for telemetry in (open_telemetry("cuda", library=FakeNvml(nvmlInit=-9)), open_telemetry("cpu")):
        with Watch(telemetry) as watch:
            pass
        assert watch.energy is None and watch.power is None and watch.clock is None


def test_devices_that_are_not_here_are_named() -> None:
    assert open_device("cpu").kind == "cpu"
    with pytest.raises(PlanError, match="is no torch device"):
        open_device("toaster")
    if not torch.cuda.is_available():
        with pytest.raises(PlanError, match="cannot be measured"):
            open_device("cuda:0")
    with pytest.raises(PlanError, match="not available to this torch"):
        open_device("xpu")


@pytest.mark.parametrize(
    ("model", "seq", "method"),
    [(tiny.LLAMA, 32, "full"), (tiny.BERT, 32, "full"), (tiny.T5, 32, "full"), (tiny.VIT, None, "full"), (tiny.LLAMA, 64, tiny.LORA)],
    ids=["llama", "bert", "t5", "vit", "llama-lora"],
)
def test_the_planned_peak_of_a_processor_is_the_tracked_one(model: Any, seq: int | None, method: Any) -> None:
    for precision in ("fp32", "bf16"):
        run = tiny.run(model, method, precision, seq=seq)
        planned = predict(run, open_device("cpu"))
        found = measure(run, "cpu", steps=1)
        assert planned is not None
        assert planned.allocated_bytes == pytest.approx(found.allocated_bytes, rel=0.05)  # tensors this small end in odd half kilobytes


def test_other_programs_on_the_processors_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([(10.0, 100.0, 5.0), (12.0, 103.0, 6.0)])
    monkeypatch.setattr(load_module, "_now", lambda: next(readings))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    with load_module.Load() as load:
        pass
    assert load.others == pytest.approx(0.5)  # two seconds of two processors: three at work, one of them here
    monkeypatch.setattr(load_module, "_now", lambda: None)
    with load_module.Load() as load:
        pass
    assert load.others is None
