"""Can the trained model be served on the same card? A side feature: memory with its cache, time of the prompt and of each token.

The model is traced without gradients: over the prompt (prefill), and over one token a sequence (decode), with every layer's cache beside it
(`cache.py`). Kernels are timed by the curves of training: no published row of serving was compared, so that its times have no error of their own. Two
ways to issue kernels bound a token's time: one by one from Python, with a cache that grows by concatenation (transformers' `generate`), and as
captured graphs with a paged cache, where nothing waits for the CPU.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, Final

from planner.device import DeviceProfile
from planner.errors import PlanError
from planner.estimate.cache import Layer, layers_of
from planner.estimate.memory import COMPONENTS, Persistent, Walk
from planner.estimate.ranks import setting_of
from planner.estimate.resolve import Resolved, resolve
from planner.estimate.states import Holdings, context_of
from planner.estimate.step import clock_of
from planner.estimate.time import Clock
from planner.estimate.verdict import reserved_of
from planner.run import PRECISIONS, Run, parse_run
from planner.workload import Workload, trace
from planner.workload.graph import BYTES
from planner.workload.methods import METHODS, Adaptation

MOST_BATCH: Final = 2**20
MOST_CONTEXT: Final = 2**27
NO_EVIDENCE: Final = (
    "Times of serving were compared with no published run: they rest on the kernels' curves, which were fitted and judged on training. "
    "Cache sizes agree with transformers' own caches, FLOP with torch's counter."
)
WEIGHTS: Final = ("fp32", "bf16", "fp16", "int8", "int4", "nf4", "nf4-dq")


@dataclass(frozen=True)
class Serving:
    """What serving takes on one accelerator; SI units.

    batch: sequences at once · context: tokens of a sequence at the end · prompt: of those the prompt's · merged: adapters are part of the weights ·
    weights_bytes, cache_bytes, working_bytes: by weights, cache of all sequences, and the largest live tensors of prefill · total_bytes: what the
    allocator comes to hold · usable_bytes: what it may, None where unknown · most_batch: sequences of this context that fit, most_context: tokens of so
    many sequences that fit, None where unknown or none · prefill_s: until the first token, of all prompts together · token_s, graph_token_s: of a
    decode step at the middle of the answer, issued one by one and as graphs · decode_flops: of the last decode step.
    """

    accelerator: str
    model: str
    batch: int
    context: int
    prompt: int
    merged: bool
    weights: str
    weights_bytes: float
    cache_bytes: float
    working_bytes: float
    total_bytes: float
    usable_bytes: float | None
    fits: bool | None
    most_batch: int | None
    most_context: int | None
    prefill_s: float
    token_s: float
    graph_token_s: float
    prefill_flops: float
    decode_flops: float
    notes: tuple[str, ...]

    @property
    def prefill_tokens_per_s(self) -> float:
        """Prompt tokens a second, of all sequences."""
        return self.batch * self.prompt / self.prefill_s

    @property
    def tokens_per_s(self) -> tuple[float, float]:
        """Generated tokens a second, of all sequences: issued one by one, and as graphs."""
        return self.batch / self.token_s, self.batch / self.graph_token_s

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        slow, quick = self.tokens_per_s
        return asdict(self) | {
            "notes": list(self.notes),
            "prefill_tokens_per_s": self.prefill_tokens_per_s,
            "tokens_per_s": slow,
            "graph_tokens_per_s": quick,
        }


def serving(
    run: Run,
    profile: DeviceProfile | None = None,
    *,
    batch: int = 1,
    context: int = 4096,
    prompt: int | None = None,
    merged: bool = True,
    weights: str | None = None,
) -> Serving:
    """What serving a run's model on one of its accelerators takes.

    Arguments
    ---------
    run, profile: as for `estimate`.
    batch, context: sequences at once, and tokens of each at the end. prompt: of those the prompt's; three quarters when left out.
    merged: adapters were added into the weights; otherwise they are computed beside them.
    weights: storage type; left out, the run's own if it is quantized, else its compute type.

    Errors: `PlanError` for sizes that contradict, models that do not generate text, and methods whose prompts or states are not planned here.
    """
    prompt = max(1, context * 3 // 4) if prompt is None else prompt
    _check(batch, context, prompt, weights)
    r = _resolved(run, profile, batch, context, weights)
    if r.adaptation.virtual_tokens or r.adaptation.prefix_tokens:
        raise PlanError("method.name", run.method.name, "puts tokens before the user's, which serving does not plan", "Serve another method.")
    layers, clock = layers_of(r.arch), clock_of(r)
    plain = replace(r, adaptation=Adaptation("served", lambda path: False))
    model = plain if merged or r.run.method.name != run.method.name else r  # what stands in for a full method's storage adds nothing
    value_bytes = BYTES[r.formats.compute]
    stored = sum(Holdings(model, _traced(model, 1, 1), ()).weights(1.0).values())
    stored += 0.0 if r.arch.tied else r.arch.hidden * r.arch.vocab * value_bytes  # libraries leave the output layer unquantized
    usable = None if r.usable_memory is None else r.usable_memory - context_of(r)

    def cached(sequences: int, tokens: int) -> float:
        return sequences * value_bytes * sum(layer.values(tokens) for layer in layers)

    @cache
    def working(sequences: int, tokens: int) -> float:
        return _working(plain, _traced(plain, sequences, tokens)) + _logits(plain, sequences)

    def held_at(sequences: int, tokens: int) -> float:
        first = max(1, tokens * prompt // context)
        return reserved_of(stored + cached(sequences, tokens) + working(sequences, first), r.stack.name)

    total = held_at(batch, context)
    most_batch = most_context = None
    if usable is not None:
        most_batch = _most(lambda n: held_at(n, context) <= usable, MOST_BATCH)
        most_context = _most(lambda n: held_at(batch, n) <= usable, r.arch.learned_positions or MOST_CONTEXT)
    first, one = _traced(model, batch, prompt), _traced(model, batch, 1)
    middle = (prompt + context) // 2
    busy, issue, flops = _forward(first, clock)
    head = _head_seconds(plain, clock, batch)
    read = _remembered(layers, batch, middle, value_bytes, clock)
    grown = 3.0 * read if any(layer.per_token for layer in layers) else read  # the old cache is read and written to join the new token
    token_busy, token_issue, token_flops = _forward(one, clock)
    slow = max(token_busy + grown + head, token_issue) if not clock.synchronous else token_busy + grown + head + token_issue
    return Serving(
        accelerator=r.accelerator.name if r.accelerator is not None else r.profile.accelerator_name,
        model=r.model_name,
        batch=batch,
        context=context,
        prompt=prompt,
        merged=merged,
        weights=(r.run.precision.weights if r.run.precision is not None else r.formats.compute),
        weights_bytes=stored,
        cache_bytes=cached(batch, context),
        working_bytes=working(batch, prompt),
        total_bytes=total,
        usable_bytes=usable,
        fits=None if usable is None else total <= usable,
        most_batch=most_batch,
        most_context=most_context,
        prefill_s=max(busy + head, issue),
        token_s=slow,
        graph_token_s=token_busy + read + head,
        prefill_flops=flops + _head_flops(plain, batch),
        decode_flops=token_flops + batch * sum(layer.flops * (layer.tokens(context - 1)) for layer in layers) + _head_flops(plain, batch),
        notes=_notes(run, r, merged, layers),
    )


def _check(batch: int, context: int, prompt: int, weights: str | None) -> None:
    for name, value, most in (("batch", batch, MOST_BATCH), ("context", context, MOST_CONTEXT), ("prompt", prompt, MOST_CONTEXT)):
        if not 1 <= value <= most:
            raise PlanError(name, value, "is not possible", f"Use a number from 1 to {most:,}.")
    if prompt > context:
        raise PlanError("prompt", prompt, f"is longer than the context of {context}", "The context counts the prompt too.")
    if weights is not None and weights not in WEIGHTS:
        raise PlanError("weights", weights, "is no storage type", f"Use {', '.join(WEIGHTS)}.")


def _resolved(run: Run, profile: DeviceProfile | None, batch: int, context: int, weights: str | None) -> Resolved:
    """The run's model on one accelerator, in transformers, as trained."""
    trained = resolve(run, profile)
    layers_of(trained.arch)  # refuses what does not write text before sizes are looked at
    mapping = run.model_dump(exclude_unset=True)
    precision = dict(trained.run.precision.model_dump() if trained.run.precision is not None else PRECISIONS["bf16"])
    compute = precision["compute"] if precision["compute"] in ("bf16", "fp16") else "bf16"
    compute = "fp32" if precision["compute"] in ("fp32", "tf32") else compute
    stored = weights or (precision["weights"] if precision["weights"] not in ("fp32", "bf16", "fp16") else compute)
    stored = compute if stored in ("fp8", "fp32") and weights is None else stored
    precision = {"weights": stored, "compute": "fp32" if stored == "fp32" else compute}
    groups = run.hardware.groups
    gpu = groups[0].gpu if groups else run.hardware.gpu
    if stored not in ("fp32", "bf16", "fp16") and stored not in trained.adaptation.bases:  # a full model may be stored in fewer bits once it is trained
        mapping["method"] = {"name": "qlora", "rank": 1} if "qlora" in METHODS else mapping.get("method")
    made: dict[str, Any] = {
        **{name: mapping[name] for name in ("model", "method", "attention", "head", "compression") if name in mapping},
        "precision": precision,
        "hardware": {} if gpu is None else {"gpu": gpu},
        "batch": {"micro": batch, "seq_len": context},
    }
    return resolve(parse_run(made), profile)


