"""Models: published Hugging Face config.json files, found by exact name, and a safe reader for a user's own.

The catalogue ships the configurations of well-known models so that the planner works offline. A configuration is
data: nothing in it is executed, and nothing is loaded from the network unless `fetch_config` is called.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from planner.catalog.config_text import MAX_BYTES, check_config, parse_config
from planner.catalog.tables import DATA, read_table
from planner.errors import PlanError

FIELD: Final = "model"
_HINT = "Or give the path to a config.json, or its content as a mapping."
_NAME_LIMIT = 200


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model of the catalogue.

    Attributes
    ----------
    id: Hugging Face id.
    aliases: other ids and names with the same architecture (instruction-tuned versions, mirrors).
    parameters: parameters of the listed architecture, tied weights counted once, checked with transformers.
    source: where the configuration comes from.
    """

    id: str
    aliases: tuple[str, ...]
    parameters: int
    source: str

    @property
    def config(self) -> dict[str, Any]:
        """The config.json, as a fresh mapping that the caller may change."""
        config: dict[str, Any] = json.loads(_config_text(self.id))
        return config


@cache
def models() -> tuple[ModelEntry, ...]:
    """All models of the catalogue, sorted by id. Reads the index only; a configuration is read when asked for."""
    return tuple(
        ModelEntry(
            id=row["id"],
            aliases=tuple(filter(None, row["aliases"].split("|"))),
            parameters=int(row["parameters"]),
            source=row["source"],
        )
        for row in read_table("models.csv")
    )


def find_model(name: str, field: str = FIELD) -> ModelEntry:
    """The model with exactly this id or alias; the part after the slash is enough when it is unique.

    Case and runs of spaces do not count.

    Errors
    ------
    PlanError: no such model (with the closest names), or several models share the name.
    """
    if not isinstance(name, str) or not name.strip():
        raise PlanError(
            field, name, "is not the name of a model", "Write a Hugging Face id such as openai-community/gpt2."
        )
    wanted = _normalise(name[:_NAME_LIMIT])
    index = _index()
    found = index.get(wanted, ())
    if len(found) == 1:
        return found[0]
    if found:
        raise PlanError(field, name, "names several models", f"Choose one of {', '.join(e.id for e in found)}.")
    close = difflib.get_close_matches(wanted, index, 12, 0)
    nearest = list(dict.fromkeys(entry.id for key in close for entry in index[key]))[:3]
    raise PlanError(field, name, "is not in the catalogue of models", f"The closest are {', '.join(nearest)}. {_HINT}")


def load_config(source: str | Path | Mapping[str, Any], field: str = FIELD) -> dict[str, Any]:
    """A user's config.json from a path, its JSON text, or a mapping; checked, never executed.

    Refused: more than 1 MiB, nesting deeper than 32, duplicate keys, NaN or Infinity, anything but an object with
    `model_type`. Text that starts with "{" is taken as JSON, any other as a path to a file or to its folder.

    Errors
    ------
    PlanError: one sentence on what is wrong with the configuration.
    """
    if isinstance(source, Mapping):
        return check_config(dict(source), field)
    if isinstance(source, str) and source.lstrip("\ufeff \t\r\n").startswith("{"):
        return parse_config(source, field)
    if not isinstance(source, (str, Path)):
        raise PlanError(field, source, "is not a configuration", "Give a path, JSON text or a mapping.")
    return parse_config(_read_file(source, field), field)


def fetch_config(hf_id: str, field: str = FIELD, revision: str | None = None) -> dict[str, Any]:
    """The config.json of a model on the Hugging Face hub. Goes to the network; runs no code of the repository.

    Arguments
    ---------
    hf_id: "organisation/name".
    field: dotted name of the input, for the message.
    revision: branch, tag or commit; None for the default branch.

    Errors
    ------
    PlanError: huggingface_hub is missing, the model is gated or absent, the hub cannot be reached, or the file is
        not a usable configuration.
    """
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
        )
    except ImportError:
        raise PlanError(
            field, hf_id, "cannot be fetched without huggingface_hub", f"Install huggingface_hub. {_HINT}"
        ) from None
    try:
        path = hf_hub_download(hf_id, "config.json", revision=revision)
    except HFValidationError:
        raise PlanError(field, hf_id, "is not a Hugging Face id", "Write it as organisation/name.") from None
    except GatedRepoError:
        problem = "is gated on the Hugging Face hub"
        fix = f"Accept its licence there and log in with `hf auth login`. {_HINT}"
        raise PlanError(field, hf_id, problem, fix) from None
    except RepositoryNotFoundError:
        raise PlanError(field, hf_id, "is not on the Hugging Face hub", f"Check the spelling. {_HINT}") from None
    except LocalEntryNotFoundError:
        problem = "cannot be fetched: the Hugging Face hub is not reachable and no copy is cached"
        raise PlanError(field, hf_id, problem, f"Check the network. {_HINT}") from None
    except EntryNotFoundError:
        raise PlanError(field, hf_id, "has no config.json on the hub", f"Choose another model. {_HINT}") from None
    except Exception as error:  # the hub's client passes on the errors of its transport, which it has changed before
        problem = f"cannot be fetched from the Hugging Face hub ({type(error).__name__})"
        raise PlanError(field, hf_id, problem, f"Check the network. {_HINT}") from None
    return parse_config(_read_file(path, field), field)


def _read_file(path: str | Path, field: str) -> str:
    try:
        file = Path(path).expanduser()
        if file.is_dir():
            file = file / "config.json"
        if not file.is_file():  # a pipe or a device would be waited for
            raise FileNotFoundError
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError, RuntimeError):
        raise PlanError(field, path, "is not a file that can be read", "Give the path to a config.json.") from None
    if len(content) > MAX_BYTES:
        raise PlanError(field, path, "is larger than 1 MiB", "Give the model's config.json, not its weights.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PlanError(field, path, "is not UTF-8 text", "Give the model's config.json.") from None


def _normalise(name: str) -> str:
    return " ".join(name.split()).casefold()


@cache
def _index() -> dict[str, tuple[ModelEntry, ...]]:
    index: dict[str, tuple[ModelEntry, ...]] = {}
    for entry in models():
        names = {_normalise(part) for name in (entry.id, *entry.aliases) for part in (name, name.rsplit("/", 1)[-1])}
        for name in names:
            index[name] = (*index.get(name, ()), entry)
    return index


@cache
def _config_text(model_id: str) -> str:
    return (DATA / "models" / f"{model_id.replace('/', '--')}.json").read_text(encoding="utf-8")
