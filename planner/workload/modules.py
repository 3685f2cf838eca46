"""Paths of the model's linear layers, for target selection and for telling equal layers from different ones."""

from __future__ import annotations

from collections.abc import Iterator

from planner.workload.architecture import Architecture
from planner.workload.components import Behind


def block_linears(arch: Architecture) -> tuple[str, ...]:
    """Linear layers of one block, relative to it. arch: the traits of that block."""
    n = arch.names
    if arch.layout is not None:
        return arch.layout.linears
    attention: tuple[str, ...] = (n.fused, n.out) if arch.fused_qkv else (n.query, n.key, n.value, n.out)
    if arch.mixer is not None:
        attention = arch.mixer.linears
    if arch.cross is not None:
        attention = (*attention, *arch.cross.linears)
    if arch.feed_forward is not None:
        return (*attention, *arch.feed_forward.linears)
    mlp: tuple[str, ...] = (n.gate, n.up, n.down) if arch.gated and not arch.fused_gate_up else (n.up, n.down)
    if (e := arch.experts) is not None:  # stacked experts and most routers are parameters, not linear layers
        parts = ("input_linear", "output_linear") if e.shared_fused else ("gate_proj", "up_proj", "down_proj")
        mlp = tuple(f"{n.shared_expert}.{part}" for part in parts) if e.shared else ()
        mlp += (f"{n.shared_expert}_gate",) if e.shared_gate else ()
        mlp += (n.router,) if e.router_linear else ()
    return (*attention, *mlp)


def layer_linears(arch: Architecture, layer: int) -> tuple[str, ...]:
    """Linear layers of one layer of a stack, whole paths."""
    prefix = arch.path(layer)
    return tuple(f"{prefix}.{part}" for part in block_linears(arch.at(layer)))


def linear_kinds(arch: Architecture) -> tuple[str, ...]:
    """Linear layers of all stacks, with `{i}` for the layer, each once."""
    found: dict[str, None] = {}
    for stack in arch.stacks:
        for kind in stack.kinds:
            found.update(dict.fromkeys(f"{stack.names.layer}.{part}" for part in block_linears(kind)))
        for end in (stack.front, *(kind.behind for kind in stack.kinds), stack.tail, *stack.outputs):
            found.update(dict.fromkeys(getattr(end, "linears", ())))
        found.update(dict.fromkeys(spare(stack)))
    return tuple(found)


def _behind(arch: Architecture) -> Iterator[Behind | None]:
    """What stands behind each layer of a stack."""
    return (arch.at(layer).behind for layer in range(arch.layers))


def all_linears(arch: Architecture) -> tuple[str, ...]:
    """Linear layers of every layer of every stack, whole paths."""
    paths = [path for stack in arch.stacks for layer in range(stack.layers) for path in layer_linears(stack, layer)]
    ends = (end for stack in arch.stacks for end in (stack.front, *_behind(stack), stack.tail, *stack.outputs))
    more = (path for stack in arch.stacks for path in spare(stack))
    return (*paths, *(path for end in ends for path in getattr(end, "linears", ())), *more)


def spare(arch: Architecture) -> tuple[str, ...]:
    """A linear layer that stands in the model and takes no part."""
    return () if arch.spare is None else arch.spare[:1]
