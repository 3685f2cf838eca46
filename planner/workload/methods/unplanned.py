"""Methods of peft 0.21 that are not planned, each with its reason, so that a run that names one is told why."""

from __future__ import annotations

UNPLANNED = {
    "adamss": "trains as many parameters as the values of the weights decide (clusters of their singular vectors)",
    "frod": "runs on sparse matrices, whose time and memory could not be checked against anything",
    "xlora": "mixes adapters that were trained before, whose files decide what is loaded",
    "shadow": "trains a second network beside the model, whose shape is free",
}
REFUSED = {
    "alora": (
        "adapts only the tokens that follow its invocation sequence, whose number is the data's (peft.tuners.lora.variants.ALoraLinearVariant)",
        "Use lora, which adapts all of them and so bounds time and memory from above.",
    ),
    "adaption_prompt_v2": (
        "(LLaMA-Adapter V2, Gao et al. 2023, arXiv:2304.15010) trains a scale and a bias of every linear layer and the norms too, which is not planned",
        "Use adaption_prompt (LLaMA-Adapter), or bitfit.",
    ),
}
"""Methods outside peft's list that people name: the problem and what to write."""
PEFT_TYPES = {
    "PROMPT_TUNING": "prompt",
    "MULTITASK_PROMPT_TUNING": "multitask_prompt",
    "PREFIX_TUNING": "prefix",
}
"""peft's types that have another name here; all others have their own in lower case."""
