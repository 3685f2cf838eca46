"""Saved work: plans, profiles, probes and imported logs in a database, SQLite in the user's data folder unless PLANNER_DATABASE_URL names another.

    from planner.store import open_store

    store = open_store()
    saved = store.save("plan", "8B on one card", document, figures={...}, tags=("team",))
    store.find("8B")

Nothing that is saved is lost: saving under an existing entry adds a revision, and what is deleted can be restored for 30 days.
Every fault of the database is a `PlanError` with the field `database`.
"""

from planner.store.database import database_url, shown_url
from planner.store.store import KINDS, Entry, Revision, Store, open_store

__all__ = ["KINDS", "Entry", "Revision", "Store", "database_url", "open_store", "shown_url"]
