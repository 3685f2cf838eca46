"""Figures as terms: name, value, unit, formula, inputs, source. Totals are sums of terms, and every view reads the same ones."""

from __future__ import annotations

from planner.estimate.constants import by_stack, constant, source
from planner.estimate.memory import COMPONENTS, Moment
from planner.estimate.money import Power
from planner.estimate.resolve import Resolved
from planner.estimate.result import Term, Unit
from planner.estimate.time import StepTime
from planner.workload import Workload
from planner.workload.trace import Stretch

_STEP_FORMULAS = {
    "matmul": ("sum over products of t(m, n, k)", "device curve of matrix products"),
    "attention": ("sum over layers of t(b, a, s, d)", "device curve of fused attention, or of its separate products"),
    "norm": ("sum of bytes / (f_reduction B) + t_launch", "device curve of memory-bound kernels"),
    "elementwise": ("sum of bytes / (f_elementwise B) + t_launch", "device curve of memory-bound kernels"),
    "loss": ("sum of bytes / (f B) + t_launch", "device curve of memory-bound kernels"),
    "embedding": ("sum of bytes / (f B) + t_launch", "device curve of memory-bound kernels"),
    "dequantize": (
        "sum of bytes / (f B) + t_launch",
        "device curve of memory-bound kernels; Dettmers et al. 2023, arXiv:2305.14314",
    ),
    "launch": (
        "sum over blocks of max(0, kernels · t_dispatch − t_GPU)",
        "processor time per operator of the profile and the stack",
    ),
    "update": ("max(bytes / (f B), kernels · t_dispatch)", "bytes and kernels of the optimizer's implementation"),
    "host_update": ("28 · N_trained / (f B_host)", "bandwidth of host memory (assumed server, or as given)"),
    "host_link": (
        "sum of max(0, bytes / (f B_link) − t_compute beside it)",
        "link to the host of the catalog; share of it that copies reach is assumed",
    ),
    "product": (
        "sum of t(m, n, k) + columns · kernels · t_launch of factorisations",
        "device curve of matrix products; factorisations as chains of small kernels (not measured)",
    ),
    "curvature": ("t_model / every", "one more forward and backward of a micro step"),
    "clip": ("3 · gradient bytes / (f B)", "torch.nn.utils.clip_grad_norm_"),
    "exposed": ("sum of max(0, t_collective − t_compute beside it)", "collective curves by message size and group"),
    "slowdown": ("x · min(t_collective, t_compute)", "share of compute lost beside a collective"),
    "tensor": (
        "sum over layers of t_collective",
        "collective curves by message size and group; Shoeybi et al. 2019, sec. 3",
    ),
    "expert": ("sum over layers of t_all_to_all", "collective curves by message size and group"),
    "context": (
        "sum over layers of t_collective that attention waits for",
        "collective curves by message size and group; Llama 3, sec. 3.3.2; Jacobs et al. 2023",
    ),
    "bubble": ("t_schedule − m · (t_forward + t_backward) of the busiest stage", "the schedule, simulated"),
    "loop": ("constant", "training loop between steps"),
}


def term(name: str, value: float, unit: Unit, formula: str, inputs: dict[str, float | int | str], origin: str) -> Term:
    """One line of the ledger. origin: where formula or figure come from."""
    return Term.model_construct(name=name, value=float(value), unit=unit, formula=formula, inputs=inputs, source=origin)


def parameter_terms(w: Workload) -> list[Term]:
    """`parameters/<component>`: sums to the model's parameters, adapters included."""
    counts: dict[str, float] = {}
    for stretch in w.stretches:
        for p in stretch.parameters:
            if p.buffer:
                continue
            component = group_of(stretch, p.adapter)
            counts[component] = counts.get(component, 0.0) + p.numel * stretch.count
    arch = w.setting.arch
    inputs: dict[str, float | int | str] = {
        "L": arch.layers,
        "h": arch.hidden,
        "a": arch.heads,
        "a_kv": arch.kv_heads,
        "d": arch.head_dim,
        "f": arch.ffn,
        "V": arch.vocab,
    }
    formulas = {
        "blocks": "L · (attention + MLP + norms)",
        "embedding": "V · h (+ positions, segments)",
        "head": "V · h unless tied, + final norm",
        "adapters": w.setting.adaptation.formula,
    }
    tower, origin = "sum over the modules of this tower", f"modules of {arch.model_type} in transformers 5.24"
    return [term(f"parameters/{k}", v, "1", formulas.get(k, tower), inputs, origin) for k, v in counts.items()]


