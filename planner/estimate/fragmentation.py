"""What the caching allocator holds beyond the peak where samples differ in length.

Every length asks for blocks of its own size. A cached block that is split for a smaller tensor cannot serve the next longer one, so that the
allocator reserves more with every new longest batch, though it gives cached blocks back before it fails: what is held here is seen in
`nvidia-smi` and in `memory_reserved`, and is not needed to fit.
"""

from __future__ import annotations

from collections.abc import Sequence

from planner.estimate.constants import constant
from planner.estimate.memory import ACTIVATIONS, LOGITS, Moment


def fragmented(moments: Sequence[Moment], cleared: bool = False, routed: bool = False) -> float:
    """Bytes that the allocator holds after batches of many lengths [bytes].

    max over the step of M(t) + f · (M_activations(t) + M_logits(t)), where f is the share of passing tensors that stays in blocks which no
    later batch can use.

    Arguments
    ---------
    moments: live bytes over the step of the longest batch. cleared: the cache is emptied every few steps (`torch.cuda.empty_cache`).
    routed: a mixture of experts, where every expert's share of the tokens asks for blocks of its own size too.
    """
    share = constant("fragmentation_cleared" if cleared else "fragmentation_routed" if routed else "fragmentation")
    return max(m.total + share * (m.parts[ACTIVATIONS] + m.parts[LOGITS]) for m in moments)
