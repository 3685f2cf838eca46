"""The language of the page. `_` gives a text of the app or a sentence of the engine in the language of the reader.

Texts are written in English where they are used, numbers and all. `_` looks up a text as it stands, and else recognises it by its template:
"306 steps of 32,768 tokens" was written as `f"{steps} steps of {tokens} tokens"`, which stands in the catalogue as "{steps} steps of {tokens}
tokens". So the engine stays free of languages, and what it says in JSON and reports is the same everywhere. A text that no catalogue has is shown
in English; `python -m tests.messages` finds every text, and a test fails while one is missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from planner.ui import po

ENGLISH, CHINESE = "en", "zh"
NAMES: Final = {ENGLISH: "English", CHINESE: "简体中文"}
"""Languages as their readers call them."""
KEY: Final = "lang"
"""Key of the input, and its name in the address."""
_FIRST: Final = "lang_first"
_FOLDERS: Final = {CHINESE: "zh_CN"}
_LOCALE: Final = Path(__file__).with_name("locale")
PLACE: Final = re.compile(r"\{(\w+)\}")
"""A place for a number or a name in a template."""
_NUMBERED: Final = re.compile(r"([−+±]? ?[$€]?\d[\d.,]*(?: ?%| ?[×x])?)( )(.*)", re.DOTALL)
"""A number before words."""
FEW: Final = 9
"""Letters of a template below which its places hold a quantity or one word: so little is said by many a text of another kind."""
MANY: Final = 30
"""Letters from which a place may hold several sentences."""
MOST_TEXT: Final = 2000
"""Characters: longer texts are files that a user shows, not sentences."""


def current() -> str:
    """The language of this session; English outside the app."""
    if get_script_run_ctx(suppress_warning=True) is None:
        return ENGLISH
    said = st.session_state.get(KEY) or st.session_state.get(_FIRST)
    return said if said in NAMES else ENGLISH


def begin() -> None:
    """On the first run of a session: the language of the address, or that of the browser."""
    if _FIRST in st.session_state:
        return
    said = str(st.query_params.get(KEY, "")).strip().lower()
    known = {name.lower(): code for code, name in NAMES.items()} | {code: code for code in NAMES}
    st.session_state[_FIRST] = known.get(said) or (CHINESE if str(st.context.locale or "").lower().startswith("zh") else ENGLISH)


def first() -> str:
    """The language in which this session began."""
    return str(st.session_state.get(_FIRST, ENGLISH))


def _(text: str) -> str:
    """A text in the language of this session."""
    language = current()
    return text if language == ENGLISH else translate(text, language)


def file(path: Path) -> Path:
    """The file beside this one in the language of this session: `method.md` is `method.zh.md` in Chinese. The English one where there is none."""
    other = path.with_suffix(f".{current()}{path.suffix}")
    return other if other.exists() else path


def known(language: str) -> Mapping[str, str]:
    """Translation by English text."""
    return _catalogue(language).texts


@dataclass(frozen=True)
class _Template:
    """A text with places. longest: its longest stretch without one, by which most others are ruled out."""

    pattern: re.Pattern[str]
    longest: str
    text: str


@dataclass(frozen=True)
class _Catalogue:
    texts: dict[str, str]
    templates: tuple[_Template, ...]


@cache
def _catalogue(language: str) -> _Catalogue:
    folder = _FOLDERS.get(language)
    if folder is None:
        return _Catalogue({}, ())
    entries = po.read((_LOCALE / folder / "LC_MESSAGES" / "planner.po").read_text(encoding="utf-8"))
    texts = {one.source: one.text for one in entries if one.text and not one.fuzzy}
    found = [(_pattern(source), max(PLACE.split(source)[::2], key=len), text, source) for source, text in texts.items() if PLACE.search(source)]
    found.sort(key=lambda one: -len(PLACE.sub("", one[3])))  # what says most of itself is the likelier origin
    return _Catalogue(texts, tuple(_Template(pattern, longest, text) for pattern, longest, text, _source in found))


def _pattern(source: str) -> re.Pattern[str]:
    pieces = PLACE.split(source)
    letters = sum(c.isalpha() for piece in pieces[::2] for c in piece)
    inside = r"\S*\d\S*(?: \S+)?|\S+" if letters < FEW else r"(?:(?!\. ).)*?" if letters < MANY else ".*?"
    made, seen = [re.escape(pieces[0])], set()
    for name, literal in zip(pieces[1::2], pieces[2::2], strict=True):
        made.append(f"(?P={name})" if name in seen else f"(?P<{name}>{inside})")
        made.append(re.escape(literal))
        seen.add(name)
    return re.compile("".join(made), re.DOTALL)


@lru_cache(maxsize=8192)
def translate(text: str, language: str) -> str:
    """A text in another language: as it stands, by its template, or in its parts; itself where none is known."""
    catalogue = _catalogue(language)
    if (whole := catalogue.texts.get(text)) is not None:
        return whole
    if len(text) > MOST_TEXT or not any(c.isalpha() for c in text):
        return text
    for template in catalogue.templates:
        if template.longest in text and (found := template.pattern.fullmatch(text)):
            parts = {name: translate(part, language) for name, part in found.groupdict().items()}
            return PLACE.sub(lambda place, parts=parts: parts[place[1]], template.text)  # type: ignore[misc]
    if found := _NUMBERED.fullmatch(text):
        return f"{found[1]}{found[2]}{translate(found[3], language)}"
    if text.endswith(".") and (said := translate(text[:-1], language)) != text[:-1]:
        return f"{said}。"
    return _in_parts(text, language)


def _in_parts(text: str, language: str) -> str:
    """What is several sentences, or a list, sentence by sentence; marks around a text are kept."""
    for mark, join in ((". ", "。"), (" · ", " · "), ("; ", "；"), (": ", "："), (", ", "，"), (" and ", "和")):
        pieces = text.split(mark)
        if len(pieces) > 1:
            ends = [piece + "." if mark == ". " and i < len(pieces) - 1 else piece for i, piece in enumerate(pieces)]
            said = [translate(piece, language) for piece in ends]
            if any(one != piece for one, piece in zip(said, ends, strict=True)):
                if mark == ". ":
                    return "".join(one if one != piece else f"{piece} " for one, piece in zip(said, ends, strict=True)).rstrip(" ")
                return join.join(said)
            return text
    return text


def words(value: Any) -> Any:
    """Texts of a table's cell or a chart's axis in the language of this session; other values as they are."""
    if isinstance(value, str):
        return _(value)
    if isinstance(value, (list, tuple)):
        return type(value)(words(one) for one in value)
    return value


def figure(chart: Any) -> Any:
    """A chart with its names, titles and notes in the language of this session; numbers and hover texts that are computed stay."""
    if current() == ENGLISH:
        return chart
    for trace in chart.data:
        for field in ("name", "x", "y", "text"):
            value = getattr(trace, field, None)
            if isinstance(value, str) or (isinstance(value, (list, tuple)) and value and all(isinstance(one, str) for one in value)):
                trace[field] = words(value)
    for note in chart.layout.annotations or ():
        note.text = words(note.text)
    for name in ("xaxis", "yaxis"):
        if (title := chart.layout[name].title.text) is not None:
            chart.layout[name].title.text = words(title)
    return chart
