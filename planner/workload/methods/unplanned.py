"""Methods of peft 0.21 that are not planned, each with its reason, so that a run that names one is told why."""

from __future__ import annotations

UNPLANNED = {
    "adamss": "trains as many parameters as the values of the weights decide (clusters of their singular vectors)",
    "frod": "runs on sparse matrices, whose time and memory could not be checked against anything",
    "xlora": "mixes adapters that were trained before, whose files decide what is loaded",
    "shadow": "trains a second network beside the model, whose shape is free",
}
PEFT_TYPES = {
    "PROMPT_TUNING": "prompt",
    "MULTITASK_PROMPT_TUNING": "multitask_prompt",
    "PREFIX_TUNING": "prefix",
}
"""peft's types that have another name here; all others have their own in lower case."""
