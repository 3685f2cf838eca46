"""Every reader: recognised by content, values in SI, where they stood; and what is damaged, cut off or huge."""

from __future__ import annotations

import contextlib
import json
import struct
import time
from pathlib import Path

import pytest

from planner.errors import PlanError
from planner.logs import READERS, Record, Source, read
from planner.logs import source as limits
from planner.logs.record import QUANTITIES
from planner.units import GIB, MIB
from tests.logs import samples


def record(content: bytes | str, name: str = "log") -> Record:
    return read(Source(name, content.encode() if isinstance(content, str) else content))


@pytest.mark.parametrize("name", samples.BY_READER)
def test_a_log_is_recognised_by_its_content(name: str) -> None:
    found = record(samples.BY_READER[name], "something.bin")
    assert found.reader == name
    assert len(found.digest) == 64
    assert all(quantity in QUANTITIES for point in found.points for quantity in point.values)
    assert all(point.where for point in found.points)
    assert found.points or found.oom


def test_every_reader_has_a_sample_and_says_where_it_is_from() -> None:
    assert set(samples.BY_READER) == set(READERS)
    assert all(reader.reference and reader.label for reader in READERS.values())


def test_trainer_state() -> None:
    found = read(samples.source("trainer_state.json"))
    train = found.of("train")
    assert [(p.step, p.values["step_s"], p.where) for p in train][:2] == [(10, 0.9, "log_history[0]"), (20, 0.41, "log_history[1]")]
    assert train[0].values["reserved_bytes"] == 4 * GIB
    assert found.of("evaluation")[0].values == {"pause_s": 3.2}
    assert found.facts["train_seconds"] == 24.3 and found.facts["train_batch_size"] == 4


def test_trainer_state_with_tokens_holds_a_clock() -> None:
    entry = {"loss": 2.0, "num_input_tokens_seen": 8192, "train_runtime": 4.1, "train_tokens_per_second": 1998.0, "step": 1}
    found = record(json.dumps({"global_step": 1, "log_history": [entry, entry | {"step": 2, "train_runtime": 8.0, "num_input_tokens_seen": 16384}]}))
    assert [(p.time_s, p.values["tokens_seen"]) for p in found.points] == [(4.1, 8192), (8.0, 16384)]


def test_trainer_state_with_memory_metrics() -> None:
    entry = {"before_init_mem_gpu": 0, "init_mem_gpu_alloc_delta": 2 * GIB, "train_mem_gpu_alloc_delta": GIB, "train_mem_gpu_peaked_delta": 3 * GIB}
    entry |= {"train_loss": 1}
    assert record(json.dumps({"global_step": 5, "log_history": [entry]})).facts["allocated_bytes"] == 6 * GIB


def test_torchtitan() -> None:
    found = read(samples.source("torchtitan.txt"))
    second = found.of("train")[1]
    assert second.step == 10 and second.where == "line 3"
    assert second.values["reserved_bytes"] == pytest.approx(30.99 * GIB)
    assert second.values["tokens_per_s_per_gpu"] == 7034
    assert second.time_s is not None and found.points[0].time_s is not None
    assert second.time_s - found.points[0].time_s == pytest.approx(10.483)
    assert [p.kind for p in found.points] == ["train", "train", "train", "evaluation", "checkpoint", "train"]
    assert found.of("checkpoint")[0].values["pause_s"] == 0.78


def test_megatron() -> None:
    found = read(samples.source("megatron.txt"))
    assert found.points[0].values == {"allocated_bytes": 15754.88818359375 * MIB, "reserved_bytes": 16334 * MIB}
    assert found.points[1].values["step_s"] == pytest.approx(19.1388)
    assert found.points[1].values["batch_samples"] == 128
    assert found.points[-1].kind == "evaluation"


def test_nemo_counts_from_zero() -> None:
    found = read(samples.source("nemo.txt"))
    assert found.reader == "megatron"
    assert [p.step for p in found.points] == [45, 46]
    assert found.points[0].values["allocated_bytes"] == 115792977920


def test_deepspeed() -> None:
    found = read(samples.source("deepspeed.txt"))
    assert found.points[0].values["backward_s"] == pytest.approx(17.95035)
    assert found.points[1].values == {"samples_per_s": 3.92, "allocated_bytes": 40.33 * GIB}


@pytest.mark.parametrize("file", ["wandb.csv", "wandb.json"])
def test_wandb_history(file: str) -> None:
    train = read(samples.source(file)).of("train")
    assert [p.step for p in train] == [1, 2, 3, 4, 5]
    assert train[1].time_s == 1.7e9 + 1.0


def test_wandb_columns_of_pandas_and_lines() -> None:
    rows = json.loads((samples.DATA / "wandb.json").read_text(encoding="utf-8"))
    columns = {name: {str(i): row[name] for i, row in enumerate(rows)} for name in rows[0]}
    assert len(record(json.dumps(columns)).points) == 5
    assert len(record("\n".join(json.dumps(row) for row in rows)).points) == 5


