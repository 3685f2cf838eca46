"""One document in every format: the same sections with the same words in the same order; the first page answers; the JSON leads back."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from planner import Run, estimate
from planner.catalog import find_accelerator
from planner.cli import main
from planner.device import default_profile
from planner.errors import PlanError
from planner.lock import changes, lock_in, pinned
from planner.report import EXPORTERS, Comparison, Subject, pdf, subject_of, xlsx
from planner.report.blocks import Bullets, Code, Document, Paragraph, Table
from planner.report.comparing import build as build_many
from planner.report.content import FIRST_PAGE, build
from planner.report.csv_terms import guard
from planner.report.grounds import split_assumptions
from planner.report.json_report import JsonComparison, JsonReport
from planner.report.schema import SCHEMA, schema_text

SHEETS = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
ORDER = [
    "limits", "help", "warnings", "configuration", "facts", "memory", "time", "pipeline", "whole", "energy", "ranks", "alternatives", "assumptions",
    "overrides", "exclusions", "calibration", "evidence", "sources", "reproduce", "serving", "terms",
]  # fmt: skip
"""Verdict and figures stand before all of them."""


@pytest.fixture(scope="module")
def full() -> Subject:
    """A plan with every section: stages, a calibration, overrides, warnings."""
    mapping = {
        "model": "meta-llama/Llama-3.1-8B", "precision": "bf16", "stack": "torchtitan", "hardware": {"gpu": "H100 SXM 80GB", "gpus": 16},
        "parallel": {"pp": 2, "sharding": "zero1"}, "batch": {"micro": 1, "accumulation": 4, "seq_len": 4096}, "data": {"tokens": "1B"},
        "price": {"usd_per_gpu_hour": 2.0}, "energy": {"pue": 1.1},
    }  # fmt: skip
    run, profile = Run.model_validate(mapping), default_profile(find_accelerator("H100 SXM 80GB"))
    made = estimate(run, profile).model_copy(update={"warnings": ("Beware of the dog.",)})
    return subject_of(run, made, profile)


@pytest.fixture(scope="module")
def several() -> Comparison:
    subjects = []
    for name, gpu in (("first", "L40S"), ("=second", "H100 SXM 80GB"), ("third", "T4")):
        run = Run.model_validate({"model": "meta-llama/Llama-3.1-8B", "method": "lora", "hardware": gpu, "data": {"tokens": "10M"}})
        subjects.append(subject_of(run, estimate(run), name=name))
    return Comparison(tuple(subjects), "cost")


class _Text(HTMLParser):
    def __init__(self, source: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.quiet = False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.quiet = tag in ("style", "svg") or (self.quiet and tag != "section")

    def handle_endtag(self, tag: str) -> None:
        self.quiet = self.quiet and tag not in ("style", "svg")

    def handle_data(self, data: str) -> None:
        self.words += [] if self.quiet else [data]


def _html(content: bytes) -> str:
    return " ".join(" ".join(_Text(content.decode()).words).split())


def _md(content: bytes) -> str:
    text = content.decode().replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return " ".join(re.sub(r"\\([\\`*_{}\[\]()#+!|~$.-])", r"\1", text).replace("|", " ").split())


def _json(content: bytes) -> str:
    told = json.loads(content)
    words = [told["verdict"], *told.get("headline", ()), *(f"{f['label']} {f['value']} {f['interval']}" for f in told.get("figures", ()))]
    for part in told["sections"]:
        words += [part["title"], *part["header"], *(cell for row in part["rows"] for cell in row)]
    return " ".join(" ".join(words).split())


def _csv(content: bytes) -> str:
    rows = csv.reader(io.StringIO(content.decode(), newline=""))
    return " ".join(" ".join(cell.removeprefix("'") for row in rows for cell in row).split())


def cells(content: bytes) -> dict[str, list[list[str]]]:
    """Sheets of a workbook by name, as a reader that knows nothing of the writer sees them."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        shared = [
            "".join(text.text or "" for text in item.iter(f"{SHEETS}t")) for item in ElementTree.fromstring(file.read("xl/sharedStrings.xml"))
        ]
        names = [sheet.attrib["name"] for sheet in ElementTree.fromstring(file.read("xl/workbook.xml")).iter(f"{SHEETS}sheet")]
        found: dict[str, list[list[str]]] = {}
        for i, name in enumerate(names, start=1):
            tree = ElementTree.fromstring(file.read(f"xl/worksheets/sheet{i}.xml"))
            assert not list(tree.iter(f"{SHEETS}f")), "a formula"
            found[name] = [
                [shared[int(c.findtext(f"{SHEETS}v") or 0)] if c.get("t") == "s" else c.findtext(f"{SHEETS}v") or "" for c in row]
                for row in tree.iter(f"{SHEETS}row")
            ]
    return found


def _xlsx(content: bytes) -> str:
    return " ".join(" ".join(cell for rows in cells(content).values() for row in rows for cell in row).split())


