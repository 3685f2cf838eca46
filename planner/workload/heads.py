"""What stands on top of the last block: final norm, output head and loss."""

from __future__ import annotations

import math

from planner.workload.graph import BYTES, Kernel, Tensor, matmul_kernel
from planner.workload.projector import unused
from planner.workload.regions import enter, statistics
from planner.workload.writer import Writer
from planner.workload.written_out import gelu_erf


def head(w: Writer, x: Tensor) -> Tensor:
    """Final norm, output head and loss; returns the loss."""
    arch, g, kind = w.arch, w.graph, w.head_kind
    if arch.spare is not None:
        start, (path, inner, width) = len(g.operations), arch.spare
        w.linear(path, g.new((0.0, inner), w.s.formats.graph, False, "nothing"), width, bias=True, base=False)
        unused(w, start)
    own = next((output for output in arch.outputs if output.kind == kind), None)
    if own is not None:
        return own.write(w, x)
    if arch.final_norm:
        x = w.norm(w.names.final_norm, x, arch.hidden)
    x = g.dropout(x, w.active(arch.final_dropout))
    if arch.wide_residual:
        x = g.cast(x, w.s.formats.graph, name="head_input")
    if arch.embedding_width:
        x = w.linear("model.decoder.project_out", x, arch.embedding_width, base=False)
    if kind == "none":
        if arch.pools:
            start = len(g.operations)
            pooled_state = w.linear(w.names.pooler, g.split(x, [(w.b, arch.hidden)])[0], arch.hidden, bias=True, base=False)
            g.unary("tanh", pooled_state, save="output")
            unused(w, start)
        return scalar_loss(w, x)
    x = enter(w, x)
    if kind == "sequence-classification":
        return classify(w, x)
    if kind == "masked-lm" and arch.head_transform:
        x = transform(w, x)
    if arch.output_scaled:
        x = g.unary("output_scale", x, save="none")
    width = (arch.transform_width if kind == "masked-lm" else 0) or arch.embedding_width or arch.hidden
    tied = arch.tied
    g.category = "logits"
    head = arch.output_layer
    weight = w.with_tokens(w.weight(w.names.embedding + ".weight", (arch.vocab, width))) if tied else None
    if w.s.stack.loss in ("chunked", "liger"):
        chunks = liger_loss if w.s.stack.loss == "liger" else chunked_loss
        return chunks(w, x, weight if weight is not None else w.weight(head + ".weight", (arch.vocab, width)))
    apart = arch.biased_apart and w.s.eager
    logits = w.linear(head, x, arch.vocab, bias=arch.head_bias and not apart, base=False, weight=weight)
    if apart:
        logits = g.add(logits, w.weight(head + ".bias", (arch.vocab,)), name="bias_add")
    statistics(w, logits)
    if arch.logit_offset:
        logits = g.add(logits, w.buffer("final_logits_bias", (1, arch.vocab)), name="logit_offset")
    if arch.logits_scaled:
        logits = g.unary("logit_scale", logits, save="none")
    if arch.logit_softcap:
        logits = g.unary("scale", g.unary("softcap", g.unary("scale", logits, save="none"), save="output"), save="none")
    return cross_entropy(w, logits)


def transform(w: Writer, x: Tensor) -> Tensor:
    """The masked-LM head's dense layer, activation and norm."""
    prefix = "cls.predictions.transform" if w.names.head == "cls.predictions" else "lm_head"
    norm = prefix + (".LayerNorm" if prefix.startswith("cls") else ".layer_norm")
    dense, norm = w.names.transform or (prefix + ".dense", norm)
    width = w.arch.transform_width or w.arch.hidden
    x = w.linear(dense, x, width, bias=w.arch.pooler_bias, base=False)
    own = w.arch.activation == "gelu_erf" and w.s.eager
    return w.norm(norm, gelu_erf(w, x) if own else w.graph.unary("gelu", x), width)


def scalar_loss(w: Writer, x: Tensor) -> Tensor:
    """A mean over everything: the stand-in loss of a headless model."""
    g = w.graph
    loss = g.new((1,), "fp32", x.requires_grad, "loss")
    g.add_operation(
        "loss", "loss", (x,), (loss,), (), (Kernel("reduction", x.bytes),), (Kernel("elementwise", x.bytes),)
    )
    return loss