def test_wandb_system_metrics() -> None:
    device = read(samples.source("wandb.csv")).of("device")
    assert device[0].values == {"power_w": 301, "utilisation": 0.97} and device[0].device == "0"


def test_wandb_chart_and_summary() -> None:
    assert [p.values["step_s"] for p in read(samples.source("wandb-chart.csv")).points] == [0.41, 0.42]
    assert read(samples.source("wandb-summary.json")).facts == {"wall_seconds": 120.5, "steps_per_s": 1.5, "global_step": 100.0}


def test_lightning() -> None:
    found = read(samples.source("metrics.csv"))
    assert [(p.step, p.kind) for p in found.points] == [(10, "train"), (20, "train"), (20, "evaluation"), (30, "train")]
    assert found.points[1].values == {"loss": 2.4, "step_s": 0.42}


def test_nvidia_smi() -> None:
    found = read(samples.source("nvidia-smi.csv"))
    first, last = found.points[0], found.points[-1]
    assert found.facts["device"] == "NVIDIA A100-SXM4-40GB"
    assert first.values == {
        "utilisation": 0.98, "used_bytes": 30000 * MIB, "total_bytes": 40960 * MIB, "power_w": 395.1, "power_limit_w": 400, "clock_hz": 1.125e9,
        "clock_limit_hz": 1.41e9, "throttled": 1.0,
    }  # fmt: skip
    assert "power_w" not in last.values and last.values["throttled"] == 0.0


def test_nvidia_smi_without_units_in_its_cells() -> None:
    found = record("index, memory.used [MiB], power.draw [W]\n0, 745, 81.25\n")
    assert found.points[0].values == {"used_bytes": 745 * MIB, "power_w": 81.25}


def test_nvidia_dmon() -> None:
    found = read(samples.source("dmon.txt"))
    assert [p.device for p in found.points] == ["0", "0", "1"]
    assert found.points[0].values["clock_hz"] == 2.325e9 and found.points[0].values["used_bytes"] == 725 * MIB


@pytest.mark.parametrize(
    ("version", "tried", "allocated", "unallocated", "process", "others"),
    [
        ("1.1", 2.74 * GIB, 8.22 * GIB, 5.05 * MIB, None, None),
        ("1.9", 376 * MIB, 1.72 * GIB, 0.74 * GIB, None, None),
        ("2.0", 512 * MIB, 10.55 * GIB, 0.03 * GIB, None, None),
        ("2.1", 14 * MIB, 9.6 * GIB, 310.22 * MIB, 11.02 * GIB, None),
        ("2.4", 22.62 * GIB, 35.82 * GIB, 2.54 * GIB, 39.32 * GIB, None),
        ("2.6", 900 * MIB, 71.6 * GIB, 1.35 * GIB, 72.66 * GIB, 5.68 * GIB),
        ("container", 10.74 * GIB, 20.52 * GIB, 18.59 * GIB, 39.44 * GIB, None),
    ],
)
def test_out_of_memory(version: str, tried: float, allocated: float, unallocated: float, process: float | None, others: float | None) -> None:
    found = record(samples.OOM[version]).oom
    assert found is not None and found.total and found.free
    for said, meant in ((found.tried, tried), (found.allocated, allocated), (found.unallocated, unallocated), (found.process, process), (found.others, others)):
        assert said == (None if meant is None else pytest.approx(meant, rel=1e-6))


def test_a_traceback_stands_with_its_message() -> None:
    frames = '  File "/x/train.py", line 5, in main\n  File "C:\\y\\loss_utils.py", line 36, in ForCausalLMLoss\n    logits = logits.float()\n'
    trace = f"Traceback (most recent call last):\n{frames}"
    found = record(trace + samples.OOM["2.4"]).oom
    assert found is not None and found.frames == ("main (train.py)", "ForCausalLMLoss (loss_utils.py)") and found.where == "line 5"


def test_a_log_that_ends_out_of_memory_says_both() -> None:
    found = record((samples.DATA / "megatron.txt").read_text(encoding="utf-8") + samples.OOM["2.6"])
    assert found.reader == "megatron" and found.oom is not None and found.oom.device == 3


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"hello\nworld\n", "is nothing that a reader knows"),
        (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x08builtins\x94", "is nothing that a reader knows"),
        (b'{"global_step": 10, "log_history": [{"loss": 2.0,', "is JSON that is damaged or cut off"),
        (b'{"global_step": 0, "log_history": []}', "without a training step"),
        (b'{"global_step": 1, "log_history": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "is JSON"),
        (b"epoch,step,train_loss\n", "without a training step"),
    ],
)
def test_what_cannot_be_read_gets_one_sentence(content: bytes, problem: str) -> None:
    with pytest.raises(PlanError) as caught:
        record(content)
    assert caught.value.field == "log" and problem in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    for path, problem in ((tmp_path, "is no file"), (tmp_path / "none", "does not exist")):
        with pytest.raises(PlanError, match=problem) as caught:
            Source(path.name, path=path)
        assert caught.value.problem == problem


