"""Bottleneck adapters: a narrow trained layer behind attention and MLP, behind the MLP alone, or beside the MLP.

houlsby: behind the output projections of attention and MLP, before the residual sum (Houlsby et al. 2019, arXiv:1902.00751, fig. 2).
pfeiffer: behind that of the MLP alone (Pfeiffer et al. 2020, arXiv:2005.00247). parallel: beside the MLP, on its input, `y + s · up(relu(down(x)))`
(He et al. 2021, arXiv:2110.04366, table 1).
Assumed for all three: ReLU, biases in both layers, no norms of their own, the base's norms frozen, an added classification head trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from planner.run import Method
from planner.workload.architecture import Architecture
from planner.workload.methods.base import Adaptation, MethodKind, register

if TYPE_CHECKING:
    from planner.workload.graph import Tensor
    from planner.workload.writer import Writer

DEFAULT_BOTTLENECK = 64


def _bind(method: Method, arch: Architecture) -> Adaptation:
    bottleneck, placement = method.bottleneck or DEFAULT_BOTTLENECK, method.placement or "pfeiffer"

    def narrow(w: Writer, path: str, x: Tensor) -> Tensor:
        """up(relu(down(x))) in the adapter's own type."""
        g = w.graph
        down = w.adapter(f"{path}.down.weight", (bottleneck, arch.hidden))
        up = w.adapter(f"{path}.up.weight", (arch.hidden, bottleneck))
        hidden = g.linear(
            g.cast(x, down.dtype), down, w.adapter(f"{path}.down.bias", (bottleneck,)), name="adapter_down"
        )
        hidden = g.unary("relu", hidden, save="output")
        return g.linear(hidden, up, w.adapter(f"{path}.up.bias", (arch.hidden,)), name="adapter_up")

    def after(w: Writer, layer: str, branch: str, x: Tensor, y: Tensor) -> Tensor:
        g, path = w.graph, f"{layer}.{branch}_adapter"
        if branch == "attention" and placement != "houlsby":
            return y
        if placement == "parallel":
            beside = g.unary("adapter_scale", narrow(w, path, x), save="none")
        else:
            beside = narrow(w, path, y)
        result = g.cast(g.add(y, beside, name="adapter_add"), y.dtype, name="adapter_output")
        g.release(y)  # the argument of the adapter's forward
        return result

    return Adaptation(
        method.name,
        trains=lambda path: path.startswith(arch.names.classifier + "."),
        resolved={"bottleneck": bottleneck, "placement": placement},
        adapter_dtype=method.adapter_dtype,
        formula=f"L · {2 if placement == 'houlsby' else 1} · (2 · h · m + h + m) with m = {bottleneck}",
        after=after,
    )


register(
    MethodKind(
        "adapter",
        "Bottleneck adapters",
        "Trains a narrow layer in each block, behind or beside its branches.",
        ("bottleneck", "placement", "adapter_dtype"),
        "Houlsby et al. 2019, arXiv:1902.00751; Pfeiffer et al. 2020, arXiv:2005.00247; He et al. 2021, arXiv:2110.04366",
        _bind,
    )
)