def classify(w: Writer, x: Tensor) -> Tensor:
    """Encoders classify their first token, decoders score every token and take the last."""
    arch, g, n = w.arch, w.graph, w.names
    if arch.pooler or arch.classifier_hidden:
        x = pooled(w, x)
        dense = n.pooler if arch.pooler else f"{n.classifier}.dense"
        trained = arch.pooler_saved if arch.pooler else True
        activation = arch.classifier_activation
        if arch.classifier_hidden:
            x = g.dropout(x, w.active(arch.classifier_dropout))
        x = classifier(w, dense, x, arch.hidden, trained=trained, bias=arch.pooler_bias)
        x = g.unary(activation, x, save="input" if activation == "gelu" else "output")
        if arch.pooler_norm:
            x = w.norm((n.transform or ("", ""))[1], x, arch.hidden)
        x = g.dropout(x, w.active(arch.classifier_dropout))
    name = f"{n.classifier}.out_proj" if arch.classifier_hidden else n.classifier
    logits = classifier(w, name, x, arch.num_labels, trained=True, bias=arch.classifier_bias)
    if arch.pooling == "late":
        logits = mean_of_tokens(w, logits)
    loss = g.new((1,), "fp32", logits.requires_grad, "loss")
    log_probabilities = g.softmax(logits, "fp32" if g.autocast else None, name="log_softmax")
    g.add_operation(
        "nll_loss",
        "loss",
        (log_probabilities,),
        (loss,),
        (),
        (Kernel("reduction", logits.bytes),),
        (Kernel("elementwise", logits.bytes),),
    )
    return loss


def pooled(w: Writer, x: Tensor) -> Tensor:
    """What a classifier sees of the sequence: its first token, the mean of all, or every token."""
    g, how = w.graph, w.arch.pooling
    if how == "late":
        return x
    if how == "first":
        return g.split(x, [(w.b, w.arch.hidden)])[0]
    return mean_of_tokens(w, g.unary("mask", x, save="none"))


def mean_of_tokens(w: Writer, x: Tensor) -> Tensor:
    """Mean over the tokens of each sequence."""
    y = w.graph.new((w.b, x.shape[-1]), x.dtype, x.requires_grad, "mean")
    moved = Kernel("reduction", x.bytes + y.bytes)
    w.graph.add_operation("mean", "elementwise", (x,), (y,), (), (moved,), (moved,))
    return y


def classifier(w: Writer, path: str, x: Tensor, out: float, *, trained: bool, bias: bool) -> Tensor:
    """peft trains a copy of the classification head beside the frozen original (task type SEQ_CLS)."""
    if trained and w.s.adaptation.peft and w.s.adaptation.copies_head:
        return w.copied(path, x, out, bias)
    return w.linear(path, x, out, bias=bias, base=False)


def chunked_loss(w: Writer, x: Tensor, weight: Tensor) -> Tensor:
    """Head and loss in chunks (Hsu et al. 2024, arXiv:2410.10989, sec. 3.2): gradients are formed in forward, chunk by chunk, and only they are kept."""
    g = w.graph
    x, operand = g.lower(x), g.lower(weight)
    vocab, width = weight.shape
    rows = x.numel / width
    chunk = 2.0 ** math.ceil(math.log2(max(1.0, rows / max(1.0, vocab / width))))
    loss = g.new((1,), "fp32", x.requires_grad or weight.requires_grad, "loss")
    product = x.dtype
    kernels = [matmul_kernel(rows, vocab, width, product), Kernel("reduction", 4 * rows * vocab * BYTES[x.dtype])]
    if x.requires_grad:
        kernels.append(matmul_kernel(rows, width, vocab, product, layout="dgrad"))
    if weight.requires_grad:
        kernels.append(matmul_kernel(vocab, width, rows, product, layout="wgrad"))
    gradient = g.new(x.shape, x.dtype, False, "logit_gradient")
    saved = [gradient] if x.requires_grad else []
    scratch = min(chunk, rows) * vocab * (BYTES[x.dtype] + 4.0)
    back = (Kernel("elementwise", 2 * x.bytes),)
    g.add_operation(
        "chunked_loss", "matmul", (x, operand), (loss, gradient), saved, kernels, back, temporary=(scratch, 0.0)
    )
    return loss


