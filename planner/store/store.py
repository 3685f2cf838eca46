"""What can be done with saved work. A store keeps JSON documents and knows nothing of what they mean."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, Row, delete, func, insert, or_, select, update
from sqlalchemy.exc import DBAPIError

from planner import __version__
from planner.errors import PlanError, shorten
from planner.store.database import connect, database_url, is_conflict, plainly, shown_url
from planner.store.tables import NAME_LENGTH, TAG_LENGTH, WORDS_LENGTH, entries, revisions
from planner.store.tables import tags as tagged

KINDS: Final = ("plan", "profile", "probe", "log")
MAX_DOCUMENT: Final = 16 * 2**20
"""Bytes of one document."""
MAX_TAGS: Final = 20
KEPT_DAYS: Final = 30
"""How long what is deleted can be restored [days]."""
_ATTEMPTS: Final = 20
"""Writers that meet take turns; more than so many at one entry at once would be a fault."""


@dataclass(frozen=True)
class Revision:
    """One state of an entry. number: from 1 · saved: when · version: of Plumbline that saved it · digest: SHA-256 of the document."""

    number: int
    saved: datetime.datetime
    version: str
    digest: str
    document: dict[str, Any]
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A saved thing without its documents, as lists show it.

    kind: one of `KINDS` · created, changed, deleted: UTC · revision: number of the newest · figures: those of the newest, for lists.
    """

    id: str
    kind: str
    name: str
    tags: tuple[str, ...]
    created: datetime.datetime
    changed: datetime.datetime
    deleted: datetime.datetime | None
    revision: int
    version: str
    digest: str
    figures: dict[str, Any]


