"""A script for TRL's SFTTrainer and peft that runs as it is: random tokens of the planned shape, or a dataset of yours."""

from __future__ import annotations

from typing import Final

from planner.launch.base import Draft, Plan, impossible, register
from planner.launch.trainer import ENDING, LOADING, SETTINGS, script

_SCRIPT: Final = (
    '''
import argparse
import os
import time

import torch
from datasets import Dataset, load_dataset
from transformers import AutoConfig, {auto}, AutoTokenizer, PreTrainedTokenizerFast, TrainerCallback
from trl import SFTConfig, SFTTrainer

'''
    + SETTINGS
    + '''PACKING = @packing@


class Timed(TrainerCallback):
    """Seconds of a step and the peak of memory in the log, so that it can be compared with the plan."""

    def on_step_begin(self, args, state, control, **rest):
        self.start = time.perf_counter()

    def on_log(self, args, state, control, logs=None, **rest):
        entry = state.log_history[-1]
        if hasattr(self, "start"):
            entry["step_seconds"] = time.perf_counter() - self.start
        if torch.cuda.is_available():
            entry["peak_allocated_bytes"] = torch.cuda.max_memory_allocated()
            entry["peak_reserved_bytes"] = torch.cuda.max_memory_reserved()


def random_tokens(vocab, count):
    """Sequences of the planned length, each with its own seed."""
    for index in range(count):
        ids = torch.randint(vocab, (SEQ_LEN,), generator=torch.Generator().manual_seed(index)).tolist()
        yield {{"input_ids": ids, "labels": ids}}


def no_tokenizer(vocab):
    """A tokenizer for random tokens: TRL asks for one, and none of the model's text is read."""
    from tokenizers import Tokenizer, models

    words = {{f"<{{i}}>": i for i in range(vocab)}}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<0>")), pad_token="<0>", eos_token="<1>")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--model", default=MODEL, help="Hugging Face id or folder of the weights")
    options.add_argument("--data", help="dataset of TRL's formats (Hugging Face id, or a .jsonl file); without it random tokens")
    options.add_argument("--max-steps", type=int)
    options.add_argument("--output", default=ARGUMENTS["output_dir"])
    given = options.parse_args()
    settings = dict(ARGUMENTS, output_dir=given.output, max_length=SEQ_LEN)
    if given.max_steps:
        settings["max_steps"] = given.max_steps
    if FSDP and int(os.environ.get("WORLD_SIZE", "1")) > 1 and "ACCELERATE_USE_FSDP" not in os.environ:
        settings.update(fsdp=True, fsdp_config=FSDP)
    if not torch.cuda.is_available():
        settings["use_cpu"] = True
        settings.pop("tf32", None)
    settings.setdefault("bf16", False)  # TRL's own default is True
'''
    + LOADING
    + '''    if given.data:
        local = given.data.endswith((".json", ".jsonl"))
        data = load_dataset("json", data_files=given.data, split="train") if local else load_dataset(given.data, split="train")
        tokenizer = AutoTokenizer.from_pretrained(given.model)
        settings["packing"] = PACKING
    else:
        steps = settings["max_steps"] * settings["per_device_train_batch_size"] * settings["gradient_accumulation_steps"]
        count = min(4096, max(1, steps) * int(os.environ.get("WORLD_SIZE", "1")))
        data = Dataset.from_generator(random_tokens, gen_kwargs={{"vocab": model.config.vocab_size, "count": count}})
        tokenizer = no_tokenizer(model.config.vocab_size)
        settings["dataset_kwargs"] = {{"skip_prepare_dataset": True}}
    trainer = SFTTrainer(model=model, args=SFTConfig(**settings), train_dataset=data, processing_class=tokenizer, callbacks=[Timed()])
'''
    + ENDING
)


@register("trl", label="TRL SFTTrainer and peft", position=15, reference="trl 1.16 SFTConfig, transformers 5.24 TrainingArguments, peft 0.21")
def trl(plan: Plan) -> Draft:
    """`train_trl.py`, for one accelerator; several are started by torchrun or accelerate."""
    run = plan.run
    if run.head not in (None, "causal-lm"):
        raise impossible("head", run.head, "TRL's SFTTrainer", "It trains causal language models: use hf.")
    if run.method.name in ("prompt", "prefix", "p_tuning"):
        raise impossible("method.name", run.method.name, "TRL's SFTTrainer", "Use hf.")
    packing = run.data is None or run.data.packing in ("packed", "best-fit")
    text, says, notes = script(plan, _SCRIPT.replace("@packing@", repr(packing)))
    if run.data is None or run.data.packing in ("best-fit", "padded"):
        says |= {"packing"}
    note = "With --data and packing, TRL joins whole samples (best fit) and cuts none."
    return Draft({"train_trl.py": text}, says, "python train_trl.py", (*notes, *((note,) if packing else ())))
