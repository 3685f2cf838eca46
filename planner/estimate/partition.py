"""Layers of pipeline stages where a stack weighs them by cost instead of counting them."""

from __future__ import annotations

from planner.workload.architecture import Architecture


def head_in_layers(arch: Architecture) -> float:
    """Cost of the output head in layers, as nanotron counts it: V h / (4 a d h + 3 f h), matrix parameters of each."""
    layer = 4 * arch.heads * arch.head_dim * arch.hidden + 3 * arch.ffn * arch.hidden
    return arch.vocab * arch.hidden / layer


def layers_by_cost(stages: int, layers: int, head: float) -> list[int]:
    """Layers of each stage when a stage takes blocks until the sum from the model's start passes its share of the whole cost.

    The block that passes the threshold still belongs to the stage, so that early stages have more than their share and late ones fewer,
    even none; embeddings and norms count nothing, and the head stands on the last stage. Source: huggingface/nanotron, its pipeline
    builder (block costs of LlamaForTraining).

    Arguments
    ---------
    stages: pipeline stages. layers: of the model, equal ones. head: cost of the output head in layers.
    """
    share = (layers + head) / stages
    counts, stage = [0] * stages, 0
    for done in range(1, layers + 1):
        counts[stage] += 1
        if done > share * (stage + 1) and stage < stages - 1:
            stage += 1
    return counts
