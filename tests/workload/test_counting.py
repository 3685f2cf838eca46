"""Lengths of a file's samples: counts against the tokenizer itself, and what is refused."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planner.cli import main
from planner.errors import PlanError
from planner.estimate.engine import estimate
from planner.run import parse_run
from planner.workload import counting
from planner.workload.counting import Counted, count_file, count_lengths, histogram_of, tokenizer_from, tokenizer_of

tokenizers = pytest.importorskip("tokenizers", reason="lengths of a file need the library tokenizers")
WORDS = [f"w{i}" for i in range(50)]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """One token a word, with a cut and padding that must not be heeded."""
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0} | {word: i + 1 for i, word in enumerate(WORDS)}, unk_token="?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.enable_truncation(4)
    made.enable_padding(length=16)
    return tokenizer_from(made.to_str().encode())


def count_bytes(content: bytes, name: str, tokenizer: Any, *rest: Any, **named: Any) -> Counted:
    """Lengths of a file's samples, of a file that stands in memory."""
    return count_lengths(io.BytesIO(content), len(content), name, tokenizer, *rest, **named)


def words(count: int) -> str:
    return " ".join(WORDS[i % 50] for i in range(count))


def test_lines_of_a_text(tokenizer: Any) -> None:
    counted = count_bytes("\n".join(map(words, (3, 7, 7, 0, 200))).encode(), "a.txt", tokenizer)
    assert counted.lengths == {3: 1, 7: 2, 200: 1}
    assert (counted.samples, counted.tokens, counted.empty, counted.whole) == (4, 217, 1, True)
    assert [counted.percentile(p) for p in (0.1, 0.5, 1.0)] == [3, 7, 200]


@pytest.mark.parametrize(
    ("sample", "field", "tokens"),
    [
        ({"text": words(5), "id": 3}, None, 5),
        ({"prompt": words(5), "completion": words(6)}, None, 11),
        ({"instruction": words(2), "input": "", "output": words(4)}, None, 6),
        ({"messages": [{"role": "user", "content": words(3)}, {"role": "assistant", "content": [{"type": "text", "text": words(9)}]}]}, None, 12),
        ({"conversations": [{"from": "human", "value": words(3)}]}, None, 3),
        ({"text": words(5), "body": words(8)}, "body", 8),
        (words(4), None, 4),
    ],
)
def test_objects_of_a_jsonl(tokenizer: Any, sample: Any, field: str | None, tokens: int) -> None:
    assert count_bytes(json.dumps(sample).encode(), "a.jsonl", tokenizer, field).lengths == {tokens: 1}


@pytest.mark.parametrize(
    ("content", "name", "field", "words_of_error"),
    [
        (b"\xff\xfe\x00", "a.txt", None, "not UTF-8"),
        (b"{", "a.jsonl", None, "not JSON (line 1)"),
        (b"[" * 100_000, "a.jsonl", None, "not JSON (line 1)"),
        (b"3", "a.jsonl", None, "no object"),
        (b'{"a": 1}', "a.jsonl", None, "no field that is known"),
        (b'{"text": "a"}', "a.jsonl", "body", "is not in line 1"),
        (b"\n\n", "a.txt", None, "holds no text"),
    ],
)
def test_what_is_no_data_is_refused_in_one_line(tokenizer: Any, content: bytes, name: str, field: str | None, words_of_error: str) -> None:
    with pytest.raises(PlanError, match=words_of_error.replace("(", r"\(").replace(")", r"\)")) as told:
        count_bytes(content, name, tokenizer, field)
    assert len(str(told.value)) < 400 and "\n" not in str(told.value)


def test_a_line_without_end_is_refused(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MOST_LINE", 1000)
    with pytest.raises(PlanError, match="has a line longer"):
        count_bytes(b"w1 " * 1000, "a.txt", tokenizer)


def test_of_a_large_file_the_front_is_read(tokenizer: Any) -> None:
    content = (words(10) + "\n").encode() * 1000
    counted = count_bytes(content, "a.txt", tokenizer, most_bytes=len(content) // 4)
    assert not counted.whole
    assert counted.read == 250
    assert counted.samples == pytest.approx(1000, abs=2)
    assert "taken to be alike" in counted.remarks[0]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.integers(1, 100_000), st.integers(1, 10_000), min_size=1, max_size=400))
def test_the_histogram_is_small_and_keeps_samples_tokens_and_the_longest(lengths: dict[int, int]) -> None:
    made = {float(length): weight for length, weight in histogram_of(lengths).items()}
    assert sum(made.values()) == sum(lengths.values())
    assert max(made) == max(lengths)
    assert len(made) <= 430  # 3 % steps to 100,000
    total = sum(n * count for n, count in lengths.items())
    assert sum(n * weight for n, weight in made.items()) == pytest.approx(total, rel=0.015, abs=1)


def test_the_command_writes_what_a_run_reads(tmp_path: Path, tokenizer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    data, vocabulary = tmp_path / "a.jsonl", tmp_path / "tokenizer.json"
    data.write_text("\n".join(json.dumps({"text": words(n)}) for n in (*range(20, 60), 900)), encoding="utf-8")
    tokenizer.save(str(vocabulary))
    assert main(["lengths", str(data), "--tokenizer", str(tmp_path), "--packing", "padded", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    run = parse_run({"model": "gpt2", "data": told["data"], "batch": {"micro": 4, "seq_len": 1024}})
    assert run.data is not None and run.data.samples == 41
    assert any("the longest, of 900" in line for line in estimate(run).assumptions)
    assert main(["lengths", str(data), "--tokenizer", str(vocabulary)]) == 0
    import yaml

    section = capsys.readouterr().out.partition("For the run file")[2]
    assert parse_run({"model": "gpt2", **yaml.safe_load(section)}).data.lengths == told["data"]["lengths"]


def test_a_tokenizer_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "vocab.json"
    file.write_text("{}", encoding="utf-8")
    with pytest.raises(PlanError, match=r"is no tokenizer\.json"):
        tokenizer_of(str(file))
    with pytest.raises(PlanError, match="is not there"):
        tokenizer_of(str(tmp_path / "none.json"))


def test_without_the_library_the_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["lengths", str(tmp_path), "--tokenizer", "gpt2"]) == 2
    assert "needs the library tokenizers. pip install tokenizers" in " ".join(capsys.readouterr().err.split())


def test_a_name_without_network_is_refused_in_one_line(tmp_path: Path) -> None:
    code = "from planner.cli import main; raise SystemExit(main(['lengths', 'README.md', '--tokenizer', 'planner-test/none']))"
    env = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=env, cwd=Path(__file__).parents[2])
    assert done.returncode == 2
    assert "could not be had by name" in done.stderr and done.stderr.count("\n") == 1


def test_a_file_is_read_once_from_front_to_back(tmp_path: Path, tokenizer: Any) -> None:
    file = tmp_path / "a.txt"
    file.write_text("\ufeff" + "\r\n".join(map(words, (1, 2, 3))), encoding="utf-8")
    assert count_file(file, tokenizer).lengths == {1: 1, 2: 1, 3: 1}
    with pytest.raises(PlanError, match="cannot be read"):
        count_file(tmp_path / "none", tokenizer)
