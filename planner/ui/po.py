"""Reads and writes gettext catalogues (`.po`). They are read as they are, so that a fresh checkout shows every language without a build.

Only what the catalogues here use: `msgid` and `msgstr` over one or more lines, comments, the flag `fuzzy`. No plural forms, no contexts.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """One entry. source: the English text · text: its translation, empty where there is none · places: files that hold it."""

    source: str
    text: str = ""
    places: tuple[str, ...] = ()
    fuzzy: bool = False


def read(text: str) -> list[Message]:
    """The entries of a catalogue, without its header."""
    found = []
    for block in text.replace("\r\n", "\n").split("\n\n"):
        parts: dict[str, list[str]] = {"msgid": [], "msgstr": []}
        places: list[str] = []
        fuzzy, field = False, ""
        for line in block.splitlines():
            word, _, rest = line.partition(" ")
            if word == "#:":
                places += rest.split()
            elif word == "#,":
                fuzzy |= "fuzzy" in rest
            elif word in parts:
                field = word
                parts[field].append(_unquoted(rest))
            elif line.startswith('"') and field:
                parts[field].append(_unquoted(line))
        if source := "".join(parts["msgid"]):
            found.append(Message(source, "".join(parts["msgstr"]), tuple(places), fuzzy))
    return found


def write(messages: Iterable[Message], language: str) -> str:
    """A catalogue with these entries, in the order of their English texts, so that two branches rarely change the same lines."""
    header = (
        f'msgid ""\nmsgstr ""\n"Project-Id-Version: plumbline\\n"\n"Language: {language}\\n"\n'
        '"MIME-Version: 1.0\\n"\n"Content-Type: text/plain; charset=UTF-8\\n"\n"Content-Transfer-Encoding: 8bit\\n"\n'
    )
    blocks = [header]
    for one in sorted(messages, key=lambda message: message.source):
        places = "".join(f"#: {place}\n" for place in one.places)
        blocks.append(f"{places}{'#, fuzzy' + chr(10) if one.fuzzy else ''}msgid {_quoted(one.source)}\nmsgstr {_quoted(one.text)}\n")
    return "\n".join(blocks)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def _unquoted(text: str) -> str:
    return str(ast.literal_eval(text.strip()))
