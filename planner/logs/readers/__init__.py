"""Formats of logs that ship with Plumbline; importing this package registers them."""

from planner.logs.readers import (
    cuda_oom,
    deepspeed,
    lightning,
    llamafactory,
    megatron,
    nvidia_smi,
    tensorboard,
    torchtitan,
    torchtune,
    trainer_state,
    wandb,
)

__all__ = [
    "cuda_oom", "deepspeed", "lightning", "llamafactory", "megatron", "nvidia_smi", "tensorboard", "torchtitan", "torchtune", "trainer_state", "wandb",
]  # fmt: skip
