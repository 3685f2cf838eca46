"""Which modules a method adapts, decided as peft 0.21 decides it (peft.tuners.tuners_utils.check_target_module_exists).

Targets are a list of module name endings, a regular expression that matches the whole path, or `all-linear` (every linear layer but the
output head). Layers can be chosen by number and modules excluded; ranks can differ by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from planner.errors import PlanError, shorten
from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.methods.base import Adaptation
from planner.workload.modules import all_linears, linear_kinds

if TYPE_CHECKING:
    from planner.workload.methods.base import Beside

Match = Callable[[str], bool]

_DIFFUSERS = ("to_q", "to_k", "to_v", "to_out.0")
DEFAULT_TARGETS: dict[str, tuple[str, ...]] = {
    "t5": ("q", "v"),
    "mt5": ("q", "v"),
    "umt5": ("q", "v"),
    "gpt2": ("c_attn",),
    "gpt_bigcode": ("c_attn",),
    "gpt_neox": ("query_key_value",),
    "bert": ("query", "value"),
    "roberta": ("query", "value"),
    "xlm-roberta": ("query", "value"),
    "camembert": ("query", "value"),
    "phi": ("q_proj", "v_proj", "fc1", "fc2"),
    "phi3": ("qkv_proj",),
    "falcon": ("query_key_value",),
    "bloom": ("query_key_value",),
    "mpt": ("Wqkv",),
    "codegen": ("qkv_proj",),
    "electra": ("query", "value"),
    "deberta": ("in_proj",),
    "deberta-v2": ("query_proj", "value_proj"),
    "layoutlm": ("query", "value"),
    "yolos": ("query", "value"),
    "nemotron_h": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "videomae": ("query", "value"),
    **dict.fromkeys(("DiTTransformer2DModel", "PixArtTransformer2DModel"), _DIFFUSERS),
    "SD3Transformer2DModel": (*_DIFFUSERS, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
    "FluxTransformer2DModel": (
        *_DIFFUSERS, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out",
        "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2",
    ),
}  # fmt: skip
"""What peft adapts when no target is given (peft.utils.constants), and for diffusion transformers the training scripts of diffusers;
q_proj and v_proj for the others."""
WIDE_TARGETS: dict[str, tuple[str, ...]] = {
    **DEFAULT_TARGETS,
    "t5": ("q", "k", "v", "o", "wi", "wo"),
    "mt5": ("q", "k", "v", "o", "wi_0", "wi_1", "wo"),
    **dict.fromkeys(("opt", "bart"), ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")),
    "deberta-v2": ("query_proj", "key_proj", "value_proj", "dense"),
}
"""The same for AdaLoRA and VB-LoRA."""
REFUSED: dict[str, tuple[str, ...]] = dict.fromkeys(
    ("mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h"), ("out_proj", "conv1d")
)
"""Modules that peft refuses to give LoRA-like adapters, since fused kernels read their weights (peft.tuners.tuners_utils)."""
REFUSING = ("lora", "qlora", "dora", "rslora", "pissa", "olora", "loftq", "adalora", "randlora")
SELECTION = ("targets", "exclude", "layers", "layers_pattern")
COMMON = ("adapter_dtype", "modules_to_save", "adapters")
"""Fields of every method at linear layers, beside its own."""
_NUMBERED = re.compile(r".*?\.[^.]*\.(\d+)\.")


def expression(field: str, text: str) -> re.Pattern[str]:
    """A regular expression of the run. Raises `PlanError` when it is none."""
    try:
        return re.compile(text)
    except re.error as error:
        raise PlanError(
            f"method.{field}",
            text,
            f"is not a regular expression ({error})",
            "Give module names, or a valid expression.",
        ) from None


def ends(path: str, names: tuple[str, ...]) -> bool:
    """Is the path one of the names, or does it end in one?"""
    return any(path == name or path.endswith("." + name) for name in names)


BITSANDBYTES = ("nf4", "nf4-dq", "int8")
"""bitsandbytes' layers are linear layers, which any method of peft can stand beside."""
ANY_BASE = (*BITSANDBYTES, "int4", "awq")
"""With layers of its own for GPTQ and AWQ."""


