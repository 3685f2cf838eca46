"""`planner saved`: plans that were saved, with search, tags, and deletion that can be taken back."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from planner import units
from planner.cli.inputs import add_json, read_run
from planner.cli.output import bold, emit_json, printable, table, wrapped
from planner.errors import PlanError

if TYPE_CHECKING:
    from planner.store import Entry, Store

NAME = "saved"
HELP = "saved plans, profiles, probes and logs: list, save, show, tag, delete, restore"
DESCRIPTION = "Saved work in the user's data folder (SQLite), or in the PostgreSQL that PLANNER_DATABASE_URL names."
ACTIONS = ("list", "save", "show", "tag", "rename", "delete", "restore")


def arguments(command: argparse.ArgumentParser) -> None:
    """Arguments of this command."""
    command.add_argument("action", choices=ACTIONS, nargs="?", default="list", help="list when left out")
    command.add_argument(
        "what", nargs="*", metavar="WHAT",
        help="list: words to find · save: a run file · tag: an entry, then its tags · rename: an entry, then its name · else: entries",
    )  # fmt: skip
    command.add_argument("--name", default=None, help="save: what to call it; the file's name when left out")
    command.add_argument("--tag", action="append", default=[], metavar="TAG", help="save: give this tag · list: only with this tag")
    command.add_argument("--entry", default=None, metavar="ENTRY", help="save: as a new revision of this entry")
    command.add_argument("--kind", default=None, help="list: only plan, profile, probe or log")
    command.add_argument("--deleted", action="store_true", help="list: what can be restored")
    add_json(command)


def execute(options: argparse.Namespace) -> None:
    """Do what was asked."""
    from planner.store import open_store

    with open_store() as store:
        if options.action == "show":
            found = _show(store, options)
            emit_json(found) if options.json else print(_shown(found))
            return
        entries = _ACTIONS[options.action](store, options)
        emit_json([_document(one) for one in entries]) if options.json else print(_listed(entries, store.where))


def _list(store: Store, options: argparse.Namespace) -> list[Entry]:
    return store.find(" ".join(options.what), kind=options.kind, tags=options.tag, deleted=options.deleted)


def _save(store: Store, options: argparse.Namespace) -> list[Entry]:
    from planner import estimate
    from planner.store.plans import save_plan

    path = _one(options, "a run file")
    run = read_run(path)
    entry = None if options.entry is None else _known(store, options.entry)
    return [save_plan(store, options.name or (Path(path).stem if path != "-" else "plan"), run, estimate(run), tags=options.tag, entry=entry)]


def _show(store: Store, options: argparse.Namespace) -> dict[str, Any]:
    from planner import estimate
    from planner.store.plans import changes, plan_of

    entry = store.get(_known(store, _one(options, "an entry")))
    newest = store.document(entry.id)
    found = _document(entry) | {"document": newest.document, "history": [{"number": r.number, "saved": r.saved.isoformat()} for r in store.history(entry.id)]}
    if entry.kind == "plan":
        found["changes"] = changes(newest.figures, estimate(plan_of(newest)))
    return found


def _tag(store: Store, options: argparse.Namespace) -> list[Entry]:
    if not options.what:
        raise PlanError("tag", "", "names no entry", "Write: planner saved tag ENTRY [TAG …].")
    return [store.tag(_known(store, options.what[0]), options.what[1:])]


def _rename(store: Store, options: argparse.Namespace) -> list[Entry]:
    if len(options.what) < 2:
        raise PlanError("rename", " ".join(options.what), "names no entry and new name", "Write: planner saved rename ENTRY NAME.")
    return [store.rename(_known(store, options.what[0]), " ".join(options.what[1:]))]


def _delete(store: Store, options: argparse.Namespace) -> list[Entry]:
    chosen = [_known(store, one) for one in _some(options)]
    store.delete(chosen)
    return [store.get(one) for one in chosen]


def _restore(store: Store, options: argparse.Namespace) -> list[Entry]:
    chosen = [_known(store, one, deleted=True) for one in _some(options)]
    store.restore(chosen)
    return [store.get(one) for one in chosen]


_ACTIONS = {"list": _list, "save": _save, "tag": _tag, "rename": _rename, "delete": _delete, "restore": _restore}


def _one(options: argparse.Namespace, what: str) -> str:
    if len(options.what) != 1:
        raise PlanError(options.action, " ".join(options.what), f"is not {what}", f"Write: planner saved {options.action} and {what}.")
    return str(options.what[0])


def _some(options: argparse.Namespace) -> list[str]:
    if not options.what:
        raise PlanError(options.action, "", "names no entry", f"Write: planner saved {options.action} ENTRY ….")
    return list(options.what)


def _known(store: Store, said: str, deleted: bool = False) -> str:
    """The identifier that somebody means: the beginning of it, or the whole name."""
    found = store.named(said, deleted=deleted)
    if len(found) == 1:
        return found[0].id
    if not found:
        raise PlanError("entry", said, "is not saved", f"planner saved list{' --deleted' if deleted else ''} shows what is.")
    raise PlanError("entry", said, f"could be {len(found)} entries", "Take the identifier: " + ", ".join(one.id[:8] for one in found[:5]) + ".")


def _document(one: Entry) -> dict[str, Any]:
    return {
        "id": one.id, "kind": one.kind, "name": one.name, "tags": list(one.tags), "created": one.created.isoformat(), "changed": one.changed.isoformat(),
        "deleted": None if one.deleted is None else one.deleted.isoformat(), "revision": one.revision, "version": one.version, "figures": one.figures,
    }  # fmt: skip


def _listed(found: list[Entry], where: str) -> str:
    if not found:
        return f"Nothing here. Saved work stands in {where}."
    rows = [("id", "name", "kind", "time", "cost", "memory", "changed", "tags")]
    for one in found:
        f = one.figures
        name, took = printable(one.name) + (" (deleted)" if one.deleted else ""), units.format_seconds(f.get("total_time_s") or f.get("step_time_s"))
        cost, memory = units.format_usd(f.get("cost_usd")), units.format_bytes(f.get("peak_reserved_bytes"))
        rows.append((one.id[:8], name, one.kind, took, cost, memory, f"{one.changed:%Y-%m-%d %H:%M}", ", ".join(one.tags) or "–"))
    return table(rows, right=(3, 4, 5), header=True)


def _shown(found: dict[str, Any]) -> str:
    import yaml

    lines = [bold(printable(found["name"])), f"  {found['kind']} {found['id']}, revision {found['revision']}, {found['changed'][:16].replace('T', ' ')} UTC"]
    if found["tags"]:
        lines.append("  Tags: " + ", ".join(found["tags"]))
    if "changes" in found:
        lines += [wrapped(line, bullet="- ") for line in found["changes"]] or ["  Its figures are those of when it was saved."]
    text = yaml.safe_dump(found["document"].get("run", found["document"]), sort_keys=False, allow_unicode=True)
    return "\n".join([*lines, "", *("  " + printable(line) for line in text.splitlines()[:200])])
