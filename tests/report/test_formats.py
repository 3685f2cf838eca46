"""Every format can be read back, says the same, asks for nothing from outside, and shows foreign text as text."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from html.parser import HTMLParser

import pytest
import yaml

from planner import Estimate, PlanError, Run, estimate
from planner.report import EXPORTERS, Subject, export, register
from planner.report.content import build, run_file, value_text
from planner.report.csv_terms import COLUMNS, guard
from planner.report.markdown import plain
from planner.run import parse_run
from planner.summary import key_figures, verdict

HOSTILE = '<script>alert("x")</script>'


class Page(HTMLParser):
    """Tags with their attributes, and the text outside of style and script."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID and not self.get_starttag_text().endswith("/>"):  # type: ignore[union-attr]
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def rendered(subject: Subject, name: str) -> str:
    return EXPORTERS[name].render(subject).decode("utf-8")


def test_formats_are_listed_in_order_and_a_second_of_a_name_is_refused() -> None:
    assert next(iter(EXPORTERS)) == "html"
    assert {"html", "md", "json", "csv", "tables", "xlsx"} <= set(EXPORTERS)
    with pytest.raises(RuntimeError, match="registered twice"):
        register("csv", label="", ending="csv", mime="text/csv", position=0, many=lambda several: b"")(lambda subject: b"")


def test_an_unknown_format_names_the_known_ones(subject: Subject) -> None:
    with pytest.raises(PlanError, match=r"^format: 'docx' is not a report format. Use one of html, .*csv"):
        export(subject.estimate, "docx")


@pytest.mark.parametrize("name", [name for name in EXPORTERS if name != "xlsx"])
def test_the_same_estimate_gives_the_same_bytes(subject: Subject, name: str) -> None:
    first = export(subject.estimate, name, suggestions=subject.suggestions, run=subject.run)
    assert first == EXPORTERS[name].render(subject)


@pytest.mark.parametrize("name", ["html", "md"])
def test_verdict_and_figures_come_first_and_are_those_of_the_page(subject: Subject, name: str) -> None:
    text = rendered(subject, name)
    text = Page(text).text if name == "html" else text.replace("\\", "")
    position = text.index(verdict(subject.estimate).sentence)
    for figure in key_figures(subject.estimate):
        found = text.index(figure.value_text, position)
        assert found > position, figure
        assert figure.interval_text in text
        position = text.index(figure.label, position)
    for section in build(subject).sections:
        assert (name == "md" and section.folded) or section.title in text


def test_html_is_well_formed_and_needs_nothing_from_outside(subject: Subject) -> None:
    source = rendered(subject, "html")
    page = Page(source)
    assert not page.open
    assert not {"script", "iframe", "object", "embed", "link", "img", "base", "form"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            assert name not in {"href", "src", "xlink:href", "action", "srcset"}, (tag, name, value)
    outside = set(re.findall(r"https?://[^\s\"'<]+", source))
    assert outside <= {"http://www.w3.org/2000/svg"}
    assert "url(http" not in source
    assert "@import" not in source
    assert any(attributes.get("http-equiv") == "Content-Security-Policy" for _, attributes in page.tags)


def test_html_charts_have_a_sentence_and_drawable_numbers(subject: Subject) -> None:
    page = Page(rendered(subject, "html"))
    charts = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(charts) == 3
    for chart in charts:
        assert chart["role"] == "img"
        assert len(chart["aria-label"] or "") > 20
    hints = [tag for tag, _ in page.tags if tag == "title"]
    assert len(hints) > 12  # one of them is the page's own
    assert "Weights: " in page.text and "Matmul: " in page.text
    places = {"x", "y", "width", "height", "x1", "x2", "cx", "cy"}
    shapes = [attributes for tag, attributes in page.tags if tag in {"rect", "line", "circle", "text"}]
    drawn = [value for attributes in shapes for name, value in attributes.items() if name in places]
    assert len(drawn) > 30
    numbers = [float(value or "nan") for value in drawn if not str(value).endswith("%")]
    assert all(math.isfinite(number) and -1 <= number <= 2000 for number in numbers)


@pytest.mark.parametrize("name", ["html", "md"])
def test_foreign_text_is_shown_as_text(hostile: Subject, name: str) -> None:
    source = rendered(hostile, name)
    if name == "html":
        assert "<script" not in source
        page = Page(source)
        assert not page.open
        assert HOSTILE in page.text
    else:
        assert "&lt;script&gt;" in source
        outside_code = re.sub(r"^(`{3,})\w*\n.*?^\1$", "", source, flags=re.DOTALL | re.MULTILINE)
        assert "<script" not in outside_code
        assert "](javascript" not in outside_code
        assert "**bold**" not in outside_code
        assert not re.search(r"(?m)^# heading", outside_code)


def test_every_row_of_a_markdown_table_has_the_columns_of_its_head(hostile: Subject, subject: Subject) -> None:
    for each in (hostile, subject):
        columns = None
        rows = 0
        for line in rendered(each, "md").splitlines():
            if not line.startswith("|"):
                columns = None
                continue
            bars = len(re.findall(r"(?<!\\)\|", line))
            assert columns in (None, bars), line
            columns, rows = bars, rows + 1
        assert rows > 15


def test_plain_leaves_ordinary_text_alone() -> None:
    assert plain("Fits, with 41 GiB to spare (8 × H100)") == "Fits, with 41 GiB to spare (8 × H100)"
    assert plain("a_b zero-3 exp_avg") == "a_b zero-3 exp_avg"
    assert plain("- not a list") == "\\- not a list"
    assert plain("1. not a list") == "1\\. not a list"
    assert plain("# not a heading\nnor two lines") == "\\# not a heading nor two lines"
    assert plain("$56 to $67") == "\\$56 to \\$67"


def test_csv_holds_every_term_in_full_precision(subject: Subject) -> None:
    rows = list(csv.DictReader(io.StringIO(rendered(subject, "csv"), newline="")))
    assert list(rows[0]) == list(COLUMNS)
    terms = subject.estimate.terms
    assert [(row["name"], float(row["value"]), row["unit"]) for row in rows] == [(t.name, t.value, t.unit) for t in terms]
    seconds = math.fsum(float(row["value"]) for row in rows if row["name"].startswith("time/"))
    assert seconds == pytest.approx(subject.estimate.step_time_s, rel=1e-9)
    held = math.fsum(float(row["value"]) for row in rows if row["name"].startswith(("memory/", "reserved/")))
    assert held == pytest.approx(subject.estimate.peak_reserved_bytes, rel=1e-9)


def test_csv_runs_no_formula(hostile: Subject) -> None:
    for row in csv.DictReader(io.StringIO(rendered(hostile, "csv"), newline="")):
        for column, cell in row.items():
            assert column == "value" or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), cell
    assert guard("＝1+1") == "'＝1+1"
    assert [guard(text) for text in ("=1", "+1", "-1", "@a", "\ta", "a=1")] == ["'=1", "'+1", "'-1", "'@a", "'\ta", "a=1"]


