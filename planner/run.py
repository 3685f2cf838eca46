"""What you want to do: one training run, validated. No hardware facts, no formulas.

Every field has a description (help text of page, CLI and docs) and every validation error names the field and what to write instead. `Run` is what
the user wrote; defaults that depend on the model or the accelerator stay None here and are resolved by `planner.estimate.resolve`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from planner import words
from planner.errors import PlanError, shorten
from planner.method import Method as Method
from planner.parts import NonNegative, Part, Positive
from planner.units import parse_count
from planner.whole_run import Currency as Currency
from planner.whole_run import Owned as Owned
from planner.whole_run import WholeRun as WholeRun

MAX_RUN_FILE_BYTES = 2 * 2**20

Count = Annotated[int, Field(ge=1, le=10**7, strict=True)]
DtypeName = Literal["fp32", "tf32", "bf16", "fp16", "fp8", "mxfp8", "nvfp4"]
WeightDtype = Literal["fp32", "bf16", "fp16", "fp8", "int8", "int4", "awq", "nf4", "nf4-dq"]
HeadName = Literal[
    "causal-lm",
    "masked-lm",
    "sequence-classification",
    "image-classification",
    "object-detection",
    "contrastive",
    "ctc",
    "audio-classification",
    "denoising",
    "none",
]
NetworkKind = Literal["infiniband", "roce", "slingshot", "efa", "efa-shared", "ethernet", "omnipath"]
ContextKind = Literal["ring", "all-gather", "ulysses"]
Schedule = Literal["gpipe", "1f1b", "interleaved", "zero-bubble", "zbv", "dualpipev"]
Sharding = Literal["none", "ddp", "zero1", "zero2", "zero3", "hsdp"]

_SHARDING_NAMES = {
    **dict.fromkeys(("fsdp", "fsdp1", "fsdp2", "full_shard"), "zero3"),
    "shard_grad_op": "zero2", "hybrid_shard": "hsdp", "no_shard": "ddp",
    **dict.fromkeys(("distributed_optimizer", "use_distributed_optimizer"), "zero1"),
}  # fmt: skip
"""Names of torch's, accelerate's and Megatron's settings for the same division of states."""

PRECISIONS: dict[str, dict[str, Any]] = {
    "fp32": {"weights": "fp32", "compute": "fp32"},
    "tf32": {"weights": "fp32", "compute": "tf32"},
    "fp16-mixed": {"weights": "fp32", "compute": "fp16", "autocast": True},
    "bf16-mixed": {"weights": "fp32", "compute": "bf16", "autocast": True},
    "bf16": {"weights": "bf16", "compute": "bf16"},
    "fp16": {"weights": "fp16", "compute": "fp16"},
    "fp8": {"weights": "bf16", "compute": "fp8"},
    "fp8-mixed": {"weights": "fp32", "compute": "fp8", "autocast": True},
    "fp8-block": {"weights": "bf16", "compute": "fp8", "recipe": "block"},
    "mxfp8": {"weights": "bf16", "compute": "mxfp8"},
    "nvfp4": {"weights": "bf16", "compute": "nvfp4"},
    **{base: {"weights": base, "compute": "bf16"} for base in ("nf4", "nf4-dq", "int8", "int4", "awq")},
    "gptq": {"weights": "int4", "compute": "bf16"},
}
"""Precision by name: the storage of the weights, the type of the matrix products, and whether torch autocast casts between the two."""


class Precision(Part):
    """Storage type of the weights and type of the matrix products."""

    weights: WeightDtype = Field("bf16", description="How the (frozen or trained) weights are stored; int4 is GPTQ.")
    compute: DtypeName = Field("bf16", description="Type of the matrix products.")
    recipe: Literal["delayed", "current", "row", "block"] | None = Field(
        None,
        description="Scales of fp8 products: per tensor from earlier steps (delayed) or its own (current), per row, per block; the stack's own when left out.",
    )
    autocast: bool = Field(False, description="torch autocast casts inputs of matrix products on the fly.")
    master_weights: bool = Field(
        False, description="An fp32 copy of the trained weights lives beside lower-precision ones."
    )
    unquantized: Literal["fp32"] | None = Field(
        None,
        description="fp32: norms, embeddings and head of a quantized base are stored in fp32, as peft's prepare_model_for_kbit_training leaves them; "
        "the compute type's when left out.",
    )


