"""What a document is made of, free of any markup: every format writes these."""

from __future__ import annotations

from dataclasses import dataclass

from planner.summary import Figure, State


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A line of text."""

    text: str


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list of sentences."""

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text. `numeric` holds the columns that are aligned to the right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Code:
    """Text to be copied as it is."""

    text: str
    language: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A place for a chart: memory, curve, time, timeline or stages, with a caption where there are several of a kind. Formats without pictures leave
    it out: a table says the same."""

    name: str
    caption: str = ""


Block = Paragraph | Bullets | Table | Code | Chart


@dataclass(frozen=True, slots=True)
class Section:
    """A titled part; a folded one is closed where the format can fold, and one that is not `first` stands after the first page."""

    name: str
    title: str
    blocks: tuple[Block, ...]
    folded: bool = False
    first: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report: of one plan, or a comparison of several, which has no figures of its own."""

    state: State
    verdict: str
    headline: tuple[str, ...]
    figures: tuple[Figure, ...]
    sections: tuple[Section, ...]

    @property
    def figures_table(self) -> Table:
        """The figures as a table, for formats that have no tiles."""
        rows = tuple((f.label, f.value_text, f.interval_text, f.chip, f.basis_text) for f in self.figures)
        return Table(("Figure", "Value", "90 % interval", "", "Basis"), rows)

    @property
    def second_page(self) -> str:
        """Name of the section that begins the second page; empty where there is none."""
        return next((section.name for section in self.sections if not section.first), "")
