"""From what the user wrote to what will be computed: every default filled in, every name looked up, every contradiction named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from planner.catalog import Accelerator, Network, customise, default_network, find_accelerator, find_model, load_config
from planner.device import DeviceProfile, default_profile, part_of
from planner.device.collectives import Topology
from planner.errors import PlanError, shorten
from planner.estimate.compression import check_sparsity, pruned
from planner.estimate.constants import sustained
from planner.estimate.parallel import parallel_of
from planner.run import PRECISIONS, Batch, Hardware, NetworkKind, Precision, Run
from planner.workload import Architecture, read_config
from planner.workload.methods import Adaptation, adapt
from planner.workload.optimizers import Optimizer, find_optimizer
from planner.workload.precision import QUANTIZED, Formats, formats, scaled_products
from planner.workload.quantized import notes as base_notes
from planner.workload.scaled import Scaled
from planner.workload.stacks import Stack, find_stack

KEEPS_LOW_STREAM = frozenset({"gpt_bigcode", "granite"})
"""Model types whose sharded 4-bit runs keep the residual stream in half precision (measured peaks of SantaCoder and PowerLM); Llama 2 70B's do not."""
_LIBRARIES = {
    "transformer-engine": "Transformer Engine, which keeps the quantised inputs for backward",
    "torchao": "torchao's Float8Linear, which keeps the bf16 inputs and casts them again in backward",
}
DEFAULT_GPU = "H100 SXM 80GB"
DEFAULT_SEQ = 2048
_FUSED = {"adamw": "adamw-fused"}
_OPTIONAL_FIELDS = {
    "num_labels",
    "head_dim",
    "num_key_value_heads",
    "attention_bias",
    "mlp_bias",
    "tie_word_embeddings",
    "sliding_window",
    "attention_dropout",
}
_MEMORY_FIELDS = {"memory_gib": "memory_bytes", "usable_memory_gib": "usable_memory_bytes"}


@dataclass(frozen=True)
class Member:
    """Accelerators of one kind in a mixed fleet. share: of all accelerators."""

    share: float
    accelerator: Accelerator
    profile: DeviceProfile


@dataclass(frozen=True)
class Resolved:
    """A run with nothing left open.

    run: all defaults filled in · optimizer: the implementation that the stack uses · topology: None on one GPU ·
    usable_memory: what tensors may take [bytes],
    before the driver's context; None when the device does not say.
    """

    run: Run
    model_name: str
    arch: Architecture
    adaptation: Adaptation
    formats: Formats
    stack: Stack
    optimizer: Optimizer
    head: str
    attention: str
    accelerator: Accelerator | None
    profile: DeviceProfile
    topology: Topology | None
    usable_memory: float | None
    notes: tuple[str, ...]
    fused_mixers: bool = True
    fleet: tuple[Member, ...] = ()
    """The kinds of accelerators of a mixed fleet; empty where all are alike."""