class Group(Part):
    """Accelerators of one kind in a mixed fleet."""

    gpu: str | dict[str, Any] = Field(description="Accelerator: a catalog name, or {base: NAME, …edited fields}.")
    gpus: Count = Field(description="Accelerators of this kind.")


class Hardware(Part):
    """Which accelerators, how many, how connected."""

    gpu: str | dict[str, Any] | None = Field(
        None, description="Accelerator: a catalog name, or {base: NAME, …edited fields}."
    )
    gpus: Count = Field(1, description="Accelerators in all.")
    groups: tuple[Group, ...] | None = Field(
        None,
        description="A mixed fleet, [{gpu: …, gpus: …}, …]: pipeline stages are placed on the groups in this order. In place of gpu and gpus.",
    )
    gpus_per_node: Count | None = Field(
        None, description="Accelerators in one machine; the catalog's typical number when left out."
    )
    network: NetworkKind | None = Field(
        None, description="Kind of network between machines; the catalog's typical one when left out. efa-shared: a busy shared cluster."
    )
    network_gbps: Positive | None = Field(
        None, description="Network bandwidth of one machine [Gb/s]; the catalog's typical figure when left out."
    )
    oversubscription: Annotated[float, Field(ge=1, le=100)] = Field(
        1.0, description="Bandwidth below a leaf switch of the network over that of its uplinks; 1 is a full fat tree."
    )
    machines_per_leaf: Count | None = Field(
        None, description="Machines that reach each other without uplinks: a rack's, or of rails those on one rail switch. 1 when left out."
    )
    host_memory_gib: Positive | None = Field(
        None, description="Host memory of one machine [GiB]: offloaded states are compared with it when given."
    )
    host_memory_gb_per_s: Positive | None = Field(
        None, description="Bandwidth of one machine's memory [GB/s]; a typical server's when left out (offload only)."
    )


    @property
    def machines(self) -> int:
        """Machines that hold the accelerators; a resolved run says how many are in one."""
        return -(-self.gpus // (self.gpus_per_node or 1))

    @field_validator("groups", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="before")
    @classmethod
    def _counts_groups(cls, data: Any) -> Any:
        groups = data.get("groups") if isinstance(data, dict) else None
        counts = [g.get("gpus") if isinstance(g, dict) else getattr(g, "gpus", None) for g in groups] if isinstance(groups, list | tuple) else []
        if not counts or not all(isinstance(n, int) for n in counts):
            return data
        total = sum(n for n in counts if n)
        if data.get("gpus") not in (None, 1, total):
            raise PlanError("hardware.gpus", data["gpus"], f"is not the {total} accelerators of the groups", "Leave it out.")
        return {**data, "gpus": total}


class Parallel(Part):
    """How the work is divided. The data-parallel degree follows: gpus / (tp · pp · cp)."""

    tp: Count = Field(1, description="Tensor parallel degree.")
    pp: Count = Field(1, description="Pipeline parallel degree.")
    cp: Count = Field(1, description="Context parallel degree.")
    ep: Count = Field(1, description="Expert parallel degree (inside data parallel).")
    cp_kind: ContextKind | None = Field(
        None, description="How attention sees whole sequences under context parallel; what the stack does when left out."
    )
    expert_capacity: Annotated[float, Field(ge=0.1, le=100)] | None = Field(
        None, description="Capacity factor: rows of every expert over the mean, padded or dropped; all tokens as they come when left out."
    )
    expert_imbalance: Annotated[float, Field(ge=1, le=1000)] = Field(
        1.0, description="Rows of the busiest expert-parallel rank over the mean; 1 is balanced."
    )
    virtual_pp: Count = Field(1, description="Model chunks per pipeline stage.")
    schedule: Schedule | None = Field(
        None,
        description="Pipeline schedule; 1f1b, or interleaved with several chunks, when left out. zero-bubble is ZB-H1.",
    )
    stages: tuple[Annotated[int, Field(ge=0, le=10**5, strict=True)], ...] | None = Field(
        None,
        description="Layers of each pipeline stage, in order (with chunks: of each chunk, in the order of the model); as equal as can be when left out.",
    )
    sharding: Sharding | None = Field(
        None, description="How data-parallel ranks share states: none, ddp, zero1, zero2, zero3 (FSDP), hsdp."
    )
    sequence_parallel: bool = Field(
        False, description="Split activations outside the tensor-parallel region along the sequence."
    )

    @field_validator("stages", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("sharding", mode="before")
    @classmethod
    def _alias(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        name = value.strip().lower()
        return _SHARDING_NAMES.get(name.replace("-", "_").replace(" ", "_"), name)


class Batch(Part):
    """Samples in a step."""

    micro: Annotated[int, Field(ge=1, le=10**6, strict=True)] = Field(
        1, description="Sequences per data-parallel rank and micro step."
    )
    accumulation: Annotated[int, Field(ge=1, le=10**6, strict=True)] = Field(
        1, description="Micro steps per optimizer step."
    )
    seq_len: Annotated[int, Field(ge=1, le=10**8, strict=True)] | None = Field(
        None, description="Tokens per sequence; up to 2048 when left out. Encoder-decoders: of the source."
    )
    target_len: Annotated[int, Field(ge=1, le=10**8, strict=True)] | None = Field(
        None, description="Encoder-decoders: tokens of the target; the source's number when left out."
    )
    images: Annotated[int, Field(ge=0, le=10**4, strict=True)] | None = Field(
        None, description="Vision-language models: images per sequence; 1 when left out."
    )
    image_size: Annotated[int, Field(ge=1, le=10**5, strict=True)] | None = Field(
        None, description="Height and width of an image [pixel]; the config's when left out."
    )
    audio_seconds: Positive | None = Field(
        None, description="Speech models: length of a recording [s]; the model's window, or 10 s, when left out."
    )


class Data(Part):
    """How much is trained on: tokens, or samples × mean_tokens, times epochs."""

    tokens: Annotated[int, Field(ge=1, le=10**18)] | None = Field(
        None, description='Training tokens ("1.5B", "250M"), of one epoch.'
    )
    samples: Annotated[int, Field(ge=1, le=10**15)] | None = Field(None, description="Training samples of one epoch.")
    mean_tokens: Positive | None = Field(
        None, description="Mean tokens in a sample; the sequence length when left out."
    )
    std_tokens: Positive | None = Field(
        None, description="Standard deviation of the tokens in a sample; with the mean it makes a log-normal."
    )
    lengths: dict[str, Positive] | None = Field(
        None,
        description="How long samples are: a histogram {256: 0.5, 512: 0.3, …} of tokens and weights, or percentiles {p50: 300, p90: 900, p100: 2048}.",
    )
    packing: Literal["packed", "best-fit", "padded", "bucketed", "fixed"] = Field(
        "packed",
        description="Samples are joined and cut into whole sequences (packed), packed uncut (best-fit), padded to the longest of their batch (padded), "
        "sorted by length first (bucketed), or padded to seq_len (fixed). But for packed, what lies beyond seq_len is cut off.",
    )
    epochs: Positive = Field(1.0, description="Passes over the data.")

    @field_validator("tokens", "samples", mode="before")
    @classmethod
    def _words(cls, value: Any, info: Any) -> Any:
        return parse_count(value, field=f"data.{info.field_name}") if isinstance(value, str) else value

    @field_validator("lengths", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return {str(key): item for key, item in value.items()} if isinstance(value, dict) else value

    @property
    def spread(self) -> bool:
        """Whether the run says how lengths spread."""
        return self.lengths is not None or (self.mean_tokens is not None and self.std_tokens is not None)

    @property
    def histogram(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """(lengths [token] ascending, weights), None where lengths are percentiles or left out."""
        if not self.lengths or any(key.lower().startswith("p") for key in self.lengths):
            return None
        pairs = sorted((float(key), weight) for key, weight in self.lengths.items())
        return tuple(length for length, _ in pairs), tuple(weight for _, weight in pairs)

    @property
    def percentiles(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """(probabilities ascending, lengths [token]), None where lengths are a histogram or left out."""
        if not self.lengths or not all(key.lower().startswith("p") for key in self.lengths):
            return None
        pairs = sorted((float(key[1:]) / 100, length) for key, length in self.lengths.items())
        return tuple(p for p, _ in pairs), tuple(length for _, length in pairs)

    @model_validator(mode="after")
    def _spread_is_one(self) -> Data:
        if self.lengths is None:
            if self.std_tokens is not None and self.mean_tokens is None:
                raise PlanError("data.std_tokens", self.std_tokens, "needs a mean", "Give mean_tokens beside it.")
            return self
        if self.mean_tokens is not None or self.std_tokens is not None:
            raise PlanError("data.lengths", "", "stand beside mean_tokens or std_tokens", "Give only one of both.")
        keys = [key.lower().removeprefix("p") for key in self.lengths]
        kinds = {key.lower().startswith("p") for key in self.lengths}
        if not keys or len(kinds) > 1 or not all(key.replace(".", "", 1).isdigit() and float(key) > 0 for key in keys):
            raise PlanError(
                "data.lengths",
                shorten(", ".join(self.lengths)),
                "are neither lengths nor percentiles",
                "Write {256: 0.5, 512: 0.5} (tokens: weight) or {p50: 300, p90: 900} (percentile: tokens).",
            )
        if kinds == {True}:
            probabilities, lengths = self.percentiles or ((), ())
            if probabilities[-1] > 1 or list(lengths) != sorted(lengths):
                raise PlanError(
                    "data.lengths",
                    shorten(", ".join(self.lengths)),
                    "are no rising percentiles",
                    "Percentiles lie between p0 and p100, and their lengths do not fall.",
                )
        return self

    @model_validator(mode="after")
    def _one_measure(self) -> Data:
        if (self.tokens is None) == (self.samples is None):
            raise ValueError("give exactly one of tokens and samples, for example tokens: 1.5B or samples: 50000")
        return self


class Checkpoints(Part):
    """Which blocks are recomputed, and what of them is kept all the same."""

    every: Annotated[int, Field(ge=1, le=1000, strict=True)] = Field(
        1, description="One block in this many is checkpointed: 2 is every second one."
    )
    keep: tuple[Literal["attention", "matmul", "norm", "elementwise"], ...] | None = Field(
        None, description="Kinds of operations in a checkpointed block whose results are kept instead of recomputed."
    )

    @field_validator("keep", mode="before")
    @classmethod
    def _lists(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


Share = Annotated[float, Field(ge=0, lt=1)]


class Compression(Part):
    """What is taken out of the model before it is trained."""

    pruned: Share = Field(0.0, description="Share of attention heads and of the MLP's width removed in every layer.")
    heads: Share | None = Field(None, description="Share of attention heads removed, where it is another.")
    ffn: Share | None = Field(None, description="Share of the MLP's width removed, where it is another.")
    sparsity: Literal["2:4"] | None = Field(
        None, description="Two of four neighbours of every linear weight are zero: packed storage, sparse tensor cores."
    )


class OptimizerOptions(Part):
    """Numbers that a few optimizers ask for; each says which it reads."""

    rank: Annotated[int, Field(ge=1, le=65536, strict=True)] | None = Field(
        None, description="Rank of the gradient's projection (apollo, galore); the implementation's default when left out."
    )
    every: Annotated[int, Field(ge=1, le=10**6, strict=True)] | None = Field(
        None,
        description="Steps between renewals of the preconditioner, the projection or the curvature (shampoo, soap, galore, sophia).",
    )


class PriceChoice(Part):
    """What a GPU-hour costs."""

    usd_per_gpu_hour: NonNegative | None = Field(
        None, description="Your own price [USD per GPU-hour]; the dated catalog when left out."
    )
    provider: str | None = Field(None, max_length=64, description="Provider in the price catalog.")
    spot: bool = Field(False, description="Interruptible capacity.")
    reserved_days: Positive | None = Field(
        None, description="Days for which the accelerators are reserved and paid, used or not; only the run's own time when left out."
    )
    own: Owned = Field(default_factory=lambda: Owned(), description="Hardware of your own in place of rented GPU-hours.")
    storage_tb: NonNegative | None = Field(None, description="Data and checkpoints kept during the run [TB].")
    usd_per_tb_month: NonNegative | None = Field(None, description="Price of storage [USD per TB and month].")
    egress_tb: NonNegative | None = Field(None, description="Data taken out of the provider's network [TB].")
    usd_per_tb_egress: NonNegative | None = Field(None, description="Price of egress [USD per TB].")
    currency: Currency = Field(default_factory=lambda: Currency(), description="The money that is shown beside USD.")

    @field_validator("currency", mode="before")
    @classmethod
    def _by_code(cls, value: Any) -> Any:
        return {"code": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _adds_up(self) -> PriceChoice:
        for amount, price in (("storage_tb", "usd_per_tb_month"), ("egress_tb", "usd_per_tb_egress")):
            for given, missing in ((amount, price), (price, amount)):
                if getattr(self, given) is not None and getattr(self, missing) is None:
                    raise PlanError(f"price.{given}", getattr(self, given), f"needs {missing}", f"Give {missing} beside it, or leave it out.")
        if self.own.purchase_usd is not None:
            rented = next((n for n in ("usd_per_gpu_hour", "provider", "spot", "reserved_days") if getattr(self, n)), None)
            if rented is not None:
                raise PlanError(
                    f"price.{rented}", getattr(self, rented), "is of rented hardware, and price.own.purchase_usd of your own", "Give one of both."
                )
        if self.spot and self.reserved_days is not None:
            raise PlanError("price.reserved_days", self.reserved_days, "contradicts price.spot: spot capacity is not reserved", "Give one of both.")
        return self


class Energy(Part):
    """Where the electricity comes from."""

    pue: Annotated[float, Field(ge=1, le=5)] | None = Field(
        None, description="Power usage effectiveness of the data centre; a named default when left out."
    )
    country: str | None = Field(
        None, max_length=64, description="Country (ISO 3166 alpha-3) of the grid; world average when left out."
    )
    kg_co2e_per_kwh: Annotated[float, Field(ge=0, le=5)] | None = Field(
        None, description="Your own grid intensity [kg CO2e/kWh]."
    )


class Run(Part):
    """One training run as the user states it."""

    task: Literal["pretrain", "sft"] = Field("sft", description="Pretraining or fine-tuning.")
    model: str | dict[str, Any] = Field(
        description="Catalog name or Hugging Face id, a path to a config.json, or the config itself."
    )
    head: HeadName | None = Field(
        None, description="Output head; language models predict tokens, encoders classify when left out."
    )
    method: Method = Field(default_factory=lambda: Method(name="full"), description="Which parameters are trained.")
    precision: Precision | None = Field(
        None, description="Number formats: a name (bf16-mixed, fp32, …) or the four fields."
    )
    optimizer: str = Field(
        "adamw",
        max_length=64,
        description="Optimizer: adamw, adamw8bit, muon, …; `planner doctor --methods` lists all with what they keep.",
    )
    optimizer_options: OptimizerOptions = Field(
        default_factory=lambda: OptimizerOptions(), description="Numbers that a few optimizers ask for."
    )
    stack: str = Field(
        "hf", max_length=64, description="Training software: it decides what is fused, kept, cast and overlapped."
    )
    hardware: Hardware = Field(default_factory=lambda: Hardware(), description="Accelerators and their connections.")
    parallel: Parallel = Field(default_factory=lambda: Parallel(), description="How the work is divided.")
    batch: Batch = Field(default_factory=lambda: Batch(), description="Samples in a step.")
    activation_checkpointing: Literal["none", "selective", "full"] = Field(
        "none", description="Recompute activations in backward to save memory; a mapping {every: 2, keep: […]} is full with these."
    )
    checkpoints: Checkpoints = Field(
        default_factory=lambda: Checkpoints(), description="Which blocks are checkpointed, and what of them is kept."
    )
    attention: Literal["eager", "sdpa", "flash"] | None = Field(
        None, description="Attention kernel: eager keeps the score matrix, sdpa and flash do not."
    )
    offload: Literal["none", "optimizer", "params", "optimizer+params", "activations"] = Field(
        "none",
        description="What lives in host memory: optimizer states, weights, both, or what is saved for backward.",
    )
    compression: Compression = Field(
        default_factory=lambda: Compression(), description="Pruned sizes or 2:4 sparse weights."
    )
    data: Data | None = Field(
        None, description="How much is trained on; without it there is no total time and no cost."
    )
    price: PriceChoice = Field(default_factory=lambda: PriceChoice(), description="What a GPU-hour costs.")
    energy: Energy = Field(default_factory=lambda: Energy(), description="Electricity and its carbon.")
    whole_run: WholeRun = Field(
        default_factory=lambda: WholeRun(), description="What the run takes beside its steps: start-up, evaluation, checkpoints, failures."
    )

    @model_validator(mode="before")
    @classmethod
    def _checkpoints_as_mapping(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(given := data.get("activation_checkpointing"), dict):
            rest = {key: value for key, value in given.items() if key != "mode"}
            return {**data, "activation_checkpointing": given.get("mode", "full"), "checkpoints": rest}
        return data

    @model_validator(mode="after")
    def _checkpoints_are_used(self) -> Run:
        for name in ("every", "keep"):
            value = getattr(self.checkpoints, name)
            if value not in (1, None) and self.activation_checkpointing != "full":
                raise PlanError(
                    f"checkpoints.{name}",
                    value,
                    f"means nothing with activation_checkpointing: {self.activation_checkpointing}",
                    "Use activation_checkpointing: full.",
                )
        return self

    @field_validator("method", mode="before")
    @classmethod
    def _method_by_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("optimizer", mode="before")
    @classmethod
    def _optimizer_by_name(cls, value: Any) -> Any:
        return words.optimizer(value) if isinstance(value, str) else value

    @field_validator("precision", mode="before")
    @classmethod
    def _precision_by_name(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value.lower() not in PRECISIONS:
            raise ValueError(f"unknown precision {shorten(value)!r}; {words.nearest(value, PRECISIONS).lower()}use one of {', '.join(PRECISIONS)}")
        return PRECISIONS[value.lower()]

    @field_validator("hardware", mode="before")
    @classmethod
    def _hardware_by_name(cls, value: Any) -> Any:
        return {"gpu": value} if isinstance(value, str) else value

    @field_validator("data", mode="before")
    @classmethod
    def _data_by_tokens(cls, value: Any) -> Any:
        return {"tokens": value} if isinstance(value, str | int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _divides(self) -> Run:
        p, gpus = self.parallel, self.hardware.gpus
        model_parallel = p.tp * p.pp * p.cp
        if gpus % model_parallel:
            degree = next(name for name in ("tp", "pp", "cp") if getattr(p, name) > 1)
            raise PlanError(
                f"parallel.{degree}",
                getattr(p, degree),
                f"makes tp × pp × cp = {model_parallel}, which does not divide hardware.gpus = {gpus}",
                f"Use a multiple of {model_parallel} GPUs, or smaller degrees.",
            )
        return self

    @property
    def dp(self) -> int:
        """Data-parallel degree."""
        return self.hardware.gpus // (self.parallel.tp * self.parallel.pp * self.parallel.cp)


def describe(error: ValidationError) -> PlanError:
    """The first problem of a pydantic error as one line that names field, value and fix."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "run"
    message = first["msg"].removeprefix("Value error, ")
    if isinstance(cause := first.get("ctx", {}).get("error"), PlanError):
        return cause
    if first["type"] == "extra_forbidden":
        near = words.nearest_field(first["loc"], Run)
        fix = f"Did you mean {near}?" if near else "Remove it or correct its name;"
        return PlanError(field, first["input"], "is not a field of a run", f"{fix} `python -m planner doctor --fields` lists all.")
    if first["type"] == "missing":
        return PlanError(field, "", "is missing", f"Add {field}.")
    shown = "" if isinstance(first["input"], dict | BaseModel) else first["input"]
    return PlanError(
        field, shown, "is not possible", message[:1].upper() + message[1:] + ("" if message.endswith(".") else ".")
    )


def parse_run(mapping: Any) -> Run:
    """`Run` from a mapping; raises `PlanError` with one line instead of pydantic's report."""
    if not isinstance(mapping, dict):
        raise PlanError(
            "run",
            type(mapping).__name__,
            "is not a mapping of fields",
            "Write `model: gpt2` and what else you know, one field a line.",
        )
    try:
        return Run.model_validate(mapping)
    except ValidationError as error:
        raise describe(error) from None


def load_run(path: str | Path) -> Run:
    """Read a run file, YAML or JSON. A relative `model` path is taken from the run file's folder. Raises `PlanError`."""
    import yaml

    file = Path(path)
    try:
        if file.stat().st_size > MAX_RUN_FILE_BYTES:
            raise PlanError(
                "run", file, "is larger than 2 MiB", "A run file is a few lines of YAML or JSON; check the path."
            )
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(
            "run", file, f"cannot be read ({type(error).__name__})", "Give the path of a YAML or JSON run file."
        ) from None
    try:
        mapping = json.loads(text) if file.suffix == ".json" else yaml.load(text, Loader=plain_loader())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise PlanError(
            "run", file, f"is not valid YAML or JSON ({shorten(error, 160)})", "Correct the file's syntax."
        ) from None
    if isinstance(mapping, dict) and isinstance(mapping.get("model"), str) and mapping["model"].endswith(".json"):
        beside = file.parent / mapping["model"]
        if beside.is_file():
            mapping = {**mapping, "model": str(beside)}
    return parse_run(mapping)


def plain_loader() -> Any:
    """YAML's safe loader without aliases: a few nested anchors can otherwise expand to gigabytes."""
    import yaml

    class PlainLoader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise yaml.YAMLError("anchors and aliases are not allowed")
            return super().compose_node(parent, index)

    return PlainLoader