def test_json_has_the_keys_of_an_estimate_and_reads_back(subject: Subject) -> None:
    document = json.loads(rendered(subject, "json"), parse_constant=lambda name: pytest.fail(name))
    assert document["schema_version"] == 2
    plainly = json.loads(json.dumps(subject.estimate.model_dump(mode="json")))
    assert plainly.items() <= document.items()
    again = Estimate.model_validate(document)
    assert again.step_time_s == subject.estimate.step_time_s
    assert again.terms == subject.estimate.terms
    assert len(document["memory_curve"]) == len(subject.estimate.memory_curve) > 2
    peak = max(point["allocated"] for point in document["memory_curve"])
    assert peak == pytest.approx(subject.estimate.peak_memory_bytes)
    assert [s["title"] for s in document["suggestions"]] == [s.title for s in subject.suggestions]


def test_json_refuses_nan(subject: Subject) -> None:
    broken = subject.estimate.model_copy(update={"cost_usd": math.nan})
    with pytest.raises(ValueError, match="nan"):
        export(broken, "json")


def test_the_printed_run_file_gives_the_same_estimate(subject: Subject) -> None:
    for each in (subject, Subject(subject.estimate)):
        again = estimate(parse_run(yaml.safe_load(run_file(each))))
        assert again.step_time_s == pytest.approx(subject.estimate.step_time_s, rel=1e-12)
        assert again.peak_reserved_bytes == subject.estimate.peak_reserved_bytes


def test_defaults_are_told_from_what_was_given(subject: Subject) -> None:
    section = next(s for s in build(subject).sections if s.name == "configuration")
    table, line = section.blocks
    given = dict(table.rows)  # type: ignore[union-attr]
    assert given["batch.micro"] == "8"
    assert given["data.tokens"] == "250,000,000"
    assert "optimizer adamw" in line.text  # type: ignore[union-attr]
    assert "optimizer" not in given
    whole = next(s for s in build(Subject(subject.estimate)).sections if s.name == "configuration")
    assert len(whole.blocks) == 1


def test_every_unit_of_a_term_has_a_format() -> None:
    for unit in ("B", "FLOP", "FLOP/s", "s", "1", "USD", "kWh", "kg", "B/s", "token/s"):
        assert value_text(1234.5, unit)


def test_a_report_says_what_is_not_known(subject: Subject) -> None:
    unknown = {"usable_memory_bytes": None, "fits": None, "fits_reason": "The memory of this device is not known."}
    unknown |= {"memory_curve": (), "total_time_s": None, "cost_usd": None}
    less = Subject(subject.estimate.model_copy(update=unknown), (), Run(model="gpt2"))
    for name in EXPORTERS:
        assert name == "xlsx" or export(less.estimate, name)
    text = Page(rendered(less, "html")).text
    assert "Not known whether it fits: the memory of this device is not known" in text
    assert "nan" not in text.lower().split()
    assert "None" not in text.split()
