"""A resolved run as aspects: a short name, and a sentence to print where a format cannot say it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from planner.errors import shorten
from planner.run import Run

ALL_ASPECTS: Final = (
    "model", "edited-model", "head", "task", "method", "method-options", "adapter-dtype", "weights", "compute",
    "quantized", "scaled", "master-weights", "unquantized", "optimizer", "optimizer-options", "stack", "gpu", "gpus",
    "groups", "tp", "pp", "cp", "ep", "virtual-pp", "schedule", "stages", "cp-kind", "expert-capacity", "sharding",
    "sequence-parallel", "micro", "accumulation", "seq-len", "target-len", "images", "audio", "checkpointing",
    "checkpoints-every", "checkpoints-keep", "attention", "offload", "pruned", "sparsity", "steps", "epochs",
    "lengths", "packing", "spot",
)  # fmt: skip
"""Every name that `aspects` may give, in its order."""


def aspects(run: Run, name: str) -> dict[str, str]:
    """What a launch file of this run should say, by aspect; an aspect that the run does not have is not there.

    Arguments
    ---------
    run: resolved, with every default filled in.
    name: the model's name.
    """
    return (
        dict(_model(run, name)) | dict(_formats(run)) | dict(_machine(run)) | dict(_division(run)) | dict(_steps(run))
    )


def _model(run: Run, name: str) -> Iterator[tuple[str, str]]:
    method = run.method
    yield "model", f"The model is {name}."
    if isinstance(run.model, dict) and "base" in run.model:
        edits = ", ".join(f"{key} = {value}" for key, value in run.model.items() if key != "base")
        yield "edited-model", f"The model's configuration is edited: {shorten(edits)}."
    if run.head not in (None, "causal-lm"):
        yield "head", f"The head is {run.head}."
    yield (
        "task",
        f"The task is {run.task}: "
        + (
            "the model starts from random weights."
            if run.task == "pretrain"
            else "the model starts from its published weights."
        ),
    )
    given = {
        key: value
        for key, value in method.model_dump(exclude_none=True).items()
        if key not in ("name", "adapter_dtype")
    }
    options = f" ({', '.join(f'{key} = {shorten(value, 60)}' for key, value in given.items())})" if given else ""
    yield "method", f"The method is {method.name}{options}."
    if method.adapter_dtype is not None:
        yield "adapter-dtype", f"Adapters are stored in {method.adapter_dtype}."


def _formats(run: Run) -> Iterator[tuple[str, str]]:
    p = run.precision
    if p is None:
        return
    if p.weights in ("int8", "int4", "nf4", "nf4-dq"):
        yield "quantized", f"Frozen weights are stored as {p.weights}."
    else:
        yield "weights", f"Weights are stored in {p.weights}."
    if p.compute in ("fp8", "mxfp8", "nvfp4"):
        yield "scaled", f"Matrix products run in {p.compute}" + (f" with {p.recipe} scales." if p.recipe else ".")
    else:
        yield "compute", f"Matrix products run in {p.compute}" + (" under autocast." if p.autocast else ".")
    if p.master_weights:
        yield "master-weights", "The optimizer keeps fp32 master copies of the weights."
    if p.unquantized:
        yield "unquantized", f"Norms, embeddings and head of the quantized base are stored in {p.unquantized}."
    yield "optimizer", f"The optimizer is {run.optimizer}."
    for key in ("rank", "every"):
        if (value := getattr(run.optimizer_options, key)) is not None:
            yield "optimizer-options", f"The optimizer's {key} is {value}."


def _machine(run: Run) -> Iterator[tuple[str, str]]:
    h = run.hardware
    yield "stack", f"The plan is for the training software {run.stack}."
    if h.groups:
        yield "groups", "The fleet is mixed: " + ", ".join(f"{g.gpus} × {g.gpu}" for g in h.groups) + "."
    elif h.gpu is not None:
        gpu = h.gpu if isinstance(h.gpu, str) else h.gpu.get("base", "an accelerator of your own")
        yield "gpu", f"The accelerator is {gpu}."
    yield "gpus", f"There are {h.gpus} accelerators, {h.gpus_per_node or h.gpus} in a machine."
    if run.price.spot:
        yield "spot", "The price is that of interruptible capacity."


def _division(run: Run) -> Iterator[tuple[str, str]]:
    p = run.parallel
    names = {"tp": "Tensor", "pp": "Pipeline", "cp": "Context", "ep": "Expert"}
    for key, word in names.items():
        if getattr(p, key) > 1:
            yield key, f"{word} parallel degree {getattr(p, key)}."
    if p.virtual_pp > 1:
        yield "virtual-pp", f"Each pipeline stage has {p.virtual_pp} chunks."
    if p.pp > 1 and p.schedule:
        yield "schedule", f"The pipeline schedule is {p.schedule}."
    if p.stages:
        yield "stages", f"Pipeline stages have {', '.join(map(str, p.stages))} layers."
    if p.cp > 1 and p.cp_kind:
        yield "cp-kind", f"Context parallel is of the kind {p.cp_kind}."
    if p.expert_capacity is not None:
        yield "expert-capacity", f"The experts' capacity factor is {p.expert_capacity:g}."
    if run.dp * p.cp > 1:
        yield "sharding", f"Data-parallel ranks share states as {p.sharding or 'ddp'}."
    if p.sequence_parallel:
        yield "sequence-parallel", "Activations outside the tensor-parallel region are split along the sequence."


def _steps(run: Run) -> Iterator[tuple[str, str]]:
    b, d = run.batch, run.data
    yield "micro", f"{b.micro} sequences in a micro step."
    if b.accumulation > 1:
        yield "accumulation", f"{b.accumulation} micro steps in an optimizer step."
    if b.seq_len is not None:
        yield "seq-len", f"Sequences have {b.seq_len} tokens."
    if b.target_len is not None:
        yield "target-len", f"Targets have {b.target_len} tokens."
    if b.images or b.image_size:
        size = f" of {b.image_size} pixels" if b.image_size else ""
        yield "images", f"{b.images or 1} images a sequence{size}."
    if b.audio_seconds:
        yield "audio", f"Recordings last {b.audio_seconds:g} s."
    if run.activation_checkpointing != "none":
        yield "checkpointing", f"Activation checkpointing is {run.activation_checkpointing}."
    if run.checkpoints.every > 1:
        yield "checkpoints-every", f"One block in {run.checkpoints.every} is checkpointed."
    if run.checkpoints.keep:
        yield "checkpoints-keep", f"Checkpointed blocks keep the results of {', '.join(run.checkpoints.keep)}."
    if run.attention:
        yield "attention", f"Attention runs as {run.attention}."
    if run.offload != "none":
        yield "offload", f"Offloaded to host memory: {run.offload}."
    c = run.compression
    if c.pruned or c.heads or c.ffn:
        yield "pruned", "Attention heads or the MLP's width are pruned before training."
    if c.sparsity:
        yield "sparsity", f"Linear weights are {c.sparsity} sparse."
    if d is not None:
        amount = f"{d.tokens:,} tokens" if d.tokens else f"{d.samples:,} samples"
        yield "steps", f"An epoch has {amount}."
        if d.epochs != 1:
            yield "epochs", f"{d.epochs:g} epochs."
        if d.spread:
            yield "lengths", "Samples differ in length as the plan's distribution says."
        if d.packing != "packed":
            yield "packing", f"Samples are {d.packing}."
