"""A script for Hugging Face's Trainer and peft that runs as it is: random tokens of the planned shape, or a text file of yours."""

from __future__ import annotations

import json
from typing import Any, Final

from planner.launch.base import Draft, Plan, check_degrees, impossible, register
from planner.launch.peft_names import CONFIGS, peft_config

OPTIMIZERS: Final = {
    "adamw": "adamw_torch", "adamw-fused": "adamw_torch_fused", "adamw8bit": "adamw_bnb_8bit", "paged-adamw": "paged_adamw_32bit",
    "paged-adamw8bit": "paged_adamw_8bit", "ademamix": "ademamix", "ademamix8bit": "ademamix_8bit", "lion": "lion_32bit", "adafactor": "adafactor",
    "sgd": "sgd", "adamw-schedule-free": "schedule_free_adamw",
}  # fmt: skip
"""transformers.training_args.OptimizerNames of transformers 5.24, by the run's optimizer."""
_AUTO: Final = {"causal-lm": "AutoModelForCausalLM", "masked-lm": "AutoModelForMaskedLM", "sequence-classification": "AutoModelForSequenceClassification"}
_TASKS: Final = {"causal-lm": "CAUSAL_LM", "sequence-classification": "SEQ_CLS"}
_DTYPES: Final = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
ATTENTION: Final = {"eager": "eager", "sdpa": "sdpa", "flash": "flash_attention_2"}
"""transformers' `attn_implementation`, by the run's attention."""
_STACKS: Final[dict[str, dict[str, Any]]] = {"hf": {}, "hf-compile": {"torch_compile": True}, "hf-liger": {"use_liger_kernel": True}}
_SAID: Final = frozenset(
    ("model", "edited-model", "head", "task", "method", "weights", "micro", "accumulation", "seq-len", "epochs", "steps", "attention")
)

SETTINGS: Final = '''MODEL = {model}
CONFIG = {config}
PEFT = {peft}
QUANTIZED = {quantized}
ARGUMENTS = {arguments}
FSDP = {fsdp}
SEQ_LEN, PRETRAIN, DTYPE, ATTENTION, HEAD, UPCAST_ADAPTERS = {constants}
'''
"""The places of a script that the plan fills."""
LOADING: Final = '''    loading = {{"dtype": getattr(torch, DTYPE), "attn_implementation": ATTENTION}}
    if CONFIG is not None or PRETRAIN:
        config = AutoConfig.for_model(**CONFIG) if CONFIG is not None else AutoConfig.from_pretrained(given.model)
        model = {auto}.from_config(config, **loading)
    else:
        if QUANTIZED:
            from transformers import BitsAndBytesConfig

            loading["quantization_config"] = BitsAndBytesConfig(**QUANTIZED)
        model = {auto}.from_pretrained(given.model, **loading)
    model.config.use_cache = False
{adapt}
'''
"""The model: of random weights, or loaded, quantized where the plan says so, with its adapters."""
ENDING: Final = '''    trainer.train()
    trainer.save_state()
    if given.data:
        trainer.save_model()


if __name__ == "__main__":
    main()
'''