READERS: dict[str, Callable[[bytes], str]] = {"html": _html, "md": _md, "json": _json, "tables": _csv, "xlsx": _xlsx}


def words_of(document: Document, but: tuple[str, ...] = ()) -> list[str]:
    """Everything that a document says, in its order."""
    found = [document.verdict, *document.headline]
    for figure in document.figures:
        found += [figure.value_text, figure.interval_text]
    for section in document.sections:
        if section.name in but:
            continue
        for block in section.blocks:
            if isinstance(block, Paragraph):
                found.append(block.text)
            elif isinstance(block, Bullets):
                found += block.items
            elif isinstance(block, Code):
                found += block.text.split()
            elif isinstance(block, Table):
                found += [cell for row in (block.header, *block.rows) for cell in row]
    return [" ".join(text.split()) for text in found if text.strip()]


def text_in(name: str, content: bytes) -> str:
    if name == "xlsx":
        pytest.importorskip("xlsxwriter")
    return READERS[name](content)


@pytest.mark.parametrize("name", list(READERS))
def test_every_format_says_everything_in_the_same_order(full: Subject, name: str) -> None:
    if name == "xlsx":
        pytest.importorskip("xlsxwriter")
    document, text = build(full), text_in(name, EXPORTERS[name].render(full))
    assert [section.name for section in document.sections] == ORDER
    missing = [words for words in words_of(document, ("terms",)) if words.replace("|", " ").split() and " ".join(words.replace("|", " ").split()) not in text]
    assert not missing, missing[:3]
    if name in ("html", "md"):
        places = [text.index(f" {section.title} ", 0) for section in document.sections if (name, section.name) != ("md", "terms")]
        heads = [m.start() for m in re.finditer(r"^## ", EXPORTERS[name].render(full).decode(), re.MULTILINE)]
        assert places[0] > text.index(document.figures[0].value_text)
        assert name == "html" or len(heads) == len(ORDER) - 1
        ids = re.findall(r'<section id="([\w-]+)"', EXPORTERS["html"].render(full).decode())
        assert ids == ORDER
    if name in ("json", "xlsx"):
        content = EXPORTERS[name].render(full)
        parts = [part["name"] for part in json.loads(content)["sections"]] if name == "json" else list(cells(content))
        firsts = [part for part in dict.fromkeys(part.partition("-")[0] for part in parts) if part in ORDER]
        assert firsts == ORDER[:-1]


def test_the_pdf_is_made_of_the_same_words(full: Subject) -> None:
    pytest.importorskip("typst")
    told = json.dumps(pdf.content(full), ensure_ascii=False)
    assert [part["title"] for part in pdf.content(full)["sections"]] == [section.title for section in build(full).sections]
    assert all(json.dumps(words, ensure_ascii=False)[1:-1] in " ".join(told.replace("\\n", " ").split()) for words in words_of(build(full)))
    assert [part["rest"] for part in pdf.content(full)["sections"]].index(True) == len(FIRST_PAGE)


def test_the_first_page_answers_and_the_rest_starts_a_new_one(full: Subject) -> None:
    first = [section.name for section in build(full).sections if section.first]
    assert first == list(FIRST_PAGE)
    html = EXPORTERS["html"].render(full).decode()
    assert re.findall(r'<section id="(\w+)" class="rest">', html) == ["configuration"]
    assert ".rest { break-before: page; }" in html


def test_sections_say_what_their_titles_promise(full: Subject) -> None:
    parts = {section.name: section.blocks for section in build(full).sections}
    ranks = next(block for block in parts["ranks"] if isinstance(block, Table))
    assert [row[0] for row in ranks.rows] == ["stage 1 of 2, 8 ranks", "stage 2 of 2, 8 ranks"]
    assert any("$2.00 in place of $" in item for item in parts["overrides"][0].items)  # type: ignore[union-attr]
    assert any(item.startswith("energy.pue: 1.1") for item in parts["overrides"][0].items)  # type: ignore[union-attr]
    assumed, left_out = split_assumptions(full.estimate)
    assert assumed and left_out and set(assumed) | set(left_out) == set(full.estimate.assumptions)
    others = next(block for block in parts["alternatives"] if isinstance(block, Table))
    assert full.advice is not None and len(others.rows) == len(full.advice.others) + len(full.advice.refused)
    assert not {row[0] for row in others.rows} & {s.title for s in full.suggestions}
    assert all(row[-1].endswith(".") for row in others.rows)
    assert any(len(cell) == 64 for row in parts["calibration"][0].rows for cell in row)  # type: ignore[union-attr]
    none = next(section for section in build(Subject(full.estimate)).sections if section.name == "calibration")
    assert none.blocks[0].text.startswith("None: ")  # type: ignore[union-attr]


