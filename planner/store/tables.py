"""The tables, as the newest migration leaves them (a test compares the two)."""

from __future__ import annotations

from sqlalchemy import Column, DateTime, ForeignKey, Index, Integer, MetaData, String, Table, Text

NAME_LENGTH, TAG_LENGTH, WORDS_LENGTH = 200, 60, 2000
"""Characters."""

metadata = MetaData()

entries = Table(
    "entries",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("name", String(NAME_LENGTH), nullable=False),
    Column("words", String(WORDS_LENGTH), nullable=False),  # what a search looks at beside name and tags
    Column("created", DateTime(timezone=True), nullable=False),
    Column("changed", DateTime(timezone=True), nullable=False),
    Column("deleted", DateTime(timezone=True), nullable=True),
    Index("entries_by_change", "kind", "changed"),
)

revisions = Table(
    "revisions",
    metadata,
    Column("entry", String(32), ForeignKey("entries.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("saved", DateTime(timezone=True), nullable=False),
    Column("version", String(32), nullable=False),  # of Plumbline
    Column("digest", String(64), nullable=False),
    Column("document", Text, nullable=False),
    Column("figures", Text, nullable=False),
    Index("revisions_by_digest", "digest"),
)

tags = Table(
    "tags",
    metadata,
    Column("entry", String(32), ForeignKey("entries.id", ondelete="CASCADE"), primary_key=True),
    Column("tag", String(TAG_LENGTH), primary_key=True),
    Index("tags_by_tag", "tag"),
)
