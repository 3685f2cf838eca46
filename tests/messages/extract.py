"""Finds every text that a page can show: in the source of the app, in what registers itself, and in the sentences of the engine.

A text with numbers in it is an f-string where it is used; here it becomes a template with named places, `{steps} steps of {tokens} tokens`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
APP = ("Home.py", "pages/*.py", "planner/ui/*.py")
ENGINE = (
    "planner/summary.py", "planner/advise/*.py", "planner/estimate/*.py", "planner/report/pipeline.py", "planner/search/*.py", "planner/store/plans.py",
    "planner/logs/audit.py", "planner/logs/certain.py", "planner/logs/keep.py", "planner/logs/shortage.py", "planner/logs/signs.py", "planner/logs/trials.py",
)  # fmt: skip
NOT_SHOWN = (
    "planner/estimate/ledger.py", "planner/estimate/result.py", "planner/estimate/cache.py", "planner/search/cluster.py", "planner/ui/search_worker.py",
    "planner/ui/po.py",
)  # fmt: skip
"""Formulas and sources of terms, which are the same in every language, and what no page calls."""
WORDS = (
    "same", "speed", "time", "memory", "cost", "energy", "forward", "backward", "optimizer", "recompute", "fits",
    "yes", "none", "any", "unknown", "rank", "edited", "attention", "plan", "profile", "probe", "log", "measured",
    "calibrated", "fitted", "datasheet", "no", "full", "selective", "CPU-bound", "{hours} GPU-hours at {price}", "start-up", "evaluation",
    "Not in the total time, until the sidebar says how much: {skipped}.", "by micro batch", "by sequence length",
    "by GPUs", "by rank", "by accumulation", "Time of a sample", "Cost of a sample", "Time of the whole run",
    "sequences in a micro batch fit.", "tokens in a sequence fit.", "baseline", "low", "high",
)  # fmt: skip
"""Single words that stand alone on a page; in the source they cannot be told from keys."""
ERRORS = ("planner/**/*.py",)
"""Files whose `PlanError`s are read: the problem and the fix."""
NOT_ERRORS = (
    "planner/cli/", "planner/probe/", "planner/launch/", "planner/evidence/", "planner/search/cluster.py", "planner/workload/families/",
    "planner/logs/",
)  # fmt: skip
"""Rooms whose errors reach the command line only, or speak of a configuration's own fields."""

_WORD = re.compile(r"[A-Za-z]{2,}")
_CODE = re.compile(r"^[\w./\-:|+*%#,\[\](){}<>=&?^$\\~@!;]*$")
_MATERIAL = re.compile(r":material/\w+:|:(?:gray|small|red|green|orange|blue)(?=\[)|-badge|\{\w+\}")
_SILENT = {"key", "type", "bind", "icon", "language", "persist_state", "format", "width", "height", "gap", "mime", "align"}
"""Keyword arguments that nobody reads."""
_QUIET_CALLS = {
    "compile", "getLogger", "exception", "get", "startswith", "endswith", "split", "partition", "rpartition", "removeprefix", "removesuffix", "join",
    "replace", "strip", "open", "encode", "decode", "setdefault", "pop", "get_option", "import_module", "total", "TypeVar", "NamedTuple",
    "with_suffix", "glob", "remembered", "literal_eval", "finditer", "fullmatch", "sub", "match", "search", "execute", "add_annotation_type", "field",
}  # fmt: skip


def texts() -> dict[str, tuple[str, ...]]:
    """Every text, and the files that it stands in."""
    found: dict[str, set[str]] = {}

    def add(text: str, place: str) -> None:
        found.setdefault(text, set()).add(place)

    for path in files((*APP, *ENGINE)):
        place = str(path.relative_to(ROOT))
        if place not in NOT_SHOWN:
            for text in of_source(path.read_text(encoding="utf-8"), words=1):
                add(text, place)
    for path in files(ERRORS):
        place = str(path.relative_to(ROOT))
        if not place.startswith(NOT_ERRORS):
            for text in of_errors(path.read_text(encoding="utf-8")):
                add(text, place)
    for word in WORDS:
        add(word, "tests/messages/extract.py")
    for text, place in registered():
        add(text, place)
    return {text: tuple(sorted(places)) for text, places in found.items()}


def files(patterns: Iterable[str]) -> list[Path]:
    """The files of some patterns, each once."""
    return sorted({path for pattern in patterns for path in ROOT.glob(pattern)})


def registered() -> Iterator[tuple[str, str]]:
    """Labels and help of what registers itself: methods, optimizers, training software, fields of a run."""
    from planner.run import Method, Run
    from planner.ui import fields
    from planner.ui.address import CHOICES
    from planner.workload.methods import METHODS

    for kind in METHODS.values():
        yield from ((text, "planner/workload/methods") for text in (kind.label, kind.help) if readable(text))
    for entry in fields.ENTRIES.values():
        yield from ((text, "planner/run.py") for text in (entry.label, entry.help) if readable(text))
    for part in (Method, Run):
        for field in part.model_fields.values():
            if field.description and readable(field.description, 2):
                yield field.description, "planner/run.py"
    for labels in CHOICES.values():
        yield from ((text, "planner/ui/address.py") for text in labels.values() if readable(text))


