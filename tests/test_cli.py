"""The command line from outside: exit codes, one line for bad input, one JSON document on the last line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import planner
from planner.catalog import accelerators, models
from planner.cli import COMMANDS, main, parser
from planner.cli.doctor import fields
from planner.cli.output import printable, table

ROOT = Path(__file__).resolve().parents[1]
ENGINE = import_module("planner.estimate.engine")
GOOD = "model: gpt2\nhardware: H100 SXM 80GB\ndata: 10M\n"


def shell(*arguments: str, stdin: str | bytes = "", **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "planner", *arguments],
        cwd=ROOT,
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        timeout=120,
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "COLUMNS": "100"} | environment,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def refused(*arguments: str, stdin: str = "") -> str:
    done = shell(*arguments, stdin=stdin)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.strip()


@pytest.fixture
def run_file(tmp_path: Path) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return str(path)


def test_an_estimate_as_text_answers_in_order(run_file: str) -> None:
    done = shell("estimate", run_file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Fits, with ")
    titles = ("Time to train", "Throughput", "Peak memory", "Cost", "-bound:", "In numbers", "Step time,", "What would help", "Assumptions")
    positions = [done.stdout.index(title) for title in titles]
    assert positions == sorted(positions)
    assert max(len(line) for line in done.stdout.splitlines()) <= 100


def test_json_is_the_last_line_and_has_exactly_the_keys_of_an_estimate(run_file: str) -> None:
    done = shell("estimate", run_file, "--json")
    assert done.returncode == 0
    document = json.loads(done.stdout.splitlines()[-1])
    run = planner.Run.model_validate({"model": "gpt2", "hardware": "H100 SXM 80GB", "data": "10M"})
    assert document == json.loads(json.dumps(planner.estimate(run).model_dump(mode="json")))
    assert document["run"]["batch"]["micro"] == 1


@pytest.mark.parametrize("text", [GOOD, '{"model": "gpt2", "hardware": "H100 SXM 80GB", "data": "10M"}', "\ufeff" + GOOD])
def test_a_run_from_standard_input(text: str) -> None:
    done = shell("estimate", "-", "--json", stdin=text)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["fits"] is True


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: gpt3\nhardware: T4\n", "model: 'gpt3' is not in the catalogue"),
        ("model: gpt2\nhardware: H100\n", "hardware.gpu: 'H100' names several accelerators. Choose one of"),
        ("model: gpt2\nhardware: {gpu: T4, gpus: 3}\nparallel: {tp: 2}\n", "does not divide"),
        ("model: gpt2\nbatch: {micro: 0}\n", "batch.micro: '0' is not possible"),
        ("model: gpt2\nbatsh: {micro: 1}\n", "batsh: "),
        ("hardware: T4\n", "Add model."),
        ("- a\n- b\n", "is not a mapping"),
        ("model: [", "is not valid YAML or JSON"),
        ("model: &a gpt2\nstack: *a\n", "anchors and aliases are not allowed"),
        ("", "is not a mapping"),
        ("model: gpt2\nhardware: {gpu: T4, gpus: .nan}\n", "hardware.gpus"),
        ('"\\e[31mred\\nline": 1\nmodel: gpt2\n', "is not a field of a run"),
    ],
)
def test_bad_input_is_one_line_with_field_and_fix(text: str, words: str) -> None:
    line = refused("estimate", "-", stdin=text)
    assert line.startswith("planner: ")
    assert words in line
    assert "\x1b" not in line


def test_input_that_is_no_text_or_endless() -> None:
    done = shell("estimate", "-", stdin=b"\xff\xfe\x00")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    done = shell("estimate", "-", stdin=b"#" * (2 * 2**20 + 1))
    assert (done.returncode, "larger than 2 MiB" in done.stderr) == (2, True)


def test_missing_files_and_wrong_arguments(run_file: str, tmp_path: Path) -> None:
    assert "cannot be read" in refused("estimate", str(tmp_path / "none.yaml"))
    assert "profile" in refused("estimate", run_file, "--profile", str(tmp_path / "none.json"))
    assert "RUN" in refused("estimate")
    assert "nonsense" in refused("nonsense")
    assert "--nonsense" in refused("estimate", run_file, "--nonsense")
    assert "pdf" in refused("report", run_file, "--format", "pdfx", "-o", str(tmp_path / "a"))
    assert "cannot be written" in refused("report", run_file, "-o", str(tmp_path / "no" / "a.html"))


@pytest.mark.parametrize(("ending", "start"), [("html", b"<!doctype html>"), ("md", b"# Fits"), ("json", b"{"), ("csv", b"name,value,unit")])
def test_reports_are_written(run_file: str, tmp_path: Path, ending: str, start: bytes) -> None:
    out = tmp_path / f"report.{ending}"
    done = shell("report", run_file, "--format", ending, "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert out.read_bytes().startswith(start)
    assert str(out) in done.stdout
    piped = shell("report", run_file, "-o", "-", "--format", ending)
    assert piped.stdout.encode() == out.read_bytes()


def test_models_and_gpus() -> None:
    for command, count, name in (("models", len(models()), "openai-community/gpt2"), ("gpus", len(accelerators()), "H100 SXM 80GB")):
        assert name in shell(command).stdout
        listed = json.loads(shell(command, "--json").stdout.splitlines()[-1])
        assert len(listed) == count


def test_doctor_says_what_a_bug_report_needs() -> None:
    text = shell("doctor").stdout
    for word in (planner.__version__, "Python", "numpy", "torch", "streamlit", "prices", "fitted", "gpt2 on one H100", "fits: True"):
        assert word in text, word
    assert set(json.loads(shell("doctor", "--json").stdout)) == {"Plumbline", "Packages", "Catalogue", "Self-check"}


def test_doctor_lists_every_field() -> None:
    rows = {row["field"]: row for row in fields()}
    assert rows["model"]["default"] == "required"
    assert rows["batch.micro"]["default"] == "1"
    assert rows["method.rank"]["also"] == "r"
    assert "zero3" in rows["parallel.sharding"]["takes"]
    assert all(row["description"] for row in rows.values())
    text = shell("doctor", "--fields").stdout
    for name in rows:
        assert name in text


def test_doctor_lists_what_a_run_file_may_name() -> None:
    listed = json.loads(shell("doctor", "--methods", "--json").stdout)
    text = shell("doctor", "--methods").stdout
    assert {"lora", "qlora", "full"} <= {name for name, _, _ in listed["Methods"]}
    for rows in listed.values():
        for name, _, _ in rows:
            assert name in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_validate_passes_its_arguments_and_prints(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import planner.evidence.validate as evidence

    seen: list[Any] = []
    monkeypatch.setattr(evidence, "main_validate", lambda *arguments: seen.append(arguments) or {"rows": 3})
    monkeypatch.setattr(evidence, "format_summary", lambda summary: f"{summary['rows']} rows")
    assert main(["validate", "rows.csv", "--profile", "p.json", "--out", "o.csv"]) == 0
    assert capsys.readouterr().out == "3 rows\n"
    assert main(["validate", "rows.csv", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"rows": 3}
    assert seen == [("rows.csv", "p.json", "o.csv"), ("rows.csv", None, None)]


def test_validate_a_real_table(tmp_path: Path) -> None:
    lines = (ROOT / "planner" / "evidence" / "data" / "measurements.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    rows, out = tmp_path / "rows.csv", tmp_path / "out.csv"
    rows.write_text("".join(lines[:9]), encoding="utf-8")
    done = shell("validate", str(rows), "--json", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["rows"] == 8
    assert "predicted_step_time_s" in out.read_text(encoding="utf-8").splitlines()[0]
    assert shell("validate", str(rows)).stdout.startswith("8 rows")
    assert "rows" in refused("validate", str(tmp_path / "none.csv"))


def test_a_fault_of_ours_is_one_line_and_exit_1(run_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("division by\nzero")

    monkeypatch.setattr(ENGINE, "estimate", fails)
    assert main(["estimate", run_file]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "a fault of ours" in error
    assert "ZeroDivisionError: division by zero" in error
    for arguments in (["--traceback", "estimate", run_file], ["estimate", run_file, "--traceback"]):
        with pytest.raises(ZeroDivisionError):
            main(arguments)


def test_nan_never_reaches_json(run_file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = planner.estimate
    monkeypatch.setattr(ENGINE, "estimate", lambda *a: real(*a).model_copy(update={"mfu": float("nan")}))
    assert main(["estimate", run_file, "--json"]) == 1
    assert capsys.readouterr().out == ""


def test_a_closed_pipe_is_no_fault() -> None:
    reader = subprocess.Popen([sys.executable, "-m", "planner", "gpus", "--json"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert reader.stdout is not None
    assert reader.stderr is not None
    reader.stdout.close()
    error = reader.stderr.read()
    reader.stderr.close()
    assert reader.wait(timeout=60) == 0
    assert error == b""


def test_a_terminal_that_knows_ascii_only(run_file: str) -> None:
    done = shell("estimate", run_file, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()


def test_every_command_explains_itself() -> None:
    text = parser().format_help()
    for command in COMMANDS:
        assert command.NAME in text
        assert command.HELP
        assert shell(command.NAME, "--help").returncode == 0
    assert planner.__version__ in shell("--version").stdout


def test_tables_align_wrap_and_hold_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = table([("a", "1.5 GiB", "short"), ("longer", "12 GiB", "word " * 20 + "6.5 %")], right=(1,))
    lines = text.splitlines()
    assert all(len(line) <= 60 for line in lines)
    assert lines[0].index("1.5 GiB") + 7 == lines[1].index("12 GiB") + 6
    assert any("6.5 %" in line for line in lines)
    assert printable("a\x1b[31m\nb") == "a [31m b"
    assert table([]) == ""