class Store:
    """Saved work in one database. Raises `PlanError` with the field `database` for its faults."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def url(self) -> URL:
        """Its address."""
        return self._engine.url

    @property
    def where(self) -> str:
        """Its address for people, without a password."""
        return shown_url(self._engine.url)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def save(
        self,
        kind: str,
        name: str,
        document: Mapping[str, Any],
        *,
        figures: Mapping[str, Any] | None = None,
        tags: Iterable[str] = (),
        words: str = "",
        entry: str | None = None,
    ) -> Entry:
        """Save a document: as a new entry, or as a new revision of `entry`. What was there stays.

        Arguments
        ---------
        kind: one of `KINDS`.
        name: what people call it.
        document: what is kept, JSON.
        figures: the few values that lists show.
        tags: added to those that the entry has.
        words: more text that a search finds it by.
        entry: identifier of the entry that gets a new revision; restored if it was deleted.
        """
        _check_kind(kind)
        name, more = _name(name), _tags(tags)
        content, shown = _text(document, "document"), _text(figures or {}, "figures")
        if entry is not None:
            return self._revise(entry, kind, name, content, shown, more, words)
        with plainly(self.url), self._write() as connection:
            return self._add(connection, kind, name, content, shown, more, words)

    def keep(self, kind: str, name: str, document: Mapping[str, Any], **more: Any) -> Entry:
        """Save a document unless the very same is saved already; a deleted one stays deleted."""
        _check_kind(kind)
        digest = hashlib.sha256(_text(document, "document").encode()).hexdigest()
        with plainly(self.url), self._engine.connect() as connection:
            known = connection.execute(
                select(entries.c.id).join(revisions, revisions.c.entry == entries.c.id).where(entries.c.kind == kind, revisions.c.digest == digest).limit(1)
            ).scalar()
        return self.get(known) if known is not None else self.save(kind, name, document, **more)

    def get(self, entry: str) -> Entry:
        """One entry by its identifier. Raises `PlanError`."""
        with plainly(self.url), self._engine.connect() as connection:
            found = _entries(connection, [_row(connection, entry)])
        return found[0]

    def document(self, entry: str, number: int | None = None) -> Revision:
        """A revision with its document; the newest without a number. Raises `PlanError`."""
        with plainly(self.url), self._engine.connect() as connection:
            query = select(revisions).where(revisions.c.entry == _row(connection, entry).id)
            query = query.order_by(revisions.c.number.desc()).limit(1) if number is None else query.where(revisions.c.number == number)
            found = connection.execute(query).first()
        if found is None:
            raise PlanError("revision", number, "is not saved", "Take one that `history` lists.")
        return _revision(found)

    def history(self, entry: str) -> list[Revision]:
        """Every revision of an entry, the newest first."""
        with plainly(self.url), self._engine.connect() as connection:
            known = _row(connection, entry).id
            rows = connection.execute(select(revisions).where(revisions.c.entry == known).order_by(revisions.c.number.desc())).all()
        return [_revision(row) for row in rows]

    def find(
        self, text: str = "", *, kind: str | None = None, tags: Sequence[str] = (), deleted: bool = False, limit: int = 200
    ) -> list[Entry]:
        """Entries, the last changed first.

        Arguments
        ---------
        text: every word of it stands in the name, a tag or the words of an entry; case does not matter.
        kind: one of `KINDS`, or all.
        tags: an entry has them all.
        deleted: those that can be restored, in place of the others.
        limit: entries at most.
        """
        if kind is not None:
            _check_kind(kind)
        query = select(entries).where(entries.c.deleted.is_not(None) if deleted else entries.c.deleted.is_(None))
        if kind is not None:
            query = query.where(entries.c.kind == kind)
        for word in text.lower().split()[:20]:
            like = f"%{_escaped(word)}%"
            has = select(tagged.c.entry).where(func.lower(tagged.c.tag).like(like, escape="\\"))
            query = query.where(
                or_(func.lower(entries.c.name).like(like, escape="\\"), func.lower(entries.c.words).like(like, escape="\\"), entries.c.id.in_(has))
            )
        for tag in tags:
            query = query.where(entries.c.id.in_(select(tagged.c.entry).where(tagged.c.tag == tag)))
        with plainly(self.url), self._engine.connect() as connection:
            rows = connection.execute(query.order_by(entries.c.changed.desc(), entries.c.id).limit(limit)).all()
            return _entries(connection, rows)

    def named(self, said: str, *, deleted: bool = False, limit: int = 10) -> list[Entry]:
        """Entries that somebody means: by the whole name, or the beginning of the identifier (four letters or more)."""
        meant = entries.c.name == said
        if len(said) >= 4:
            meant = meant | entries.c.id.like(f"{_escaped(said.lower())}%", escape="\\")
        query = select(entries).where(meant, entries.c.deleted.is_not(None) if deleted else entries.c.deleted.is_(None))
        with plainly(self.url), self._engine.connect() as connection:
            return _entries(connection, connection.execute(query.order_by(entries.c.changed.desc(), entries.c.id).limit(limit)).all())

    def tags(self) -> dict[str, int]:
        """Every tag of what is not deleted, and how many have it; the most used first."""
        query = (
            select(tagged.c.tag, func.count()).join(entries, entries.c.id == tagged.c.entry).where(entries.c.deleted.is_(None)).group_by(tagged.c.tag)
        )  # fmt: skip
        with plainly(self.url), self._engine.connect() as connection:
            found: list[tuple[str, int]] = [(row[0], row[1]) for row in connection.execute(query)]
        return dict(sorted(found, key=lambda one: (-one[1], one[0])))

    def rename(self, entry: str, name: str) -> Entry:
        """Give an entry another name."""
        name = _name(name)
        with plainly(self.url), self._write() as connection:
            known = _row(connection, entry).id
            connection.execute(update(entries).where(entries.c.id == known).values(name=name, changed=_now()))
        return self.get(entry)

    def tag(self, entry: str, wanted: Iterable[str]) -> Entry:
        """Give an entry exactly these tags."""
        named = _tags(wanted)
        with plainly(self.url), self._write() as connection:
            known = _row(connection, entry).id
            connection.execute(delete(tagged).where(tagged.c.entry == known))
            _add_tags(connection, known, named)
            connection.execute(update(entries).where(entries.c.id == known).values(changed=_now()))
        return self.get(entry)

    def delete(self, chosen: Sequence[str]) -> int:
        """Delete entries; `restore` brings them back for 30 days. Returns how many were there."""
        with plainly(self.url), self._write() as connection:
            _forget(connection)
            done = connection.execute(update(entries).where(entries.c.id.in_(chosen), entries.c.deleted.is_(None)).values(deleted=_now()))
            return done.rowcount

    def restore(self, chosen: Sequence[str]) -> int:
        """Bring deleted entries back. Returns how many were there."""
        with plainly(self.url), self._write() as connection:
            done = connection.execute(update(entries).where(entries.c.id.in_(chosen), entries.c.deleted.is_not(None)).values(deleted=None))
            return done.rowcount

    @contextlib.contextmanager
    def _write(self) -> Iterator[Connection]:
        """A transaction that writes: committed where nothing was raised."""
        with self._engine.connect().execution_options(writes=True) as connection, connection.begin():
            yield connection

    def _add(self, connection: Connection, kind: str, name: str, content: str, shown: str, more: tuple[str, ...], words: str) -> Entry:
        new, now = uuid.uuid4().hex, _now()
        connection.execute(
            insert(entries).values(id=new, kind=kind, name=name, words=words[:WORDS_LENGTH], created=now, changed=now, deleted=None)
        )  # fmt: skip
        _add_revision(connection, new, 1, now, content, shown)
        _add_tags(connection, new, more)
        return _entries(connection, [_row(connection, new)])[0]

    def _revise(self, entry: str, kind: str, name: str, content: str, shown: str, more: tuple[str, ...], words: str) -> Entry:
        """A new revision. Of writers that meet at one number the later ones take the next: nobody's document is lost."""
        with plainly(self.url):
            for last in (*(False,) * (_ATTEMPTS - 1), True):
                try:
                    return self._revised(entry, kind, name, content, shown, more, words)
                except DBAPIError as error:
                    if last or not is_conflict(error):
                        raise
        raise AssertionError("the last attempt returns or raises")

    def _revised(self, entry: str, kind: str, name: str, content: str, shown: str, more: tuple[str, ...], words: str) -> Entry:
        """One attempt at a new revision, under the number behind the last."""
        with self._write() as connection:
            known = _row(connection, entry)
            if known.kind != kind:
                raise PlanError("kind", kind, f"is not that of the entry, {known.kind}", "Save it as an entry of its own.")
            last = connection.execute(select(func.max(revisions.c.number)).where(revisions.c.entry == known.id)).scalar() or 0
            now = _now()
            _add_revision(connection, known.id, last + 1, now, content, shown)
            _add_tags(connection, known.id, more)
            changed = update(entries).where(entries.c.id == known.id)
            connection.execute(changed.values(name=name, words=words[:WORDS_LENGTH], changed=now, deleted=None))
            return _entries(connection, [_row(connection, known.id)])[0]


