"""How long the samples of a file are: its texts through a tokenizer, once, as the histogram that a run keeps.

A tokenizer is a `tokenizer.json` (of the `tokenizers` library) or the name of a model that has one: data, of which nothing is run. A text file has one
sample a line. A JSONL file has one object a line: its text stands in a field, or in the usual ones (`text`, or `prompt` and `completion`,
`instruction`, `input` and `output`, `messages`). A chat template is not applied: what it adds to every message is not counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from planner.errors import PlanError, shorten
from planner.units import format_bytes

MOST_BYTES: Final = 2**30
"""Bytes of a file that are read when nothing is said."""
MOST_LINE: Final = 16 * 2**20
MOST_TOKENIZER: Final = 64 * 2**20
BATCH_BYTES: Final = 2**20
"""Text that is handed to the tokenizer at once."""
WIDTH: Final = 0.03
"""Lengths that differ by less share a bin of the histogram."""

FIELDS: Final = (("text",), ("prompt", "completion"), ("instruction", "input", "output"), ("question", "answer"), ("content",))
"""Fields of a sample's text, by their usual names; a sample has all of those of one row that are there."""
CHATS: Final = ("messages", "conversations")


@dataclass(frozen=True)
class Counted:
    """Lengths of a file's samples.

    samples: of the whole file, by the share of its bytes that was read · read: samples that were counted · tokens: of those · lengths: of how
    many samples each length is [token] · empty: samples without text, left out · whole: whether all of the file was read.
    """

    samples: int
    read: int
    tokens: int
    lengths: dict[int, int]
    empty: int
    whole: bool
    remarks: tuple[str, ...] = ()

    @property
    def histogram(self) -> dict[str, float]:
        """Lengths and weights as `data.lengths` takes them: bins of 3 %, each at its mean; the longest is one of its own."""
        return histogram_of(self.lengths)

    @property
    def data(self) -> dict[str, Any]:
        """The `data` section of a run file."""
        return {"samples": self.samples, "lengths": self.histogram}

    def coarse(self, most: int) -> dict[str, float]:
        """The histogram with wider bins, so that there are at most so many."""
        width = WIDTH
        while len(made := histogram_of(self.lengths, width)) > most:
            width *= 1.25
        return made

    def percentile(self, probability: float) -> int:
        """The smallest length that this share of the samples does not exceed [token]."""
        passed = 0
        for length, count in sorted(self.lengths.items()):
            passed += count
            if passed >= probability * self.read:
                return length
        return max(self.lengths)


def histogram_of(lengths: dict[int, int], width: float = WIDTH) -> dict[str, float]:
    """Counts by length in bins of 3 %, or of another width. Each stands at its mean, so that tokens are kept; the longest alone, as it sets the peak."""
    longest = max(lengths)
    bins: dict[int, list[int]] = {}
    start = 0
    for length, count in sorted(lengths.items()):
        if not start or length > start * (1 + width) or length == longest:
            start = length
        total = bins.setdefault(start, [0, 0])
        total[0] += length * count
        total[1] += count
    made: Counter[int] = Counter()
    for tokens, count in bins.values():
        made[round(tokens / count)] += count
    return {str(length): float(count) for length, count in sorted(made.items())}


def tokenizer_of(name: str) -> Any:
    """A tokenizer of a `tokenizer.json`, a folder that has one, or a model's name. Raises `PlanError`; runs nothing of what it reads."""
    _library(name)
    path = Path(name).expanduser()
    path = path / "tokenizer.json" if path.is_dir() else path
    if path.is_file():
        if path.stat().st_size > MOST_TOKENIZER:
            raise PlanError("tokenizer", name, f"is larger than {format_bytes(MOST_TOKENIZER)}", "Give a model's tokenizer.json.")
        return tokenizer_from(path.read_bytes(), name)
    if name.endswith(".json") or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise PlanError("tokenizer", name, "is not there", "Give the path of a tokenizer.json, or a model's name.")
    return tokenizer_named(name)


def tokenizer_named(name: str) -> Any:
    """The tokenizer of a model on huggingface.co, or of the local cache. Raises `PlanError`."""
    _library(name)
    from tokenizers import Tokenizer

    try:
        return _plain(Tokenizer.from_pretrained(name))
    except Exception as error:  # the library raises bare exceptions of its own for network, names and files alike
        raise PlanError(
            "tokenizer", name, f"could not be had by name ({shorten(error, 120)})", "Download the model's tokenizer.json and give its path."
        ) from None


def tokenizer_from(content: bytes, name: str = "tokenizer.json") -> Any:
    """A tokenizer from the content of a `tokenizer.json`. Raises `PlanError`."""
    _library(name)
    from tokenizers import Tokenizer

    try:
        return _plain(Tokenizer.from_buffer(content))
    except Exception as error:  # see tokenizer_of
        raise PlanError(
            "tokenizer", name, f"is no tokenizer.json ({shorten(error, 120)})", "Give the tokenizer.json of a fast tokenizer, not its vocabulary."
        ) from None