def memory_terms(r: Resolved, w: Workload, peak: Moment, parts: dict[str, float]) -> list[Term]:
    """`memory/<component>/…`: what is alive at the peak; sums to the allocated peak."""
    s = w.setting
    place = f"live at the peak: {peak.phase}, {peak.place}"
    inputs: dict[str, float | int | str] = {
        "b": s.batch,
        "s": s.seq,
        "h": s.arch.hidden,
        "L": s.arch.layers,
        "V": s.arch.vocab,
        "dp": r.run.dp,
    }
    formulas = {
        "weights": "N · bytes",
        "gradients": "N_trained · bytes",
        "optimizer": "N_trained · bytes of state",
        "workspace": "per handle",
        "communication": "gathered weights, buckets",
    }
    terms: list[Term] = []
    for index, component in enumerate(COMPONENTS):
        value = peak.parts[index]
        for name, size in parts.items():
            if name.split("/")[0] == component:
                terms.append(
                    term(
                        f"memory/{name}",
                        size,
                        "B",
                        formulas[component],
                        _state_inputs(r, w, name, size, inputs),
                        _source_of(r, name),
                    )
                )
                value -= size
        if abs(value) >= 1:
            label, formula = {
                "gradients": ("of_this_step", formulas["gradients"]),
                "optimizer": ("temporaries", "scratch of the optimizer step"),
                "communication": ("in_flight", "weights gathered for a block and the next, gradients being reduced"),
                "workspace": ("running_operation", "scratch of the running kernel"),
            }.get(component, ("live", "sum of tensors kept for backward and of the running block"))
            terms.append(term(f"memory/{component}/{label}", value, "B", formula, inputs, place))
    return terms


def _state_inputs(
    r: Resolved, w: Workload, name: str, size: float, inputs: dict[str, float | int | str]
) -> dict[str, float | int | str]:
    """Symbols of a persistent state: how many parameters it belongs to, and its bytes per parameter on this rank."""
    component, _, group = name.partition("/")
    if component not in ("weights", "gradients", "optimizer"):
        return inputs
    if component == "weights" and group != "working_copy":
        count = sum(p.numel * s.count for s in w.stretches for p in s.parameters if group_of(s, p.adapter) == group)
    else:
        count = w.parameter_count(trainable=component != "weights")
    symbol = "N" if component == "weights" else "N_trained"
    return {
        symbol: count,
        "bytes": size / count if count else 0.0,
        "sharding": f"{r.run.parallel.sharding} over {r.run.dp}",
    }


def group_of(stretch: Stretch, adapter: bool) -> str:
    """Part of the model that a parameter belongs to, as the ledger names it: a tower by its name."""
    if adapter:
        return "adapters"
    return stretch.tower or {"embedding": "embedding", "block": "blocks", "head": "head"}[stretch.name]


def _source_of(r: Resolved, name: str) -> str:
    if name.startswith("optimizer/"):
        return "fp32 master copy" if name.endswith("master_weights") else r.optimizer.reference
    if name.startswith("workspace/"):
        return source("cublas_workspace_bytes")
    if name.startswith("communication/"):
        return f"{r.stack.label}: gradient buckets ({r.stack.reference})"
    return f"parameters of the model; {r.run.parallel.sharding} over {r.run.dp} ranks (Rajbhandari et al. 2020, arXiv:1910.02054)"


def host_terms(parts: dict[str, float], ranks: int) -> list[Term]:
    """`host/…`: what one rank keeps in host memory."""
    inputs: dict[str, float | int | str] = {"ranks on a machine": ranks}
    origin = "Ren et al. 2021, arXiv:2101.06840; Rajbhandari et al. 2021, arXiv:2104.07857; paged states: bitsandbytes"
    return [term(f"host/{name}", size, "B", "N · bytes of one rank", inputs, origin) for name, size in parts.items()]


def reserved_terms(allocated: float, reserved: float, context: float, stack: str) -> list[Term]:
    """`reserved/…`: what the allocator holds beyond live tensors. The context of the driver stands apart: it lowers the usable memory."""
    slack = by_stack("reserved_slack", stack)
    return [
        term(
            "reserved/allocator",
            reserved - allocated,
            "B",
            "ceil(M · (1 + slack) / segment) · segment − M",
            {"M": allocated, "slack": slack, "segment": 2 * 2**20},
            source("reserved_slack"),
        ),
        term("context/driver", context, "B", "constant", {}, source("cuda_context_bytes")),
    ]


def flop_terms(r: Resolved, w: Workload, flops: dict[tuple[str, str], float]) -> list[Term]:
    """`flops/<phase>/<kind>` of all ranks; matrix products 2·m·n·k, attention over the whole square."""
    inputs: dict[str, float | int | str] = {
        "b": w.setting.batch,
        "s": w.setting.seq,
        "accumulation": r.run.batch.accumulation,
        "dp": r.run.dp,
    }
    formula = {"matmul": "sum of 2 · m · n · k", "attention": "4 · b · a · s² · d forward, 10 backward (fused)"}
    return [
        term(
            f"flops/{phase}/{kind}",
            v,
            "FLOP",
            formula.get(kind, "sum of 2 · m · n · k"),
            inputs,
            "counted as torch.utils.flop_counter does",
        )
        for (phase, kind), v in flops.items()
        if v
    ]