def _traced(r: Resolved, sequences: int, tokens: int) -> Workload:
    batch = r.run.batch.model_copy(update={"micro": sequences, "seq_len": tokens})
    return trace(setting_of(replace(r, run=r.run.model_copy(update={"batch": batch})), tokens), "none", "none")


def _working(r: Resolved, w: Workload) -> float:
    """Most bytes of live tensors of a forward without gradients."""
    walk = Walk(w, Persistent((0.0,) * len(COMPONENTS), BYTES[r.formats.gradient]))
    return max((m.total for m in walk.run() if m.phase == "forward"), default=0.0)


def _logits(r: Resolved, sequences: int) -> float:
    """Logits of the last positions, and their copy in fp32 [bytes]."""
    return sequences * r.arch.vocab * (BYTES[r.formats.compute] + 4)


def _head_flops(r: Resolved, sequences: int) -> float:
    return 2.0 * sequences * r.arch.hidden * r.arch.vocab


def _head_seconds(r: Resolved, clock: Clock, sequences: int) -> float:
    return float(clock.profile.matmul_seconds(sequences, r.arch.vocab, r.arch.hidden, r.formats.compute))


def _forward(w: Workload, clock: Clock) -> tuple[float, float, float]:
    """Seconds on the device, seconds to issue the kernels, and FLOP of a forward."""
    busy = issue = flops = 0.0
    for stretch in w.stretches:
        for operation in stretch.operations:
            whole = clock.operation_seconds(operation, operation.forward, False)
            busy += stretch.count * (sum(clock.seconds(k) * k.times for k in operation.forward) if whole is None else whole)
            issue += stretch.count * clock.dispatch * sum(k.times for k in operation.forward)
            flops += stretch.count * sum(k.flops * k.times for k in operation.forward)
    return busy, issue, flops


