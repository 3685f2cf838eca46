"""Serving in words: the sentence and the rows that page, command line and report share."""

from __future__ import annotations

from planner import units
from planner.errors import PlanError
from planner.estimate.serving import Serving, serving
from planner.run import Run


def of_run(run: Run) -> Serving | None:
    """One sequence at the run's own length on one of its accelerators, by the catalogue's curves; None for models that are not served here."""
    try:
        return serving(run, context=max(2, run.batch.seq_len or 2))
    except PlanError:
        return None


def sentence(s: Serving) -> str:
    """Whether it fits, in one sentence."""
    many = f"{s.batch:,} sequences of {s.context:,} tokens" if s.batch > 1 else f"A sequence of {s.context:,} tokens"
    does = "fit" if s.batch > 1 else "fits"
    if s.fits is None:
        return f"{many} take{'' if s.batch > 1 else 's'} {units.format_bytes(s.total_bytes)}; the memory of {s.accelerator} is not known."
    if s.fits:
        return f"{many} {does} on one {s.accelerator}: {units.format_bytes(s.total_bytes)} of {units.format_bytes(s.usable_bytes)}."
    needed = f"{units.format_bytes(s.total_bytes)}, and {units.format_bytes(s.usable_bytes)} are usable"
    return f"{many} {'do' if s.batch > 1 else 'does'} not fit on one {s.accelerator}: {needed}."


def rows(s: Serving) -> tuple[tuple[str, str], ...]:
    """Figures, a label and a text each."""
    slow, quick = (units.format_rate(rate, digits=2) for rate in s.tokens_per_s)
    return (
        ("Weights", f"{units.format_bytes(s.weights_bytes)} in {s.weights}" + ("" if s.merged else ", adapters beside them")),
        ("Cache", units.format_bytes(s.cache_bytes)),
        ("Working memory of the prompt", units.format_bytes(s.working_bytes)),
        ("Sequences of this context that fit", "none" if s.most_batch is None else f"{s.most_batch:,}"),
        ("Longest context that fits", "none" if s.most_context is None else f"about {s.most_context:,} tokens"),
        ("First token", f"{units.format_seconds(s.prefill_s, 2)} for {s.prompt:,} tokens, {units.format_rate(s.prefill_tokens_per_s, digits=2)}"),
        ("Then, kernel by kernel", f"{slow} ({units.format_seconds(s.token_s, 2)} a token)"),
        ("Then, as captured graphs", f"{quick} ({units.format_seconds(s.graph_token_s, 2)} a token)"),
    )