def test_the_json_report_leads_back_to_the_identical_plan(tmp_path: Path, full: Subject, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(EXPORTERS["json"].render(full))
    found = lock_in(document)
    assert found is not None
    run, moved = pinned(found, full.profile)
    again = estimate(run, full.profile)
    assert run == full.run and not moved
    assert not changes(found, again, full.profile)
    assert again.model_copy(update={"warnings": full.estimate.warnings}).model_dump() == full.estimate.model_dump()
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"model": "gpt2", "hardware": "L40S"}), encoding="utf-8")
    assert main(["report", str(file), "-o", str(tmp_path / "report.json")]) == 0
    assert main(["report", str(tmp_path / "report.json"), "-o", str(tmp_path / "again.json")]) == 0
    first, second = ((tmp_path / name).read_text(encoding="utf-8") for name in ("report.json", "again.json"))
    assert first == second
    broken = json.loads(first)
    broken["lock"]["inputs"]["model"] = "openai-community/gpt2-xl"
    (tmp_path / "broken.json").write_text(json.dumps(broken), encoding="utf-8")
    capsys.readouterr()
    assert main(["estimate", str(tmp_path / "broken.json")]) == 2
    assert "changed by hand" in capsys.readouterr().err
    for text in ({"schema_version": 1}, {"schema_version": 2, "kind": "comparison"}, {"lock_version": 9}):
        with pytest.raises(PlanError):
            lock_in(text)


def test_the_published_schema_is_that_of_the_models_and_holds(full: Subject, several: Comparison) -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), "python -m planner.report.schema writes it"
    one, many = json.loads(EXPORTERS["json"].render(full)), json.loads(EXPORTERS["json"].many(several))
    assert set(one) == set(JsonReport.model_fields) and set(many) == set(JsonComparison.model_fields)
    checker = pytest.importorskip("jsonschema").Draft202012Validator(json.loads(schema_text()))
    assert not list(checker.iter_errors(one)) and not list(checker.iter_errors(many))
    assert list(checker.iter_errors({**one, "fits": "maybe"}))


@pytest.mark.parametrize("name", list(READERS))
def test_a_comparison_says_the_same_in_every_format(several: Comparison, name: str) -> None:
    if name == "xlsx":
        pytest.importorskip("xlsxwriter")
    document, text = build_many(several), text_in(name, EXPORTERS[name].many(several))
    missing = [words for words in words_of(document) if " ".join(words.replace("|", " ").split()) not in text]
    assert not missing, missing[:3]
    assert document.verdict == "=second is the best of 3 plans by cost" or document.verdict.startswith("first is the best")
    side = next(section for section in document.sections if section.name == "side").blocks[0]
    assert isinstance(side, Table) and [row[0] for row in side.rows] == ["1", "2", "–"]
    assert "third: " in text


def test_a_comparison_as_pdf_and_from_the_command(tmp_path: Path, several: Comparison) -> None:
    if pytest.importorskip("typst"):
        assert EXPORTERS["pdf"].many(several).startswith(b"%PDF")
    files = []
    for gpu in ("L40S", "T4"):
        files.append(tmp_path / f"{gpu}.yaml")
        files[-1].write_text(f"model: gpt2\nhardware: {gpu}\n", encoding="utf-8")
    assert main(["report", *map(str, files), "-o", str(tmp_path / "both.html")]) == 0
    html = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert html.count("<svg") == 2 and "is the best of 2 plans by time" in html and "<script" not in html


def test_csv_of_a_comparison_and_of_tables_runs_no_formula(several: Comparison, hostile: Subject) -> None:
    rows = list(csv.DictReader(io.StringIO(EXPORTERS["csv"].many(several).decode(), newline="")))
    assert [row["plan"] for row in rows if row["plan"].endswith("second")] == ["'=second"]
    assert all(float(row["time_s"]) > 0 for row in rows)
    for content in (EXPORTERS["tables"].many(several), EXPORTERS["tables"].render(hostile)):
        for row in csv.reader(io.StringIO(content.decode(), newline="")):
            assert all(cell == guard(cell) for cell in row)


def test_xlsx_holds_numbers_as_numbers_and_text_as_text(full: Subject, hostile: Subject) -> None:
    pytest.importorskip("xlsxwriter")
    content = EXPORTERS["xlsx"].render(full)
    assert content == EXPORTERS["xlsx"].render(full)
    ledger = cells(content)["Ledger"][1:]
    assert [row[0] for row in ledger] == [term.name for term in full.estimate.terms]
    assert [float(row[1]) for row in ledger] == pytest.approx([term.value for term in full.estimate.terms], rel=1e-12)
    flat = [cell for rows in cells(EXPORTERS["xlsx"].render(hostile)).values() for row in rows for cell in row]
    assert any(cell.startswith("=cmd") for cell in flat) and any("<script>" in cell for cell in flat)
    assert xlsx.clean("a\x00b\x1fc" + "x" * 40_000)[:5] == "a b c" and len(xlsx.clean("x" * 40_000)) == 32_767


def test_without_xlsxwriter_it_says_what_to_do(full: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx, "find_spec", lambda name: None)
    with pytest.raises(PlanError, match="pip install XlsxWriter"):
        EXPORTERS["xlsx"].render(full)