def saved_whole(path: str, names: tuple[str, ...]) -> bool:
    """Is the module, or one that contains it, in modules_to_save? peft compares plain endings: `norm` means `input_layernorm` too
    (peft.utils.other._set_trainable)."""
    parts = path.split(".") if names else []
    return any(".".join(parts[: i + 1]).endswith(name) for i in range(len(parts)) for name in names)


def select(
    method: Method,
    arch: Architecture,
    defaults: Mapping[str, tuple[str, ...]] = DEFAULT_TARGETS,
    extra: tuple[str, ...] = (),
) -> tuple[Match, bool]:
    """Target selection: (does a path match, do the layers differ). defaults: targets by model type · extra: modules beside the linear layers
    that the method can adapt."""
    targets = method.targets or defaults.get(arch.model_type, ("q_proj", "v_proj"))
    head = arch.output_layer
    layered = method.layers is not None
    if isinstance(targets, str):
        if layered:
            raise PlanError(
                "method.layers",
                method.layers,
                "needs targets by name",
                "Give a list of module names, or say the layers in the expression.",
            )
        if targets == "all-linear":
            if any(k.experts is not None and not k.experts.all_linear for stack in arch.stacks for k in stack.kinds):
                raise PlanError(
                    "method.targets",
                    targets,
                    f"makes peft adapt the stacked experts of {arch.model_type}, which is not planned",
                    "Name the layers, for example q_proj and v_proj.",
                )
            # with heads of their own, peft keeps out only the decoder's language model: its tasks know no other
            wanted = _all_but(head, head if arch.outputs and not arch.imported else arch.names.classifier)
        else:
            wanted = _matching(targets, arch, extra)
    else:
        _check_names(targets, arch, (head, *extra), every=method.targets is not None)
        wanted = _in_layers(method, arch, lambda path: ends(path, targets))
    excluded = _excluded(method)
    refused = REFUSED.get(arch.model_type, ()) if method.name in REFUSING else ()
    for path in linear_kinds(arch) if refused else ():
        first = path.replace("{i}", "0")
        if ends(first, refused) and wanted(first) and not excluded(first):
            raise PlanError(
                "method.targets",
                first.rsplit(".", 1)[-1],
                f"is refused by peft for {arch.model_type}, whose kernels read its weight",
                "Name other layers, for example in_proj.",
            )
    return (lambda path: wanted(path) and not excluded(path)), layered or (
        isinstance(targets, str) and targets != "all-linear"
    ) or isinstance(method.exclude, str) or bool(
        method.exclude and any(re.search(r"\d", name) for name in method.exclude)
    )


def _all_but(head: str, classifier: str) -> Match:
    return lambda path: path != head and not (classifier and path.startswith(classifier))


def _matching(targets: str, arch: Architecture, extra: tuple[str, ...]) -> Match:
    compiled = expression("targets", targets)
    layers = [*all_linears(arch), *(path.replace("{i}", str(i)) for path in extra for i in range(arch.layers))]
    if not any(compiled.fullmatch(path) for path in layers):
        raise PlanError(
            "method.targets",
            targets,
            "matches no linear layer",
            f"The expression must match a whole path such as {layers[0]}.",
        )
    return lambda path: compiled.fullmatch(path) is not None


def _check_names(targets: tuple[str, ...], arch: Architecture, outside: tuple[str, ...], every: bool) -> None:
    """Raise for the first name that is no layer. every: all must be; else one is enough, as peft's lists go beyond what a variant has."""
    known = [path.replace("{i}", "0") for path in linear_kinds(arch)]
    paths = [*known, arch.names.classifier, arch.names.pooler, *(path.replace("{i}", "0") for path in outside)]
    # a name may spell out a layer other than the first
    missing = [
        name
        for name in targets
        if not any(ends(re.sub(r"\.\d+\.", ".0.", path), (re.sub(r"\.\d+\.", ".0.", name),)) for path in paths)
    ]
    if missing and (every or len(missing) == len(targets)):
        raise PlanError(
            "method.targets",
            shorten(missing[0]),
            "is not a linear layer of this model",
            f"Its layers have {', '.join(sorted({path.rsplit('.', 1)[-1] for path in known}))}.",
        )