_MARKUP = re.compile(r"</?\w+[ />]|%\{|\\w|arXiv|^\w+\||sans-serif|x unified|\\times")


def readable(text: str, words: int = 1) -> bool:
    """Whether a text has words to translate, and is no name, path, key or piece of code."""
    bare = _MATERIAL.sub("", text).strip()
    if len(_WORD.findall(bare)) < words or _MARKUP.search(text):
        return False
    if " " not in bare and "{" not in text:
        return bool(re.fullmatch(r"[A-Z][a-z]{2,}(?:-[a-z]+)*[.:]?", bare))
    return not _CODE.match(bare) or " " in bare or ("{" in text and " " in text.strip())


def of_source(source: str, words: int) -> Iterator[str]:
    """Texts of a module: its outermost string expressions that are neither documentation, keys nor code."""
    tree = ast.parse(source)
    silent = _silent(tree)
    for node in _outermost(tree, silent):
        for text in _templates(node):
            if readable(text, words):
                yield text


def of_errors(source: str) -> Iterator[str]:
    """Problem and fix of every `PlanError` of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "PlanError":
            for argument in node.args[2:4]:
                for text in _templates(argument):
                    if readable(text, 2):
                        yield text


def _silent(tree: ast.AST) -> set[ast.AST]:
    """Nodes that hold no text to read."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)):
            for part in node.body:
                if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant):
                    found.add(part.value)
        if isinstance(node, ast.Subscript):
            found.add(node.slice)
        if isinstance(node, ast.Dict):
            found.update(key for key in node.keys if isinstance(key, ast.Constant) and not (isinstance(key.value, str) and " " in key.value))
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            found.update(word.value for word in node.keywords if word.arg in _SILENT)
            if name in _QUIET_CALLS:
                found.update(node.args[:1] if name == "get" else node.args)
        if isinstance(node, ast.Compare):
            found.update((node.left, *node.comparators))
        if isinstance(node, (ast.AnnAssign, ast.arg)) and node.annotation is not None:
            found.add(node.annotation)
        if isinstance(node, ast.FunctionDef) and node.returns is not None:
            found.add(node.returns)
        if isinstance(node, ast.Raise):
            found.add(node)
    return found


def _outermost(node: ast.AST, silent: set[ast.AST]) -> Iterator[ast.expr]:
    for child in ast.iter_child_nodes(node):
        if child in silent:
            continue
        if isinstance(child, ast.expr) and _is_text(child):
            yield child
            for inner in ast.walk(child):  # a conversion inside a place may say something itself
                if isinstance(inner, ast.FormattedValue):
                    yield from _outermost(inner, silent)
        else:
            yield from _outermost(child, silent)


def _is_text(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add) and (_is_text(node.left) or _is_text(node.right))
    return isinstance(node, ast.JoinedStr)


def _templates(node: ast.expr) -> list[str]:
    """What a text expression can say: places where it takes values, and every choice between constant texts."""
    return sorted({"".join(parts) for parts in product(*_pieces(node, {}))})


def _pieces(node: ast.expr, names: dict[str, int]) -> list[list[str]]:
    if isinstance(node, ast.Constant):
        return [[node.value if isinstance(node.value, str) else ""]]
    if isinstance(node, ast.JoinedStr):
        return [piece for value in node.values for piece in _pieces(value, names)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_pieces(node.left, names), *_pieces(node.right, names)]
    inner = node.value if isinstance(node, ast.FormattedValue) else node
    if isinstance(inner, ast.IfExp) and (choices := _choices(inner)) is not None:
        return [choices]
    name = _name(inner)
    names[name] = names.get(name, 0) + 1
    return [["{" + (name if names[name] == 1 else f"{name}{names[name]}") + "}"]]


def _choices(node: ast.expr) -> list[str] | None:
    """The constant texts of a choice, None where one of them takes values."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        first, second = _choices(node.body), _choices(node.orelse)
        return None if first is None or second is None else [*first, *second]
    return None


def _name(node: ast.expr) -> str:
    """A name for a place: the last word of what fills it."""
    if isinstance(node, ast.Call):
        return _name(node.args[0]) if node.args else _name(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr.strip("_") or "it"
    if isinstance(node, ast.Name):
        return node.id.strip("_") or "it"
    if isinstance(node, ast.Subscript):
        return _name(node.slice) if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str) else _name(node.value)
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
        return node.value
    if isinstance(node, (ast.BinOp, ast.BoolOp)):
        return _name(node.left if isinstance(node, ast.BinOp) else node.values[0])
    return "it"