def _library(name: str) -> None:
    from importlib.util import find_spec

    if find_spec("tokenizers") is None:
        raise PlanError("tokenizer", name, "needs the library tokenizers", "pip install tokenizers, or give lengths as a histogram or percentiles.")


def _plain(tokenizer: Any) -> Any:
    """Without the cut and the padding that a tokenizer.json may ask for: they would hide how long samples are."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def count_file(path: str | Path, tokenizer: Any, field: str | None = None, most_bytes: int = MOST_BYTES) -> Counted:
    """Lengths of the samples of a text or JSONL file, read once from front to back. Raises `PlanError`."""
    file = Path(path)
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            return count_lengths(stream, size, file.name, tokenizer, field, most_bytes)
    except OSError as error:
        raise PlanError("file", str(path), f"cannot be read ({type(error).__name__})", "Give the path of a text or JSONL file.") from None


def count_lengths(
    stream: IO[bytes], size: int, name: str, tokenizer: Any, field: str | None = None, most_bytes: int = MOST_BYTES
) -> Counted:
    """Lengths of the samples of an open file.

    Arguments
    ---------
    stream, size, name: its bytes, their number [bytes], and a name whose ending tells JSONL from text.
    tokenizer: of `tokenizer_of`. field: of a JSONL object that holds the text.
    most_bytes: after so many the count stops, and the samples of the rest are taken to be alike [bytes].

    Errors: `PlanError` for what is not text, not JSON, or holds no text.
    """
    lengths: Counter[int] = Counter()
    empty = taken = 0
    structured = name.lower().endswith((".jsonl", ".ndjson", ".json"))
    batch: list[str] = []
    waiting = 0

    def flush() -> None:
        lengths.update(len(one.ids) for one in tokenizer.encode_batch_fast(batch))
        batch.clear()

    whole = True
    for number, line in enumerate(_lines(stream, name), 1):
        if taken + len(line) > most_bytes and taken:
            whole = False
            break
        taken += len(line)
        text = _decoded(line, number, name).strip("\r\n")
        text = _text_of(text, number, field) if structured and text.strip() else text
        if not text.strip():
            empty += 1
            continue
        batch.append(text)
        waiting += len(line)
        if waiting >= BATCH_BYTES:
            flush()
            waiting = 0
    if batch:
        flush()
    lengths.pop(0, None)
    read = sum(lengths.values())
    if not read:
        raise PlanError("file", name, "holds no text", "Give a file with one sample a line.")
    samples = read if whole else max(read, round(read * size / taken))
    remarks = []
    if not whole:
        remarks.append(f"The first {format_bytes(taken)} of {format_bytes(size)} were counted; the rest is taken to be alike.")
    if empty:
        remarks.append(f"{empty:,} lines without text were left out.")
    if structured and field is None:
        remarks.append("Text of the usual fields was counted; what a chat template adds was not.")
    return Counted(samples, read, sum(n * count for n, count in lengths.items()), dict(lengths), empty, whole, tuple(remarks))


def _lines(stream: IO[bytes], name: str) -> Iterator[bytes]:
    while line := stream.readline(MOST_LINE + 1):
        if len(line) > MOST_LINE:
            raise PlanError("file", name, f"has a line longer than {format_bytes(MOST_LINE)}", "Give a text or JSONL file with one sample a line.")
        yield line


def _decoded(line: bytes, number: int, name: str) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise PlanError("file", name, f"is not UTF-8 text (line {number})", "Give a text or JSONL file.") from None


def _text_of(line: str, number: int, field: str | None) -> str:
    try:
        sample = json.loads(line)
    except (ValueError, RecursionError):
        raise PlanError("file", shorten(line, 40), f"is not JSON (line {number})", "A JSONL file has one object a line.") from None
    if isinstance(sample, str):
        return sample
    if not isinstance(sample, dict):
        raise PlanError("file", shorten(line, 40), f"is no object (line {number})", "A JSONL file has one object a line.")
    if field is not None:
        if field not in sample:
            raise PlanError("field", field, f"is not in line {number}", f"It has {shorten(', '.join(map(str, sample)), 80)}.")
        return _plain_text(sample[field])
    for names in FIELDS:
        found = [text for name in names if (text := _plain_text(sample.get(name)))]
        if found:
            return "\n".join(found)
    for name in CHATS:
        if isinstance(sample.get(name), list):
            return _plain_text(sample[name])
    if any(name in sample for names in (*FIELDS, CHATS) for name in names):
        return ""
    raise PlanError(
        "file", shorten(line, 40), f"has no field that is known to hold text (line {number})",
        f"Name it: it has {shorten(', '.join(map(str, sample)), 80)}.",
    )  # fmt: skip


def _plain_text(value: Any) -> str:
    """Text of a field: a string, or the contents of a conversation's messages one after the other."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(filter(None, map(_plain_text, value)))
    if isinstance(value, dict):
        return next((text for name in ("content", "value", "text") if (text := _plain_text(value.get(name)))), "")
    return ""
