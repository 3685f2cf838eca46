"""What the Audit page does: logs that were uploaded or pasted, set beside the plan of the sidebar. Nothing of them is executed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import streamlit as st

from planner import units
from planner.device import DeviceProfile
from planner.errors import PlanError
from planner.logs import READERS, Audit, Record, audit, read_uploads
from planner.logs.audit import Figure, Finding
from planner.logs.files import MAX_LOGS
from planner.run import Run
from planner.ui import changes, estimates, texts
from planner.ui.language import _

MOST_MIB: Final = 64
"""Of one upload; larger logs are read by the command line, which streams them."""
PASTED: Final = "pasted text"
NOTE: Final = "audit_note"
STATUS: Final = {
    "explains": (":material/check_circle:", "explains it"),
    "in part": (":material/timelapse:", "explains it in part"),
    "does not": (":material/do_not_disturb_on:", "does not explain it"),
    "seen": (":material/visibility:", "in the log"),
}
"""Icon and words of what became of a hypothesis."""
VERDICTS: Final = {
    "agrees": ("The plan was right", ":material/check_circle:"),
    "faster": ("It ran faster than planned", ":material/trending_up:"),
    "slower": ("It ran slower than planned", ":material/trending_down:"),
    "ambiguous": ("Too unsteady to tell", ":material/help:"),
    "unknown": ("No step time to compare", ":material/help:"),
}
SHORT: Final = {
    "not foreseen": "It ran out of memory, and the plan said that it fits",
    "foreseen": "It ran out of memory, as planned",
    "too close to call": "It ran out of memory; the plan called it too close to tell",
    "unknown": "It ran out of memory",
}


def formats() -> list[dict[str, str]]:
    """What can be read, for a table."""
    return [{"log": _(f"{reader.label[:1].upper()}{reader.label[1:]}"), "source": reader.reference} for reader in READERS.values()]


def records(uploads: Sequence[Any], pasted: str) -> list[Record]:
    """Records of everything that was given. Raises `PlanError`."""
    given = [(str(upload.name), upload.getvalue()) for upload in uploads]
    if pasted.strip():
        given.append((PASTED, pasted.encode("utf-8", "replace")))
    if len(given) > MAX_LOGS:
        raise PlanError("log", len(given), f"are more than {MAX_LOGS}", "Give those of one run.")
    return [_read(name, hashlib.sha256(content).hexdigest(), content) for name, content in given]


@st.cache_resource(max_entries=20, show_spinner="Reading the log")
def _read(name: str, digest: str, _content: bytes) -> Record:
    """A log, read once."""
    return read_uploads([(name, _content)])[0]


def answer(run: Run, found: Sequence[Record], profile: DeviceProfile | None) -> Audit:
    """The audit of a run, made once for the same logs and plan. Raises `PlanError`."""
    key = (estimates.run_key(run), estimates.profile_key(profile), tuple(record.digest for record in found))
    known = st.session_state.get("audit_known")
    if known is not None and known[0] == key:
        return known[1]  # type: ignore[no-any-return]
    made = audit(run, found, profile)
    st.session_state["audit_known"] = (key, made)
    return made


def title(found: Audit) -> tuple[str, str]:
    """The answer in a few words, and its icon."""
    if found.shortage is not None:
        return SHORT.get(found.shortage.verdict, SHORT["unknown"]), ":material/memory:"
    return VERDICTS[found.verdict]


def figures(found: Audit) -> list[dict[str, Any]]:
    """Measured beside planned, for a table."""
    return [
        {
            "figure": _(one.label),
            "measured": one.measured_text,
            "planned": one.planned_text if one.planned is not None else "",
            "off": "" if one.error is None else f"{one.error:+.0%}",
            "interval": _interval(one),
        }
        for one in found.figures
    ]


def _interval(one: Figure) -> str:
    if one.interval is None:
        return ""
    low, high = (units.format_seconds(end) if one.unit == "s" else units.format_bytes(end) for end in one.interval)
    return f"{low} to {high}"


def line(one: Finding) -> str:
    """A finding as a line of markdown."""
    icon, words = STATUS[one.status]
    remedy = f" {texts.plain(one.remedy)}" if one.remedy else ""
    return f"{icon} **{texts.plain(one.title)}** · {_(words)}. {texts.plain(one.sentence)}{remedy}"


def apply_change(ran: Run, change: dict[str, Any]) -> None:
    """Write a proposal into the plan of the sidebar."""
    try:
        changes.apply(ran, change)
        st.session_state[NOTE] = ("done", "It is in the plan now; Undo is in the sidebar.")
    except PlanError as error:
        st.session_state[NOTE] = ("failed", str(error))


def keep(found: Audit, profile: DeviceProfile | None) -> None:
    """Keep a run as evidence, and among the saved work."""
    from planner.logs.keep import keep_both

    kept = keep_both(found, profile)
    own = [note for note in kept.notes if note not in found.notes]
    if kept.kept is not None:
        own.insert(0, "Kept: later plans of this run on this device stand on it.")
    st.session_state[NOTE] = ("done" if kept.kept is not None else "failed", " ".join(own))