_SCRIPT = (
    '''
import argparse
import json
import os
import time

import torch
from transformers import AutoConfig, {auto}, AutoTokenizer, Trainer, TrainingArguments

'''
    + SETTINGS
    + '''

class Blocks(torch.utils.data.Dataset):
    """Sequences of one length: of a text file, or random tokens of the planned shape."""

    def __init__(self, vocab, labels, tokens=None):
        self.vocab, self.labels, self.tokens = vocab, labels, tokens

    def __len__(self):
        return len(self.tokens) // SEQ_LEN if self.tokens is not None else 1_000_000

    def __getitem__(self, index):
        if self.tokens is not None:
            ids = self.tokens[index * SEQ_LEN : (index + 1) * SEQ_LEN]
        else:
            ids = torch.randint(self.vocab, (SEQ_LEN,), generator=torch.Generator().manual_seed(index))
        target = torch.tensor(index % self.labels) if HEAD == "sequence-classification" else ids.clone()
        return {{"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": target}}


class Timed(Trainer):
    """The Trainer, with seconds of a step and the peak of memory in its log, so that the log can be compared with the plan."""

    def log(self, logs, *rest, **named):
        now, step = time.perf_counter(), self.state.global_step
        before, at = getattr(self, "_seen", (None, 0))
        if before is not None and step > at:
            logs["step_seconds"] = (now - before) / (step - at)
        self._seen = (now, step)
        if torch.cuda.is_available():
            logs["peak_allocated_bytes"] = torch.cuda.max_memory_allocated()
            logs["peak_reserved_bytes"] = torch.cuda.max_memory_reserved()
        super().log(logs, *rest, **named)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--model", default=MODEL, help="Hugging Face id or folder of the weights")
    options.add_argument("--data", help="text file to train on; without it random tokens, which time and memory do not mind")
    options.add_argument("--max-steps", type=int)
    options.add_argument("--output", default=ARGUMENTS["output_dir"])
    options.add_argument("--deepspeed", help="DeepSpeed configuration, in place of FSDP")
    given = options.parse_args()
    settings = dict(ARGUMENTS, output_dir=given.output)
    if given.max_steps:
        settings["max_steps"] = given.max_steps
    if given.deepspeed:
        settings["deepspeed"] = given.deepspeed
    elif FSDP and int(os.environ.get("WORLD_SIZE", "1")) > 1 and "ACCELERATE_USE_FSDP" not in os.environ:
        settings.update(fsdp=True, fsdp_config=FSDP)
    if not torch.cuda.is_available():
        settings["use_cpu"] = True
        settings.pop("tf32", None)
    arguments = TrainingArguments(**settings)
'''
    + LOADING
    + '''    tokens = None
    if given.data:
        tokenizer = AutoTokenizer.from_pretrained(given.model)
        with open(given.data, encoding="utf-8") as file:
            tokens = tokenizer(file.read(), return_tensors="pt").input_ids[0]
        if len(tokens) < SEQ_LEN:
            raise SystemExit(f"{{given.data}} has {{len(tokens)}} tokens, less than one sequence of {{SEQ_LEN}}.")
    data = Blocks(model.config.vocab_size, getattr(model.config, "num_labels", 2), tokens)
    trainer = Timed(model=model, args=arguments, train_dataset=data)
'''
    + ENDING
)

_PEFT = '''    import peft

    if QUANTIZED:
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=ARGUMENTS["gradient_checkpointing"])
    model = peft.get_peft_model(model, peft.{kind}(**PEFT), autocast_adapter_dtype=UPCAST_ADAPTERS)
    model.print_trainable_parameters()'''

_BITFIT = '''    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))'''


@register("hf", label="Hugging Face Trainer and peft", position=10, reference="transformers 5.24 TrainingArguments, peft 0.21")
def write(plan: Plan) -> Draft:
    """`train.py`, for one accelerator; several are started by torchrun or accelerate."""
    text, says, notes = script(plan)
    return Draft({"train.py": text}, says, "python train.py", notes)