def open_store(url: str | None = None) -> Store:
    """The store at an address, made where there is none; see `database_url` for the default. Raises `PlanError`."""
    return Store(connect(database_url(url)))


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _utc(value: datetime.datetime) -> datetime.datetime:
    """SQLite gives times back without the zone that they were stored in."""
    return value.replace(tzinfo=datetime.UTC) if value.tzinfo is None else value.astimezone(datetime.UTC)


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise PlanError("kind", kind, "is nothing that is saved", f"Take one of {', '.join(KINDS)}.")


def _name(name: str) -> str:
    clean = shorten("".join(c if c.isprintable() else " " for c in name), NAME_LENGTH).strip()
    if not clean:
        raise PlanError("name", name, "is empty", "Give it a name.")
    return clean


def _tags(wanted: Iterable[str]) -> tuple[str, ...]:
    """Clean tags, each once."""
    found = tuple(dict.fromkeys(filter(None, (" ".join("".join(c if c.isprintable() else " " for c in tag).split()) for tag in wanted))))
    if (long := next((tag for tag in found if len(tag) > TAG_LENGTH), None)) is not None:
        raise PlanError("tags", long, f"is longer than {TAG_LENGTH} characters", "Shorten it.")
    if len(found) > MAX_TAGS:
        raise PlanError("tags", len(found), f"are more than {MAX_TAGS}", "Leave some out.")
    return found