def _in_layers(method: Method, arch: Architecture, wanted: Match) -> Match:
    """peft's layers_to_transform: the first number after a name (or after one of layers_pattern) is the layer."""
    if method.layers is None:
        if method.layers_pattern is not None:
            raise PlanError(
                "method.layers_pattern", method.layers_pattern, "means nothing without layers", "Add layers."
            )
        return wanted
    chosen = (method.layers,) if isinstance(method.layers, int) else method.layers
    beyond = [layer for layer in chosen if layer >= arch.layers]
    if beyond or not chosen:
        raise PlanError(
            "method.layers",
            beyond[0] if beyond else "()",
            f"is not one of the model's {arch.layers} layers",
            f"Use 0 to {arch.layers - 1}.",
        )
    given = method.layers_pattern
    patterns = (
        [_NUMBERED]
        if not given
        else [
            expression("layers_pattern", rf"(?:^|.*?\.){name}\.(\d+)\.")
            for name in ((given,) if isinstance(given, str) else given)
        ]
    )
    if not any(p.match(path.replace("{i}", "0")) for p in patterns for path in linear_kinds(arch)):
        name = arch.names.layer.split(".{i}")[0].rsplit(".", 1)[-1]
        raise PlanError("method.layers_pattern", given, "names no list of layers", f"This model's is {name}.")

    def matches(path: str) -> bool:
        found = next((match for p in patterns if (match := p.match(path)) is not None), None)
        return wanted(path) and found is not None and int(found.group(1)) in chosen

    return matches


def _excluded(method: Method) -> Match:
    """What is not adapted: excluded modules, and those that are trained as whole copies (with all that they contain)."""
    out, saved = method.exclude, method.modules_to_save or ()
    compiled = expression("exclude", out) if isinstance(out, str) else None

    def excluded(path: str) -> bool:
        if compiled is not None and compiled.fullmatch(path):
            return True
        if isinstance(out, tuple) and ends(path, out):
            return True
        return any(ends(path, (name,)) or f".{name}." in f".{path}" for name in saved)

    return excluded


def ranks(method: Method, default: int) -> Callable[[str], int]:
    """Rank of a module's update: the first key of rank_pattern that the end of its path matches (peft.utils.get_pattern_key)."""
    rank = method.rank or default
    patterns = [
        (expression("rank_pattern", rf"(.*\.)?({key})$"), value) for key, value in (method.rank_pattern or {}).items()
    ]
    return lambda path: next((value for pattern, value in patterns if pattern.match(path)), rank)


def adapted(
    method: Method,
    arch: Architecture,
    beside: Beside,
    resolved: Mapping[str, Any],
    defaults: Mapping[str, tuple[str, ...]] = DEFAULT_TARGETS,
    *,
    rank: int = 0,
    only: str = "",
    **more: Any,
) -> Adaptation:
    """A frozen base whose selected linear layers are written by `beside`. rank: default of the method's rank, 0 when it has none ·
    only: what peft calls training the adapted layers' biases (`lora_only`)."""
    matches, per_layer = select(method, arch, defaults)
    saved = method.modules_to_save or ()
    of = ranks(method, rank)
    return Adaptation(
        method.name,
        trains=biases(method, matches, only),
        adapts=lambda path: (of(path) or 1) if matches(path) else 0,
        copies=lambda path: saved_whole(path, saved),
        beside=beside,
        resolved=resolved,
        per_layer=per_layer or bool(method.rank_pattern),
        peft=True,
        adapter_dtype=method.adapter_dtype,
        loaded=method.adapters or 1,
        **{"bases": BITSANDBYTES, **more},
    )


def biases(method: Method, adapts: Match, only: str) -> Match:
    """peft's `bias`: which biases of the base are trained."""
    kind = method.bias or "none"
    if kind != "none" and (method.adapters or 1) > 1:
        raise PlanError(
            "method.bias", kind, f"does not work with {method.adapters} adapters in peft", "Use none, or one adapter."
        )
    if kind == "all":
        return lambda path: path.endswith(".bias")
    if kind == only and only:
        return lambda path: path.endswith(".bias") and adapts(path.removesuffix(".bias"))
    if kind != "none":
        raise PlanError(
            "method.bias", kind, f"is not known to {method.name}", f"Use none, all{' or ' + only if only else ''}."
        )
    return lambda path: False


def has_bias(arch: Architecture, path: str) -> bool:
    """Has the linear layer of this path a bias?"""
    n = arch.names
    if path.endswith((n.query, n.key, n.value)) or (n.fused and path.endswith(n.fused)):
        return arch.qkv_bias
    return arch.out_bias if path.endswith(n.out) else arch.mlp_bias