def resolve(run: Run, profile: DeviceProfile | None = None) -> Resolved:
    """Fill defaults and look everything up. Raises `PlanError` naming the field, the value and the fix."""
    notes: list[str] = []
    name, config = model_config(run.model)
    arch = pruned(run, read_config(config), notes)
    stack = find_stack(run.stack)
    adaptation = adapt(run.method, arch)
    accelerator, profile = _device(run, profile)
    run = run.model_copy(update={"parallel": parallel_of(run, arch)})
    precision = _precision(run, adaptation, profile, notes)
    sharding = run.parallel.sharding or ("none" if run.dp * run.parallel.cp == 1 else "ddp")
    sharded = sharding in ("zero3", "hsdp") and run.dp * run.parallel.cp > 1
    notes.extend(adaptation.notes)
    if precision.weights in QUANTIZED and precision.weights not in adaptation.bases:
        raise PlanError(
            "precision.weights",
            precision.weights,
            f"is no base that {run.method.name} works on",
            f"Use {' or '.join((*adaptation.bases, 'bf16'))}.",
        )
    if sharding not in ("none", "ddp") and run.dp > 1 and not adaptation.sharding:
        raise PlanError(
            "parallel.sharding", sharding, f"does not work with {run.method.name}, which needs whole gradients", "Use ddp."
        )
    master = precision.master_weights or (
        stack.master_by_default and precision.weights in ("bf16", "fp16") and run.method.name in ("full", "freeze")
    )
    if master != precision.master_weights:
        precision = precision.model_copy(update={"master_weights": master})
        notes.append(f"{stack.label} keeps an fp32 master copy of {precision.weights} weights.")
    if sharded and stack.upcasts_trained and precision.autocast and precision.weights in ("bf16", "fp16") and run.method.name == "full":
        notes.append(f"accelerate stores the {precision.weights} weights in fp32, since they are fully sharded under mixed precision.")
        precision = precision.model_copy(update={"weights": "fp32"})
    if stack.zero_engine and "optimizer" in run.offload and precision.weights == "fp32":
        low = precision.compute if precision.compute in ("bf16", "fp16") else None
        if low is not None:
            precision = precision.model_copy(update={"weights": low, "autocast": False, "master_weights": True})
            notes.append(
                f"DeepSpeed keeps {low} weights on the accelerator and their fp32 masters with the optimizer on the host."
            )
    scaled = scaled_products(
        precision,
        library=stack.scaled,
        cached=stack.caches_scaled and not sharded,
        capability=accelerator.compute_capability if accelerator is not None else None,
    )
    kinds = formats(
        precision,
        scaled=scaled,
        cast_on_gather=sharded and stack.cast_on_gather,
        fp32_gradients=stack.fp32_gradients and run.method.name in ("full", "freeze"),
    )
    if sharded and kinds.base in ("nf4", "nf4-dq") and stack.requires_input_grad and arch.model_type not in KEEPS_LOW_STREAM:
        # prepare_model_for_kbit_training leaves norms and embeddings in fp32; FSDP's mixed precision then keeps the residual stream there
        kinds = replace(kinds, graph="fp32", autocast=kinds.compute)
    notes.extend(
        base_notes(
            kinds.base,
            keeps_dequantized=stack.keeps_dequantized,
            checkpointed=run.activation_checkpointing == "full",
            early_stop=stack.early_stop,
        )
    )
    _check_dtype(kinds.compute, profile)
    if check_sparsity(run, arch, precision, accelerator):
        kinds = replace(kinds, sparse=True)
        notes.append("2:4 sparse products are taken to be 1.6 times as fast as dense ones (assumed); FLOP are counted as if dense.")
    if scaled is not None:
        _check_scaled(precision, scaled, accelerator, profile)
        notes.append(
            f"{precision.compute} products ({scaled.recipe.label}) by {_LIBRARIES[scaled.library]}; head, embeddings and attention stay in bf16."
        )
    if sharded and run.parallel.pp > 1 and stack.pipelines_gathered:
        notes.append("Fully sharded pipelines keep their weights gathered and their gradients whole from the first micro batch to the last.")
    optimizer = find_optimizer(
        _FUSED.get(run.optimizer, run.optimizer) if stack.optimizer == "fused" else run.optimizer
    )
    _check_options(run, optimizer)
    attention = _attention(run, arch, accelerator, kinds, notes, own=stack.own_modules)
    fused = _fused_mixers(arch, attention, accelerator, notes)
    head = run.head or arch.default_head
    if head not in arch.offered:
        raise PlanError("head", head, f"does not exist for {arch.model_type}", f"Use {' or '.join(arch.offered)}.")
    virtual = adaptation.virtual_tokens + adaptation.prefix_tokens
    batch = _batch(run, arch, virtual, notes)
    if virtual:
        notes.append(
            f"{virtual} virtual tokens a sequence cost time and memory; tokens per second count the data's alone."
        )
    if run.activation_checkpointing != "none" and not adaptation.checkpointing:
        raise PlanError(
            "activation_checkpointing",
            run.activation_checkpointing,
            f"does not work with {run.method.name}: a checkpointed block drops the cache that holds the keys and values",
            "Use none.",
        )
    if run.activation_checkpointing != "none" and any(stack.nested_checkpoints for stack in arch.stacks):
        raise PlanError(
            "activation_checkpointing",
            run.activation_checkpointing,
            f"is nested in {arch.model_type} (each stage and each of its layers), which is not planned",
            "Use none.",
        )
    if virtual and any(stack.front is not None for stack in (arch.stacks if arch.cross is None else arch.towers)):
        raise PlanError("method.name", run.method.name, "is planned for models that take tokens of text", "Use lora or freeze.")
    limits = {getattr(stack.front, "checkpoints", "") for stack in arch.stacks}
    if run.activation_checkpointing != "none" and "none" in limits:
        raise PlanError(
            "activation_checkpointing",
            run.activation_checkpointing,
            f"is not planned for {arch.model_type}, which checkpoints its convolutions too",
            "Use none.",
        )
    hardware, topology = _hardware(run, accelerator, profile, notes)
    method = run.method.model_copy(update=dict(adaptation.resolved))
    full = run.model_copy(
        update={
            "head": head,
            "method": method,
            "precision": precision,
            "hardware": hardware,
            "attention": attention,
            "parallel": run.parallel.model_copy(update={"sharding": sharding}),
            "batch": batch,
        }
    )
    usable = float(accelerator.usable_memory_bytes) if accelerator is not None else profile.memory_bytes
    return Resolved(
        full,
        name,
        arch,
        adaptation,
        kinds,
        stack,
        optimizer,
        head,
        attention,
        accelerator,
        profile,
        topology,
        usable,
        tuple(notes),
        fused,
    )


