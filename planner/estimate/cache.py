"""What a model remembers of the tokens before while it generates: keys and values, latent vectors, states.

Per sequence and layer: attention keeps 2 · kv_heads · head_dim values a token (Ainslie et al. 2023, arXiv:2305.13245), behind a sliding window of w
those of the last w − 1; latent attention keeps rank + rotary values a token (DeepSeek-AI 2024, arXiv:2405.04434, sec. 2.1.2); a state-space or
linear-attention layer keeps a state and the last inputs of its convolution, whatever the length. Checked against transformers' own `DynamicCache`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from planner.errors import PlanError
from planner.workload import Architecture
from planner.workload.delta_net import GatedDeltaNet
from planner.workload.gated_attention import GatedAttention
from planner.workload.latent_attention import LatentAttention
from planner.workload.parallel_mixers import ParallelMixers
from planner.workload.selective_scan import SelectiveScan
from planner.workload.single_branch import SingleBranch
from planner.workload.state_space_dual import StateSpaceDual


class Layer(NamedTuple):
    """What one layer keeps of one sequence, and what a new token costs there.

    per_token: values of a token · window: tokens it looks back at most · state: values whatever the length, in the compute type ·
    flops: of a new token's products with one remembered token [FLOP].
    """

    per_token: float
    window: int | None
    state: float
    flops: float

    def tokens(self, context: int) -> int:
        """Tokens that are kept after so many."""
        return context if self.window is None else min(context, max(0, self.window - 1))

    def values(self, context: int) -> float:
        """Values kept after so many tokens."""
        return self.per_token * self.tokens(context) + self.state


def layers_of(arch: Architecture) -> tuple[Layer, ...]:
    """What each layer keeps. Raises `PlanError` for models that do not generate token by token, and kinds without a rule."""
    if not arch.causal or "causal-lm" not in arch.offered or arch.towers or arch.cross is not None or arch.front is not None:
        raise PlanError(
            "model", arch.model_type, "is not served here: it is no decoder of text alone", "Serving is planned for models that write text token by token."
        )
    return tuple(_layer(arch.at(i), arch.window(i)) for i in range(arch.layers))


def _layer(arch: Architecture, window: int | None) -> Layer:
    layout, mixer = arch.layout, arch.mixer
    attention = Layer(2.0 * arch.kv_heads * arch.head_dim, window, 0.0, 4.0 * arch.heads * arch.head_dim)
    if isinstance(layout, ParallelMixers):
        return attention._replace(state=_state(layout.mixer))
    if layout is not None:
        if not isinstance(layout, SingleBranch):
            raise _unknown(layout)
        if not layout.mixes:
            return Layer(0.0, None, 0.0, 0.0)
    if isinstance(mixer, LatentAttention):
        again = 2.0 * arch.heads * mixer.rank * (mixer.plain + mixer.value)  # transformers expands the latent vectors of all tokens again
        return Layer(mixer.rank + mixer.rotary, window, 0.0, again + 2.0 * arch.heads * (mixer.plain + mixer.rotary + mixer.value))
    if mixer is None or isinstance(mixer, GatedAttention):
        return attention
    return Layer(0.0, None, _state(mixer), 0.0)


def _state(mixer: Any) -> float:
    """Values of a recurrent layer: the state, and the last inputs of its convolution."""
    if isinstance(mixer, SelectiveScan):
        return float(mixer.inner * (mixer.state + mixer.kernel))
    if isinstance(mixer, StateSpaceDual):
        return float(mixer.inner * mixer.state + mixer.mixed * mixer.kernel)
    if isinstance(mixer, GatedDeltaNet):
        return float(mixer.value_heads * mixer.key * mixer.value + mixer.widths[2] * mixer.kernel)
    raise _unknown(mixer)


def _unknown(part: Any) -> PlanError:
    return PlanError("model", type(part).__name__, "keeps a state for which there is no rule", "Serving of this model is not planned.")