def liger_loss(w: Writer, x: Tensor, weight: Tensor) -> Tensor:
    """Liger's fused head and loss (liger_kernel/ops/fused_linear_cross_entropy.py, August 2026): both gradients are formed in forward, chunk by chunk,
    and wait for backward; a chunk's logits are still there while the next one's are made, and the weight's gradient of a chunk is summed in fp32."""
    g = w.graph
    given, x, operand = x, g.lower(x), g.lower(weight)
    vocab, width = weight.shape
    rows, element = x.numel / width, BYTES[x.dtype]
    chunk = min(rows, 2.0 ** math.ceil(math.log2(max(1.0, -(-rows // -(-vocab // width))))))
    needs = x.requires_grad or weight.requires_grad
    loss = g.new((1,), "fp32", needs, "loss")
    kernels = [matmul_kernel(rows, vocab, width, x.dtype), Kernel("reduction", 4 * rows * vocab * element)]
    saved = []
    scratch = chunk * vocab * element * (2.0 if rows > chunk else 1.0)
    if needs:
        saved.append(g.new(given.shape, given.dtype, False, "logit_gradient"))
        kernels.append(matmul_kernel(rows, width, vocab, x.dtype, layout="dgrad"))
        scratch = max(scratch, chunk * vocab * element + chunk * width * element)
    held = 0.0
    if weight.requires_grad:
        saved.append(g.new(weight.shape, weight.dtype, False, "head_gradient"))
        kernels.append(matmul_kernel(vocab, width, rows, x.dtype, layout="wgrad"))
        again = weight.numel * element + (4.0 * weight.numel if element < 4 else 0.0)  # in the product's type and in fp32
        scratch = max(scratch, chunk * vocab * element + again)
        held = weight.bytes  # it becomes the gradient as it is
    back = (Kernel("elementwise", 2 * x.bytes + 2 * held),)
    g.add_operation(
        "chunked_loss", "matmul", (given, operand), (loss, *saved), saved, kernels, back, temporary=(scratch, -held - given.bytes if needs else 0.0)
    )
    return loss


SHIFTS_PLAIN_LOGITS = frozenset({"gpt_bigcode"})
"""Model types whose code in transformers 4 copies the logits for the shift and hands them to the loss as they are; 5 has one loss for all."""
RETURNS_WIDE_LOGITS = frozenset({"mistral", "qwen"})
"""Model types whose code (transformers 4, or their own) returns fp32 logits, which the trainer's wrapper holds beside the loss's. Those that upcast
inside the loss (Llama 3, Granite, GPTBigCode in the same software) show no such copy in measured peaks under full sharding."""


def _shifted(w: Writer, logits: Tensor) -> Tensor:
    """`lm_logits[..., :-1, :].contiguous()`, while the trainer holds the outputs: in fp32 where autocast's wrapper converts them."""
    g = w.graph
    outputs = [g.new(logits.shape, "fp32", False, "output_copy")] if w.s.formats.autocast else []
    shifted = g.new(logits.shape, logits.dtype, logits.requires_grad, "shifted_logits")
    g.add_operation(
        "shift",
        "loss",
        (logits,),
        (shifted, *outputs),
        (logits, *outputs),
        (Kernel("elementwise", 2 * logits.bytes + sum(4 * o.bytes for o in outputs)),),
        (Kernel("elementwise", 2 * logits.bytes),),
    )
    return shifted


def cross_entropy(w: Writer, logits: Tensor) -> Tensor:
    """Token loss. upcast: transformers' `logits.float()`, log_softmax, nll_loss; in-place: Megatron's vocab-parallel loss; compiled: no fp32 copy."""
    g, kind = w.graph, w.head_kind
    # under full sharding accelerate's conversion of the outputs to fp32 goes around a patched loss
    copied = w.s.sharded and w.s.stack.output_copies > 0 and w.arch.model_type in RETURNS_WIDE_LOGITS
    spread = w.s.split.tp > 1 and w.s.stack.loss_over_ranks
    style = "upcast" if copied or spread else w.s.stack.loss
    loss = g.new((1,), "fp32", logits.requires_grad, "loss")
    plain = w.arch.plain_loss or (kind == "masked-lm" and not w.arch.masked_loss_upcast)
    if w.arch.model_type in SHIFTS_PLAIN_LOGITS and w.s.stack.name in ("hf-4", "hf-kernels"):
        plain = True
        logits = _shifted(w, logits)
    if plain and style == "upcast":  # these hand the logits to CrossEntropyLoss as they are
        logits = g.raise_(logits)
        probabilities = g.softmax(logits, name="log_softmax")
        back = (Kernel("elementwise", probabilities.bytes),)
        g.add_operation(
            "nll_loss", "loss", (probabilities,), (loss,), (), (Kernel("elementwise", 8 * w.b * w.t),), back
        )
        return loss
    if style == "compiled":
        moved = logits.bytes
        saved = (logits,) if logits.requires_grad else ()
        g.add_operation(
            "cross_entropy",
            "loss",
            (logits,),
            (loss,),
            saved,
            (Kernel("reduction", 2 * moved),),
            (Kernel("reduction", 2 * moved),),
        )
        return loss
    wide = g.raise_(logits) if plain else g.cast(logits, "fp32", name="logits_upcast")
    if style == "in-place":
        saved = (wide,) if wide.requires_grad else ()
        kernels = tuple(Kernel("reduction", 2 * wide.bytes) for _ in range(4))
        g.add_operation(
            "cross_entropy",
            "loss",
            (wide,),
            (loss,),
            saved,
            kernels,
            (Kernel("elementwise", 2 * wide.bytes),),
            alias=False,
        )
        g.release(logits)
        return loss
    if copied:
        copies = g.new(logits.shape, "fp32", False, "output_copy")
        g.add_operation(
            "output_copy",
            "loss",
            (wide,),
            (copies,),
            (copies,),
            (Kernel("elementwise", wide.bytes + copies.bytes),),
            (),
        )
    probabilities = g.softmax(wide, name="log_softmax")
    back = (Kernel("elementwise", probabilities.bytes),)
    # torch's _nll_loss_and_log_softmax_backward: a tensor of zeros, its sum with the exponentials, and the product of that are alive together
    passing = 2 * probabilities.bytes if spread else 0.0
    g.add_operation(
        "nll_loss", "loss", (probabilities,), (loss,), (), (Kernel("elementwise", 8 * w.b * w.t),), back, temporary=(0.0, passing)
    )
    g.release(wide)
    g.release(logits)
    return loss