def model_config(model: str | dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(name to show, config)."""
    if isinstance(model, dict):
        if "base" in model:
            return _edited(model)
        config = load_config(model)
        given = config.get("_name_or_path")
        return (given if isinstance(given, str) and given else f"custom {config.get('model_type', config.get('_class_name'))}"), config
    text = model.strip()
    if text.startswith("{") or text.endswith(".json") or (len(text) < 4096 and "\0" not in text and _is_folder(text)):
        return shorten(Path(text).parent.name or Path(text).stem, 80) if not text.startswith(
            "{"
        ) else "pasted config", load_config(text)
    entry = find_model(text)
    return entry.id, dict(entry.config)


def _edited(model: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """`{base: NAME, …fields}`: a catalog config with edited fields."""
    edits = {key: value for key, value in model.items() if key != "base"}
    base = model["base"]
    if not isinstance(base, str):
        raise PlanError("model.base", base, "is not a model's name", "Name the catalog model that you edit.")
    entry = find_model(base, "model.base")
    known = dict(entry.config)
    for key in edits:
        if key not in known and key not in _OPTIONAL_FIELDS:
            raise PlanError(
                f"model.{key}",
                edits[key],
                f"is not a field of the config of {entry.id}",
                f"Its fields: {', '.join(sorted(known))}.",
            )
    return f"{entry.id} (edited)" if edits else entry.id, load_config({**known, **edits})


def _is_folder(text: str) -> bool:
    try:
        return (Path(text) / "config.json").is_file()
    except OSError:
        return False


def _device(run: Run, profile: DeviceProfile | None) -> tuple[Accelerator | None, DeviceProfile]:
    """Catalog row (None for a calibrated device outside the catalog) and profile."""
    gpu = run.hardware.gpu
    if gpu is None and profile is not None:
        return part_of(profile), profile
    if isinstance(gpu, dict):
        edits = dict(gpu)
        base = edits.pop("base", None)
        if not isinstance(base, str):
            raise PlanError(
                "hardware.gpu.base",
                base,
                "is missing",
                "Name the catalog accelerator that you edit, for example {base: H100 SXM 80GB, memory_gib: 96}.",
            )
        for short, field in _MEMORY_FIELDS.items():
            if short in edits:
                edits[field] = _gibibytes(edits.pop(short), short)
        accelerator = customise(find_accelerator(base), **edits)
    else:
        accelerator = find_accelerator(gpu or DEFAULT_GPU)
    if profile is not None and gpu is not None and profile.accelerator_name != accelerator.name:
        raise PlanError(
            "hardware.gpu",
            accelerator.name,
            f"is not the profile's device, {profile.accelerator_name}",
            "Leave hardware.gpu out, or plan without the profile.",
        )
    return accelerator, profile or _sustained_profile(accelerator)


@lru_cache(maxsize=64)
def _known_profile(name: str) -> DeviceProfile:
    return _derated(find_accelerator(name))


def _sustained_profile(accelerator: Accelerator) -> DeviceProfile:
    """The catalog's curves at the rate that long runs hold."""
    return _known_profile(accelerator.name) if not accelerator.name.endswith("(edited)") else _derated(accelerator)


def _derated(accelerator: Accelerator) -> DeviceProfile:
    profile = default_profile(accelerator)
    rate = sustained(accelerator.arch, accelerator.compute_capability)
    held = {dtype: 1.0 if dtype == "fp32" and accelerator.vendor == "NVIDIA" else rate for dtype in profile.gemm}  # matrix units throttle
    return profile.with_sustained(**{dtype: held[dtype] * profile.sustained.get(dtype, 1.0) for dtype in profile.gemm})


def _gibibytes(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e6:
        raise PlanError(f"hardware.gpu.{name}", value, "is not a memory size", "Give it in GiB, for example 96.")
    return round(value * 2**30)


def _precision(run: Run, adaptation: Adaptation, profile: DeviceProfile, notes: list[str]) -> Precision:
    """The run's formats; left out, what the field uses on this device: bf16, or fp16-mixed before Ampere; half-precision frozen bases under autocast."""
    if run.precision is not None:
        if adaptation.quantized and run.precision.weights not in QUANTIZED:
            return run.precision.model_copy(update={"weights": "nf4-dq"})
        return run.precision
    low = "bf16" if profile.supports("bf16") else "fp16" if profile.supports("fp16") else "fp32"
    if low == "fp32":
        return Precision(**PRECISIONS["fp32"])
    if adaptation.quantized:
        return Precision(weights="nf4-dq", compute=low)
    if adaptation.peft:
        return Precision(weights=low, compute=low, autocast=True)
    notes.append(f"Precision left out: {low}-mixed (fp32 weights under autocast).")
    return Precision(**PRECISIONS[f"{low}-mixed"])


def _check_options(run: Run, optimizer: Optimizer) -> None:
    for name, value in run.optimizer_options:
        if value is not None and name not in optimizer.options:
            raise PlanError(
                f"optimizer_options.{name}",
                value,
                f"means nothing for {optimizer.name}",
                f"It reads {', '.join(optimizer.options) or 'no option'}.",
            )


def _check_dtype(compute: str, profile: DeviceProfile) -> None:
    if not profile.supports(compute):
        others = [d for d in ("bf16", "fp16", "tf32", "fp32") if profile.supports(d)]
        named = [n for n in ("fp16-mixed", "fp32") if PRECISIONS[n]["compute"] in others]
        raise PlanError(
            "precision.compute",
            compute,
            f"is not a matrix type of {profile.accelerator_name}",
            f"Use {' or '.join(named or others)}.",
        )


def _fused_mixers(arch: Architecture, attention: str, accelerator: Accelerator | None, notes: list[str]) -> bool:
    """Whether state-space and linear-attention layers run fused kernels: on a GPU, unless the run asks for eager attention."""
    packages = arch.mixer_kernels
    if not packages:
        return True
    fused = attention != "eager" and accelerator is not None
    what = f"Layers other than attention run the fused kernels of {packages}"
    if fused:
        notes.append(f"{what}, as users train them; attention: eager plans transformers' separate operators instead.")
    else:
        notes.append(f"{what} where those are installed; planned here are transformers' separate operators.")
    return fused


def _check_scaled(
    precision: Precision, scaled: Scaled, accelerator: Accelerator | None, profile: DeviceProfile
) -> None:
    """8- and 4-bit products need the hardware, and blocks of scales need the hardware that multiplies them."""
    compute = precision.compute
    if not profile.supports(scaled.recipe.product):
        raise PlanError(
            "precision.compute",
            compute,
            f"is not a matrix type of {profile.accelerator_name}",
            "Use bf16 or bf16-mixed.",
        )
    if accelerator is None or compute not in ("mxfp8", "nvfp4"):
        return
    capability = accelerator.compute_capability or 0.0
    if accelerator.vendor == "NVIDIA" and capability < 10.0:
        raise PlanError(
            "precision.compute", compute, f"needs Blackwell, {accelerator.name} has {capability}", "Use fp8."
        )


def _separate(arch: Architecture) -> bool:
    """Whether attention is separate operators in every stack: no kernel computes scores such as DeBERTa's."""
    return any(getattr(kind.mixer, "separate", False) for kind in arch.kinds)


def _attention(run: Run, arch: Architecture, accelerator: Accelerator | None, kinds: Formats, notes: list[str], own: bool = False) -> str:
    """Kernel of the attention core. own: the stack's model code calls torch's fused attention for every model but those that cap their scores."""
    if run.attention == "sdpa" and not arch.sdpa and own:
        if not arch.attention_softcap:
            return "flash"
        notes.append(f"Attention of {arch.model_type} is planned as separate operators: no fused kernel caps its scores.")
        return "eager"
    if run.attention is None:
        chosen = "sdpa" if run.stack.startswith("hf") else "flash"
        if (not arch.sdpa and chosen == "sdpa") or _separate(arch):
            notes.append(
                f"Attention of {arch.model_type} is planned as separate operators: "
                "transformers has no fused kernel for it, or which one runs is not known."
            )
            return "eager"
        return chosen
    if run.attention == "sdpa" and not arch.sdpa:
        raise PlanError(
            "attention", "sdpa", f"is not planned for {arch.model_type}", "Use eager or flash." if arch.flash else "Use eager."
        )
    if run.attention == "flash" and not arch.flash and (run.stack.startswith("hf") or _separate(arch)):
        raise PlanError(
            "attention", "flash", f"is not offered by transformers for {arch.model_type}", f"Use {'sdpa' if arch.sdpa else 'eager'}."
        )
    if run.attention == "eager" and not arch.eager:
        raise PlanError("attention", "eager", f"is not offered for {arch.model_type}", "Use sdpa or flash.")
    capability = accelerator.compute_capability if accelerator is not None else None
    if run.attention == "flash" and capability is not None and capability < 8.0:
        raise PlanError(
            "attention",
            "flash",
            f"needs compute capability 8.0, {accelerator.name if accelerator else ''} has {capability}",
            "Use sdpa.",
        )
    if run.attention == "flash" and kinds.graph == "fp32" and kinds.autocast is None:
        raise PlanError("attention", "flash", "needs half precision", "Use sdpa, or a bf16 or fp16 precision.")
    return run.attention


_LENGTHS = ("target_len", "images", "image_size", "audio_seconds")


def _batch(run: Run, arch: Architecture, virtual: int, notes: list[str]) -> Batch:
    """The batch with every length filled in by the stacks that read it."""
    fronts = [stack.front for stack in arch.stacks if stack.front is not None]
    read = {field for front in fronts for field in front.fields}
    texts = any(stack.front is None for stack in arch.stacks)
    for field in (*_LENGTHS, *(() if texts else ("seq_len",))):
        if getattr(run.batch, field) is not None and field not in read:
            raise PlanError(
                f"batch.{field}",
                getattr(run.batch, field),
                f"means nothing for {arch.model_type}",
                f"Leave it out; this model reads {', '.join(sorted(read | ({'seq_len'} if texts else set())))}.",
            )
    batch = run.batch
    if texts:
        batch = batch.model_copy(update={"seq_len": _sequence(run, arch, virtual, notes)})
    for front in fronts:
        batch = front.resolve(batch)
        if note := getattr(front, "note", ""):
            notes.append(note)
    if arch.merge is not None:
        arch.merge.check(batch)
    return batch


def _sequence(run: Run, arch: Architecture, virtual: int, notes: list[str]) -> int:
    """Tokens of the user in one sequence. virtual: positions that the method's own tokens take."""
    seq = run.batch.seq_len
    limit = None if arch.max_positions is None else arch.max_positions - virtual
    if limit is not None and limit < 1:
        raise PlanError(
            "method.virtual_tokens", virtual, f"fill all {arch.max_positions} positions of the model", "Use fewer."
        )
    if seq is None:
        return min(DEFAULT_SEQ, limit or DEFAULT_SEQ)
    beside = f" beside {virtual} virtual tokens" if virtual else ""
    if limit is not None and seq > limit:
        if arch.learned_positions:
            raise PlanError(
                "batch.seq_len",
                seq,
                f"is more than the {limit} learned positions of the model{beside}",
                f"Use at most {limit}.",
            )
        notes.append(
            f"{seq} tokens are more than the {limit} positions in the config{beside}: the rotary positions must be extended."
        )
    return seq


def _hardware(
    run: Run, accelerator: Accelerator | None, profile: DeviceProfile, notes: list[str]
) -> tuple[Any, Topology | None]:
    hardware = run.hardware
    if accelerator is None:
        if hardware.gpus > 1:
            raise PlanError(
                "hardware.gpus",
                hardware.gpus,
                f"of {profile.accelerator_name} have no known connection",
                "Use 1, or an accelerator of the catalog.",
            )
        return hardware.model_copy(update={"gpu": profile.accelerator_name, "gpus_per_node": 1}), None
    network = default_network(accelerator)
    per_node = hardware.gpus_per_node or _machine(network.link_domain, hardware.gpus)
    if hardware.gpus > per_node and hardware.gpus % per_node:
        raise PlanError(
            "hardware.gpus",
            hardware.gpus,
            f"does not fill machines of {per_node}",
            f"Use a multiple of {per_node}, or another gpus_per_node.",
        )
    if hardware.machines_per_leaf is not None and hardware.oversubscription == 1:
        raise PlanError(
            "hardware.machines_per_leaf", hardware.machines_per_leaf, "means nothing in a full fat tree", "Give oversubscription beside it."
        )
    gbps = hardware.network_gbps
    inter = gbps * 1e9 / 8 if gbps else network.inter_bandwidth
    if inter is not None and hardware.gpus_per_node is None:
        inter *= max(1.0, per_node / network.gpus_per_node)  # trays of a rack each bring their own network
    if hardware.gpus > per_node and inter is None:
        raise PlanError(
            "hardware.network_gbps",
            gbps,
            f"is needed: no typical network is known for {accelerator.name}",
            "Give the bandwidth of one machine in Gb/s.",
        )
    filled = hardware.model_copy(
        update={
            "gpu": hardware.gpu or accelerator.name,
            "gpus_per_node": per_node,
            "network_gbps": inter * 8 / 1e9 if inter else None,
            "network": _network_kind(hardware, network, inter) if hardware.gpus > per_node else hardware.network,
        }
    )
    if hardware.gpus == 1:
        return filled, None
    intra = network.intra_bandwidth or network.host_bandwidth
    if intra is None and per_node > 1:
        raise PlanError(
            "hardware.gpu",
            accelerator.name,
            "has no known link between the accelerators of a machine",
            "Use gpus_per_node: 1.",
        )
    topology = Topology(
        gpus_per_node=per_node,
        intra_bandwidth=intra or 1.0,
        intra_kind=network.intra_kind if per_node > 1 else "none",
        inter_bandwidth=inter,
        inter_kind=_network_kind(hardware, network, inter),
        oversubscription=hardware.oversubscription,
        machines_per_leaf=hardware.machines_per_leaf or 1,
        measured=tuple(profile.measured.collectives.items()) if profile.measured is not None else (),
    )
    if hardware.gpus > 1:
        notes.append(_connection(filled, network))
    return filled, topology


LARGEST_BOX = 8
"""More accelerators than these in one fast domain are a rack, of which jobs take an even part."""


def _machine(largest: int, gpus: int) -> int:
    """Accelerators of one fast domain that a job uses: all of them, or of a rack the most that divide the job evenly."""
    if largest <= LARGEST_BOX or gpus <= largest:
        return min(largest, gpus)
    return next(size for size in range(largest, 0, -1) if gpus % size == 0)


def _network_kind(hardware: Hardware, network: Network, inter: float | None) -> NetworkKind:
    """Kind of the network between machines: said by the run, typical for the accelerator, or guessed from its rate."""
    if hardware.network is not None:
        return hardware.network
    return cast(NetworkKind, network.inter_kind or ("ethernet" if (inter or 0) < 12.5e9 else "infiniband"))


def _connection(hardware: Hardware, network: Network) -> str:
    """How the accelerators are taken to be connected, in a sentence."""
    words = f"Machines of {hardware.gpus_per_node} accelerators over {network.intra_kind}"
    if hardware.gpus > (hardware.gpus_per_node or 1):
        words += f", {hardware.network_gbps:.0f} Gb/s {hardware.network} between them"
    return f"{words}: the catalog's typical machine where the run does not say otherwise."