def test_huge_files_are_refused_or_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_DOCUMENT", 100)
    with pytest.raises(PlanError, match="of JSON, more than"):
        record((samples.DATA / "trainer_state.json").read_bytes())
    rows = "\n".join(json.dumps({"_step": n, "_timestamp": n, "train/loss": 1.0}) for n in range(50))
    assert len(record(rows).points) == 50, "one document a line is streamed"
    monkeypatch.setattr(limits, "MAX_BYTES", 1000)
    with pytest.raises(PlanError, match="more than"):
        Source("log", b"x" * 1001)


def test_more_entries_than_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("planner.logs.reader.MAX_POINTS", 2)
    found = read(samples.source("torchtune.txt"))
    assert len(found.points) == 2
    found = record((samples.DATA / "wandb.json").read_bytes())
    assert len(found.points) == 2 and found.notes == ("Only the first 2 entries were read.",)


def test_a_line_without_an_end_is_cut() -> None:
    text = "Step 1 | loss:1.0 " + "x" * (3 * limits.MAX_LINE) + "\nStep 2 | loss:1.0\n"
    assert [p.step for p in record(text).points] == [1, 2]


@pytest.mark.parametrize("cut", [1, 5, 13, 30, 200])
def test_an_event_file_cut_off_keeps_what_stood_before(cut: int) -> None:
    found = record(samples.TENSORBOARD[:-cut])
    assert 1 <= len(found.points) <= 5 and "damaged or cut off" in found.notes[0]


def test_a_damaged_event_is_noticed() -> None:
    damaged = bytearray(samples.TENSORBOARD)
    damaged[-20] ^= 0xFF
    assert "damaged" in record(bytes(damaged)).notes[0]
    size = struct.pack("<Q", 2**40)
    whole = samples.TENSORBOARD + size + struct.pack("<I", samples.masked_crc(size))
    assert "damaged" in record(whole).notes[0]


def test_powershell_and_carriage_returns() -> None:
    text = (samples.DATA / "torchtune.txt").read_text(encoding="utf-8")
    assert len(record(text.encode("utf-16")).points) == 2
    assert len(record(text.replace("\n", "\r")).points) == 2


def test_infinite_loss_is_remarked_on() -> None:
    found = record('{"global_step": 2, "log_history": [{"loss": NaN, "step": 1}, {"loss": 2.0, "step": 2}]}')
    assert found.notes and len(found.points) == 1


def test_event_files_say_what_the_tensorboard_package_reads(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    pytest.importorskip("torch")
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        for step in range(1, 40):
            writer.add_scalar("time_metrics/end_to_end(s)", 0.5 + step * 1e-3, step)
            writer.add_scalar("memory/max_reserved(GiB)", 0.25 * step, step, new_style=True)
        writer.add_text("note", "a text is passed over", 3)
    path = next(tmp_path.glob("events*"))
    whole = accumulator.EventAccumulator(str(path))
    whole.Reload()
    found = read(Source("log", path=path))
    assert [p.values["step_s"] for p in found.points] == [event.value for event in whole.Scalars("time_metrics/end_to_end(s)")]
    assert [p.values["reserved_bytes"] for p in found.points] == [0.25 * step * GIB for step in range(1, 40)]


HOSTILE = (
    "step: 1 loss: x ", "iteration 1/2 | ", "(after 1 iterations) memory (MB) | ", "evaluate" + " " * 40, "time (ms) | fwd: 1 | bwd: ", "Step 1 | a",
    "utilization.gpu" + " " * 60, "out of memory. Tried to allocate ", "1.1.1.1.1.1", '{"_step": ', "micro_step=1/global_step=1, RunningAvgSamplesPerSec=1, ",
    "# gpu pwr ", "tps: 1,1,1,1,", " ", "[", "\x1b[", 'File "',
)  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_line_takes_long(piece: str) -> None:
    """Two megabytes of one piece, on one line and on many, and behind a line that a reader knows: less than two seconds each."""
    many = piece * (2**21 // len(piece))
    lines = "\n".join(piece * (3000 // len(piece)) for _ in range(300))
    known = [(samples.BY_READER[name][:2000] + b"\n").decode(errors="replace") for name in ("torchtitan", "megatron", "nvidia_smi")]
    for text in (many, lines, *(first + many for first in known)):
        began = time.perf_counter()
        with contextlib.suppress(PlanError):
            record(text)
        assert time.perf_counter() - began < 2


def test_columns_of_a_hostile_export_are_bounded() -> None:
    document = {f"system.gpu.{i}.gpu": {str(i): 1} for i in range(20_000)} | {"_step": {"0": 1}}
    began = time.perf_counter()
    with contextlib.suppress(PlanError):
        record(json.dumps(document))
    assert time.perf_counter() - began < 3
