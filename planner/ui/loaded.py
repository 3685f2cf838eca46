"""Imports all that pages use, in one order. Every script of the app imports this before anything else of the planner.

Sessions run in threads of one process. Where two of them import the same modules in different orders, Python's locks would wait for each other, and it
hands out modules that are half made instead ("cannot import name"). Whoever comes second waits here until the first is done. pandas is among them because
plotly takes it from the loaded modules without asking whether another thread is still loading it.
"""

import pandas  # type: ignore[import-untyped]  # noqa: F401

from planner.ui import (  # noqa: F401
    accuracy,
    accuracy_rows,
    address,
    asking,
    audit_chart,
    auditing,
    changes,
    charts,
    comparing,
    counting,
    decision_charts,
    details,
    estimates,
    explain,
    exploring,
    fields,
    frame,
    handing,
    inputs,
    language,
    link,
    login,
    measuring,
    method,
    nearby,
    parallel,
    pipeline_charts,
    po,
    saving,
    search_queue,
    searching,
    serving,
    state,
    texts,
    training,
    whole_inputs,
    whole_run,
)