def _text(document: Mapping[str, Any], field: str) -> str:
    """A document as text. The same document is the same text, so that its digest says whether it is known."""
    try:
        content = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise PlanError(field, type(document).__name__, f"cannot be written as JSON ({shorten(error, 80)})", "Save plain values.") from None
    if "\x00" in content or "\\u0000" in content:
        raise PlanError(field, "", "holds a NUL character, which databases do not keep", "Remove it.")
    if (size := len(content.encode("utf-8", "surrogatepass"))) > MAX_DOCUMENT:
        raise PlanError(field, f"{size / 2**20:.0f} MiB", f"is larger than {MAX_DOCUMENT // 2**20} MiB", "Save less of it.")
    try:
        content.encode()
    except UnicodeEncodeError:
        raise PlanError(field, "", "holds text that is not valid Unicode", "Remove it.") from None
    return content


def _escaped(word: str) -> str:
    """A word without the signs that LIKE reads as wildcards."""
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


def _row(connection: Connection, entry: str) -> Row[Any]:
    found = connection.execute(select(entries).where(entries.c.id == entry)).first()
    if found is None:
        raise PlanError("entry", entry, "is not saved", "Take one that the list shows.")
    return found


def _add_revision(connection: Connection, entry: str, number: int, now: datetime.datetime, content: str, shown: str) -> None:
    connection.execute(
        insert(revisions).values(
            entry=entry, number=number, saved=now, version=__version__, digest=hashlib.sha256(content.encode()).hexdigest(), document=content, figures=shown
        )
    )


def _add_tags(connection: Connection, entry: str, more: Sequence[str]) -> None:
    has = set(connection.execute(select(tagged.c.tag).where(tagged.c.entry == entry)).scalars())
    if len(has | set(more)) > MAX_TAGS:
        raise PlanError("tags", len(has | set(more)), f"are more than {MAX_TAGS}", "Remove some of those that it has.")
    if new := [tag for tag in more if tag not in has]:
        connection.execute(insert(tagged), [{"entry": entry, "tag": tag} for tag in new])


def _forget(connection: Connection) -> None:
    """Remove for good what was deleted long ago."""
    connection.execute(delete(entries).where(entries.c.deleted < _now() - datetime.timedelta(days=KEPT_DAYS)))


def _entries(connection: Connection, rows: Sequence[Row[Any]]) -> list[Entry]:
    """Rows with their tags and the figures of their newest revision: two queries for any number of rows."""
    if not rows:
        return []
    ids = [row.id for row in rows]
    newest = select(revisions.c.entry, func.max(revisions.c.number).label("number")).where(revisions.c.entry.in_(ids)).group_by(revisions.c.entry).subquery()
    columns = (revisions.c.entry, revisions.c.number, revisions.c.version, revisions.c.digest, revisions.c.figures)
    query = select(*columns).join(newest, (newest.c.entry == revisions.c.entry) & (newest.c.number == revisions.c.number))
    last = {row.entry: row for row in connection.execute(query)}
    named: dict[str, list[str]] = {}
    for one in connection.execute(select(tagged).where(tagged.c.entry.in_(ids)).order_by(tagged.c.tag)):
        named.setdefault(one.entry, []).append(one.tag)
    return [
        Entry(
            row.id, row.kind, row.name, tuple(named.get(row.id, ())), _utc(row.created), _utc(row.changed),
            None if row.deleted is None else _utc(row.deleted), last[row.id].number, last[row.id].version, last[row.id].digest,
            json.loads(last[row.id].figures),
        )
        for row in rows
    ]  # fmt: skip


def _revision(row: Row[Any]) -> Revision:
    return Revision(row.number, _utc(row.saved), row.version, row.digest, json.loads(row.document), json.loads(row.figures))