def time_terms(r: Resolved, timing: StepTime) -> list[Term]:
    """`time/<phase>/<kind>`: sums to the step time."""
    profile = r.profile
    inputs: dict[str, float | int | str] = {
        "P": profile.peak_flops.get(r.formats.product, 0.0),
        "B": profile.memory_bandwidth,
        "accumulation": r.run.batch.accumulation,
        "t_dispatch": profile.dispatch_seconds * by_stack("dispatch", r.stack.name),
    }
    terms = []
    for (phase, kind), value in timing.seconds.items():
        if not value:
            continue
        formula, origin = _STEP_FORMULAS[kind]
        extra: dict[str, float | int | str] = {"x": constant("overlap_slowdown")} if kind == "slowdown" else {}
        terms.append(
            term(
                f"time/{phase}/{kind}",
                value,
                "s",
                formula,
                {**inputs, **extra},
                f"{origin}; {profile.source}" if kind not in ("loop",) else source("fixed_step_seconds"),
            )
        )
    return terms


def energy_terms(r: Resolved, watts: Power, hours: float | None, energy: float | None) -> list[Term]:
    """`energy/…` and `carbon/…` of the whole run."""
    terms: list[Term] = []
    if energy is not None and hours is not None and watts.board_w is not None:
        inputs: dict[str, float | int | str] = {
            "GPU-hours": hours,
            "W_board": watts.board_w,
            "W_host": watts.host_w,
            "PUE": watts.pue,
        }
        whole = watts.board_w + watts.host_w
        terms.append(
            term(
                "energy/accelerators",
                energy * watts.board_w / whole,
                "kWh",
                "GPU-hours · W_board · PUE / 1000",
                inputs,
                f"board power by operation mix (assumed shares of the limit); PUE: {watts.pue_source}",
            )
        )
        terms.append(
            term(
                "energy/hosts",
                energy * watts.host_w / whole,
                "kWh",
                "GPU-hours · W_host · PUE / 1000",
                inputs,
                "assumed host share per accelerator",
            )
        )
        terms.append(
            term(
                "carbon/electricity",
                energy * watts.intensity,
                "kg",
                "energy · intensity",
                {"energy": energy, "intensity": watts.intensity},
                watts.intensity_source,
            )
        )
    return terms


def figure_terms(
    r: Resolved,
    timing: StepTime,
    tokens: int,
    steps: int | None,
    model_flops: float,
    peak_rate: float | None,
    usable: float | None,
    context: float,
) -> list[Term]:
    """`figures/…`: what is derived from the sums above."""
    seconds, gpus, batch = timing.total, r.run.hardware.gpus, r.run.batch
    step: dict[str, float | int | str] = {"T": tokens, "t_step": seconds}
    sizes: dict[str, float | int | str] = {
        "b": batch.micro,
        "s": tokens / (batch.micro * batch.accumulation * r.run.dp),
        "accumulation": batch.accumulation,
        "dp": r.run.dp,
    }
    terms = [
        term("figures/tokens_per_step", tokens, "1", "T = b · s · accumulation · dp", sizes, "definition"),
        term("figures/tokens_per_s", tokens / seconds, "token/s", "T / t_step", step, "definition"),
        term(
            "figures/tokens_per_s_per_gpu",
            tokens / seconds / gpus,
            "token/s",
            "T / t_step / G",
            {**step, "G": gpus},
            "definition",
        ),
    ]
    if peak_rate is not None:
        inputs: dict[str, float | int | str] = {"F_model": model_flops, "t_step": seconds, "G": gpus, "P": peak_rate}
        note = "Chowdhery et al. 2022, arXiv:2204.02311, app. B: recomputation not counted; attention over the whole square"
        terms.append(
            term(
                "figures/mfu", model_flops / seconds / gpus / peak_rate, "1", "F_model / (t_step · G · P)", inputs, note
            )
        )
    if steps is not None:
        terms.append(term("figures/steps", steps, "1", "ceil(tokens · epochs / T)", {"T": tokens}, "definition"))
        terms.append(
            term(
                "figures/time_in_steps",
                steps * seconds,
                "s",
                "steps · t_step",
                {"steps": steps, "t_step": seconds},
                "definition",
            )
        )
    if usable is not None and r.accelerator is not None:
        whole: dict[str, float | int | str] = {"M_device": usable + context, "M_context": context}
        origin = r.accelerator.source or "device-reported"
        terms.append(
            term(
                "figures/usable_memory",
                usable,
                "B",
                "M_device − M_context",
                whole,
                f"{origin}; {source('cuda_context_bytes')}",
            )
        )
    return terms