def _remembered(layers: tuple[Layer, ...], batch: int, tokens: int, value_bytes: float, clock: Clock) -> float:
    """Seconds to read what all layers remember: a token's attention is bound by memory."""
    sizes: dict[float, int] = {}
    for layer in layers:
        size = batch * value_bytes * layer.values(tokens)
        sizes[size] = sizes.get(size, 0) + 1
    return sum(count * float(clock.profile.stream_seconds(size)) for size, count in sizes.items() if size)


def _most(fits: Any, most: int) -> int | None:
    """The largest number that fits, None where 1 does not; what is held grows with it."""
    if not fits(1):
        return None
    low, high = 1, 2
    while high <= most and fits(high):
        low, high = high, 2 * high
    if high > most:
        return most
    while high - low > max(1, low // 256):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _notes(run: Run, r: Resolved, merged: bool, layers: tuple[Layer, ...]) -> tuple[str, ...]:
    lines = [NO_EVIDENCE]
    if run.hardware.gpus > 1:
        lines.append("On one of the run's accelerators: a model divided over several is not served here.")
    quantized = r.run.precision is not None and r.run.precision.weights in ("nf4", "nf4-dq", "int4", "int8")
    if merged and quantized and run.method.name not in ("full", "freeze"):
        lines.append("Adapters merged into quantized weights are rounded with them.")
    if quantized:
        lines.append("Quantized weights are unpacked before each product; kernels that unpack inside one are quicker for small batches.")
    if any(layer.state for layer in layers):
        lines.append("States of recurrent layers do not grow with the context.")
    return tuple(lines)