def script(plan: Plan, template: str = _SCRIPT) -> tuple[str, frozenset[str], tuple[str, ...]]:
    """(text of `train.py`, aspects that it says, remarks). Raises `PlanError` for what would train something else than planned.

    template: text with the places that `_SCRIPT` has; every one of its settings is written the same way.
    """
    run, precision, says = plan.run, plan.run.precision, set(_SAID)
    head = run.head or "causal-lm"
    if head not in _AUTO or plan.config.get("is_encoder_decoder"):
        raise impossible("head", head, "the Trainer script", f"It starts {', '.join(_AUTO)} models.")
    check_degrees(plan, "the Trainer script")
    method = peft_config(run.method)
    if method is None and run.method.name not in ("full", "bitfit"):
        raise impossible("method.name", run.method.name, "the Trainer script", f"It starts full, bitfit, {', '.join(CONFIGS)}.")
    if run.optimizer not in OPTIMIZERS:
        raise impossible("optimizer", run.optimizer, "the Trainer script", f"It starts {', '.join(OPTIMIZERS)}.")
    says.add("optimizer")
    assert precision is not None
    arguments: dict[str, Any] = {
        "output_dir": "out",
        "per_device_train_batch_size": run.batch.micro,
        "gradient_accumulation_steps": run.batch.accumulation,
        "max_steps": plan.steps or 100,
        "learning_rate": 1e-4,
        "optim": OPTIMIZERS[run.optimizer],
        "gradient_checkpointing": run.activation_checkpointing == "full" and run.checkpoints.every == 1 and not run.checkpoints.keep,
        "logging_steps": 1 if (plan.steps or 100) <= 100 else 10,
        "save_strategy": "no",
        "report_to": "none",
    }
    if arguments["gradient_checkpointing"] or run.activation_checkpointing == "none":
        says.add("checkpointing")
    mixed = mixed_precision(plan)
    arguments |= mixed
    if mixed or precision.compute == precision.weights:
        says.add("compute")
    quantized = _quantized(plan)
    if quantized:
        says |= {"quantized", "compute"}
    if run.method.adapter_dtype in (None, "fp32") or run.method.adapter_dtype == precision.weights:
        says.add("adapter-dtype")
    if plan.gpus == 1:
        says.add("gpus")
    if run.stack in _STACKS:
        arguments |= _STACKS[run.stack]
        says.add("stack")
    adapt, arguments_of_peft = "", None
    left_out: list[str] = []
    if method is not None:
        kind, arguments_of_peft, left_out = method
        if task := _TASKS.get(head):
            arguments_of_peft = {**arguments_of_peft, "task_type": task}
        adapt = _PEFT.format(kind=kind)
    elif run.method.name == "bitfit":
        adapt = _BITFIT
    if left_out:
        says.discard("method")
    fsdp = fsdp_config(plan)
    if run.parallel.sharding in (None, "none", "ddp") or fsdp:
        says.add("sharding")
    if run.offload == "params" and fsdp:
        says.add("offload")
    own = None if plan.model else {key: value for key, value in plan.config.items() if not key.startswith("_")}
    text = template.lstrip("\n").format(
        auto=_AUTO[head],
        model=repr(plan.model or None),
        config=repr(json.loads(json.dumps(own))),
        peft=repr(arguments_of_peft),
        quantized=repr(quantized),
        arguments="{\n" + "".join(f"    {key!r}: {value!r},\n" for key, value in arguments.items()) + "}",
        fsdp=repr(fsdp),
        constants=repr((
            run.batch.seq_len, run.task == "pretrain", _DTYPES.get(precision.weights, _DTYPES.get(precision.compute, "bfloat16")),
            ATTENTION[run.attention or "sdpa"], head, run.method.adapter_dtype in (None, "fp32"),
        ))[1:-1],
        adapt=adapt,
    )  # fmt: skip
    notes = ["Without --data it trains on random tokens, which is enough to measure time and memory; the learning rate (1e-4) is a placeholder."]
    if own is not None:
        notes.append("The model is built from its configuration with random weights: the plan names no published weights.")
        if run.task != "pretrain":
            says.discard("task")
    return text, frozenset(says), tuple(notes)


def mixed_precision(plan: Plan) -> dict[str, bool]:
    """Autocast or TF32 as TrainingArguments, and those who took their names over, say it; empty for products in the weights' own type."""
    precision = plan.run.precision
    assert precision is not None
    if precision.compute in ("bf16", "fp16") and precision.autocast:
        return {precision.compute: True}
    return {"tf32": True} if precision.compute == "tf32" else {}


def fsdp_config(plan: Plan) -> dict[str, Any] | None:
    """`fsdp_config` of transformers' TrainingArguments (FSDP2) where states are sharded, None where they are not or it cannot say how."""
    sharding = plan.run.parallel.sharding
    if sharding not in ("zero2", "zero3"):
        return None
    config: dict[str, Any] = {"version": 2, "reshard_after_forward": sharding == "zero3"}
    if plan.run.offload == "params":
        config["cpu_offload"] = True
    return config


def _quantized(plan: Plan) -> dict[str, Any] | None:
    """Arguments of transformers' BitsAndBytesConfig for a quantized base."""
    precision = plan.run.precision
    assert precision is not None
    if precision.weights == "int8":
        return {"load_in_8bit": True}
    if precision.weights in ("nf4", "nf4-dq"):
        return {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": precision.weights == "nf4-dq",
            "bnb_4bit_compute_dtype": _DTYPES.get(precision.compute, "float32"),
        }
    if precision.weights not in _DTYPES:
        raise impossible("precision.weights", precision.weights, "the Trainer script", "Use bf16, fp16, fp32, int8 or nf4.")
    return None
