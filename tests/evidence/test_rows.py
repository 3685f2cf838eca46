from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from planner.errors import PlanError
from planner.evidence.lengths import told_share, walked_share
from planner.evidence.mapping import to_run
from planner.evidence.predict import Predictor
from planner.evidence.rows import COLUMNS, SHIPPED, rows

SHARED = Path(__file__).resolve().parents[3] / "shared" / "evidence" / "measurements.csv"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_shipped_table_is_typed_and_complete() -> None:
    table = rows()
    assert len(table) == 4371
    assert len({row.id for row in table}) == 4371
    assert not [row.id for row in table if row.problem]
    assert all(row.source and row.source_group and row.quality in ("A", "B") for row in table)
    first = next(row for row in table if row.id.startswith("bs-a100-176b-384gpu-dp4"))
    assert (first.layers, first.hidden, first.tied, first.step_time_s, first.lora_r) == (70, 14336, True, 121.63, None)


def test_shipped_header_is_what_row_reads() -> None:
    with SHIPPED.open(encoding="utf-8", newline="") as file:
        assert set(next(csv.reader(file))) == set(COLUMNS)


def test_every_row_names_a_target_that_it_measured() -> None:
    for row in rows():
        assert row.target_set <= {"time", "memory", "fit"}
        assert row.target_set
        assert "time" not in row.target_set or row.tokens_per_s_gpu
        assert "memory" not in row.target_set or row.peak_mem_gib
        assert "fit" not in row.target_set or row.outcome == "oom"


@pytest.mark.skipif(not SHARED.exists(), reason="the collection that the copy was made from is not here")
def test_shipped_table_agrees_with_the_collection() -> None:
    original = {row.id: row for row in rows(SHARED)}
    assert {row.id: row for row in rows()} == original


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("hf_id,seq_len\n", "no rows"),
        ("colour,shape\nred,round\n", "no column that names a model"),
        ("hf_id,hf_id\na,b\n", "names two columns"),
        ("hf_id,seq_len\na,1,2,3\n", "more cells than the header"),
        ("hf_id,seq_len\na,\0\n", "binary"),
    ],
)
def test_a_table_that_is_none_is_refused_in_one_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(PlanError, match=problem) as caught:
        rows(write(tmp_path / "t.csv", text))
    assert "\n" not in str(caught.value)


def test_missing_file_and_wrong_encoding_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot be read"):
        rows(tmp_path / "absent.csv")
    with pytest.raises(PlanError, match="cannot be read"):
        rows(tmp_path)
    (tmp_path / "latin.csv").write_bytes(b"hf_id,model\nx,caf\xe9\n")
    with pytest.raises(PlanError, match="UnicodeDecodeError"):
        rows(tmp_path / "latin.csv")


def test_oversized_cell_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="not valid CSV"):
        rows(write(tmp_path / "t.csv", "hf_id,seq_len\n" + "a" * 200_000 + ",1\n"))


@pytest.mark.parametrize("cell", ["many", "nan", "inf", "-3", "1e30", "2.5"])
def test_a_bad_cell_spoils_its_row_only(tmp_path: Path, cell: str) -> None:
    bad, good = rows(write(tmp_path / "t.csv", f"hf_id,layers,micro_batch\na,{cell},1\nb,2,1\n"))
    assert bad.problem is not None
    assert bad.problem.startswith("layers: ")
    assert good.problem is None
    assert good.layers == 2


def test_byte_order_mark_and_blank_cells(tmp_path: Path) -> None:
    (row,) = rows(write(tmp_path / "t.csv", "\ufeffhf_id,layers,seq_len\ngpt2, ,1024\n"))
    assert (row.hf_id, row.layers, row.seq_len, row.id) == ("gpt2", None, 1024.0, "line 2")


def test_half_of_the_tokens_are_padding_where_samples_are_loaded_by_length() -> None:
    """Krell et al. 2021: half of BERT's second phase, at 512 tokens; a rate that counts padding is the true one over the share that is none."""
    row = next(r for r in rows() if r.id == "dle-paddlepaddle-bert-large-a100-sxm4-80gb-8gpu-pt-s512-fp16-mixed-b32")
    assert told_share(row) == pytest.approx(0.5, abs=0.01)
    assert told_share(replace(row, seq_len=128)) == pytest.approx(0.825, abs=0.01)
    assert told_share(replace(row, task="sft")) == told_share(replace(row, gpu="V100 SXM2 32GB")) == 1.0
    assert to_run(row)["batch"]["seq_len"] == round(512 * told_share(row))
    told, whole = Predictor().predict(row), Predictor().predict(replace(row, seq_len=to_run(row)["batch"]["seq_len"], gpu="A100 SXM4 40GB"))
    assert told.tokens_per_s_gpu is not None and whole.tokens_per_s_gpu is not None
    assert told.tokens_per_s_gpu > 1.8 * whole.tokens_per_s_gpu


def test_ranks_wait_for_the_one_with_most_tokens() -> None:
    """Batches of samples of different length differ between ranks, less the more samples each has; balanced ones hardly differ."""
    row = next(r for r in rows() if r.id == "fms-a100_mp-008-mistral-7b-v0.1-aadp-padding-free-8gpu-bs8")
    shares = [walked_share(replace(row, micro_batch=each, sharding="zero3")) for each in (2, 4, 8, 64)]
    assert shares == sorted(shares, reverse=True)
    assert 1.4 < shares[2] < 1.6 and 1.0 < shares[3] < 1.25
    assert walked_share(replace(row, gpus=2, dp=2)) < shares[2]
    assert walked_share(replace(row, variant="padding-free-multipack")) == walked_share(replace(row, gpus=1, dp=1)) == 1.0
    assert walked_share(replace(row, experts=8, ep=8)) == 1.0
