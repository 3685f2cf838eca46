"""Import by structure: a model_type without a reader is built by transformers on the meta device, and its modules are read.

Needs torch and transformers; both are imported when this is called, and the estimate says that it was. Parameters are
exact; what the code between the modules does is not seen (`imported.py` says what is assumed).
"""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from planner.errors import PlanError
from planner.workload.architecture import Architecture, Names
from planner.workload.imported import Branch, ImportedBlock, ImportedFront, ImportedOutput, Item

MOST_LAYERS = 512
_CLASSES = (
    ("AutoModelForCausalLM", "causal-lm"),
    ("AutoModelForMaskedLM", "masked-lm"),
    ("AutoModelForSequenceClassification", "sequence-classification"),
    ("AutoModel", "none"),
)


def available() -> bool:
    """Whether the libraries that building a module needs are installed."""
    return find_spec("torch") is not None and find_spec("transformers") is not None


def import_architecture(config: Mapping[str, Any]) -> Architecture:
    """`Architecture` of a config whose model_type has no reader.

    Raises `PlanError` when transformers does not know the type, cannot build it, or it is not one stack of blocks over tokens.
    """
    return _imported(json.dumps(config, sort_keys=True, default=str))


@lru_cache(maxsize=16)
def _imported(text: str) -> Architecture:
    config = json.loads(text)
    name = config["model_type"]
    model, kind = _build(config)
    try:
        arch = _Reading(model, kind, name).architecture()
    except PlanError:
        raise
    except Exception as error:  # a config class may raise anything when it is asked for a field
        raise PlanError(
            "model.model_type", name, f"cannot be read ({type(error).__name__}: {error})", "Use a covered type."
        ) from None
    found, real = _count(arch), sum(p.numel() for p in model.parameters())
    if found != real:
        raise PlanError(
            "model.model_type",
            name,
            f"has no reader, and {found} of its {real} parameters were found (layers share weights)",
            "Use a model of a covered type.",
        )
    return arch


def _count(arch: Architecture) -> int:
    """Parameters of the items; ties are known outside of the blocks alone."""
    blocks = [arch.at(i).layout for i in range(arch.layers)]
    inside = [item for b in blocks if isinstance(b, ImportedBlock) for item in b.items]
    ends = [part.items for part in (arch.front, *arch.outputs) if isinstance(part, ImportedFront | ImportedOutput)]
    outside = [item for items in ends for item in items if not item.tied]
    biases = sum(item.bias * item.shape[0] for items in (inside, *ends) for item in items)
    return sum(math.prod(item.shape) for item in (*inside, *outside)) + biases


def _build(config: dict[str, Any]) -> tuple[Any, str]:
    """The module on the meta device, with the first head that transformers offers for the type."""
    import torch
    import transformers

    name = config["model_type"]
    if name not in transformers.CONFIG_MAPPING:
        raise PlanError(
            "model.model_type",
            name,
            f"is not known to transformers {transformers.__version__}",
            "Give a config of a type that transformers has.",
        )
    logging.getLogger("transformers").setLevel(logging.ERROR)
    values = {key: value for key, value in config.items() if key not in ("model_type", "auto_map")}
    try:
        made = transformers.AutoConfig.for_model(name, **values)
        layers = getattr(made, "num_hidden_layers", None)
        if isinstance(layers, int) and layers > MOST_LAYERS:
            raise PlanError("model.num_hidden_layers", layers, "are too many to import", f"Use at most {MOST_LAYERS}.")
        encoder = type(made) in transformers.AutoModelForMaskedLM._model_mapping
        for class_name, kind in _CLASSES:
            auto = getattr(transformers, class_name)
            if kind == "causal-lm" and encoder and not getattr(made, "is_decoder", False):
                continue
            if type(made) in auto._model_mapping:
                with torch.device("meta"), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    return auto.from_config(made), kind
    except PlanError:
        raise
    except Exception as error:
        raise PlanError(
            "model", name, f"cannot be built by transformers ({type(error).__name__}: {error})", "Correct the config."
        ) from None
    raise PlanError("model.model_type", name, "has no model class of a kind that can be imported", "Use another model.")


class _Reading:
    """Reads one built model."""

    def __init__(self, model: Any, kind: str, model_type: str) -> None:
        self.model, self.kind, self.model_type = model, kind, model_type
        self.config = model.config.get_text_config()
        self._owners: dict[int, str] = {}

    def architecture(self) -> Architecture:
        blocks = self._stack()
        prefix = blocks[0][0].rsplit(".", 1)[0]
        layers = [self._block(path, module) for path, module in blocks]
        before, after = self._outside(prefix)
        hidden = self._number("hidden_size", "d_model", "n_embd", "dim")
        heads = self._number("num_attention_heads", "n_head", "num_heads", default=1)
        kv = self._number("num_key_value_heads", default=heads)
        activation = getattr(self.config, "hidden_act", None) or getattr(self.config, "activation_function", "gelu")
        return Architecture(
            model_type=self.model_type,
            hidden=hidden,
            layers=len(blocks),
            heads=heads,
            kv_heads=kv if heads % kv == 0 else heads,
            head_dim=self._number("head_dim", default=max(1, hidden // heads)),
            ffn=self._number("intermediate_size", "ffn_dim", "d_ff", "n_inner", default=4 * hidden),
            vocab=self._number("vocab_size", default=1),
            max_positions=self._number("max_position_embeddings", default=0) or None,
            causal=self.kind == "causal-lm",
            norm="rms",
            hidden_dropout=self._fraction(
                "resid_pdrop", "hidden_dropout_prob", "hidden_dropout", "residual_dropout", "dropout"
            ),
            attention_dropout=self._fraction("attn_pdrop", "attention_probs_dropout_prob", "attention_dropout"),
            activation=activation if isinstance(activation, str) else "gelu",
            default_head=self.kind,  # type: ignore[arg-type]
            names=Names(layer=prefix + ".{i}", embedding=before[0].path if before else ""),
            variants=tuple({"layout": layer} for layer in layers) if len(set(layers)) > 1 else (),
            layout=layers[0],
            front=ImportedFront(tuple(before), hidden),
            outputs=(ImportedOutput(self.kind, tuple(after)),),
            imported=True,
        )

    def _stack(self) -> list[tuple[str, Any]]:
        """The one list of blocks: the outermost module list that holds most of the parameters."""
        import torch

        lists = [
            (path, module)
            for path, module in self.model.named_modules()
            if isinstance(module, torch.nn.ModuleList) and len(module) and any(True for _ in module.parameters())
        ]
        outer = [(p, m) for p, m in lists if not any(p.startswith(q + ".") for q, _ in lists)]
        if len(outer) != 1 or getattr(self.model, "main_input_name", "input_ids") != "input_ids":
            raise PlanError(
                "model.model_type",
                self.model_type,
                f"has no reader, and its {len(outer)} stacks of blocks over {self.model.main_input_name} cannot be imported by structure",
                "Use a model of a covered type, or one with a single stack over tokens.",
            )
        path, modules = outer[0]
        return [(f"{path}.{i}", module) for i, module in enumerate(modules)]

    def _outside(self, prefix: str) -> tuple[list[Item], list[Item]]:
        """What stands before the blocks and behind them, by registration; output layers and final norms stand behind."""
        before: list[Item] = []
        after: list[Item] = []
        passed = False
        for path, module in self._leaves(self.model, ""):
            if path.startswith(prefix + "."):
                passed = True
                continue
            items = list(self._items(path, module))
            (after if passed and not any(i.kind == "embedding" for i in items) else before).extend(items)
        return before, after

    def _block(self, path: str, module: Any) -> ImportedBlock:
        """A block's own norms, and its other children with all that they hold."""
        norms: list[Item] = []
        branches: list[Branch] = []
        own = list(self._items("", module))
        if own:
            branches.append(Branch(tuple(own)))
        for name, child in module.named_children():
            items = [item for at, leaf in self._leaves(child, name) for item in self._items(at, leaf)]
            if not items:
                continue
            if all(item.kind == "norm" for item in items):
                norms.extend(items)
            else:
                attention = "attention" in type(child).__name__.lower() or "attn" in name.lower()
                branches.append(Branch(tuple(items), attention))
        return ImportedBlock(tuple(norms), tuple(branches))

    def _leaves(self, module: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        """Modules that own parameters, in the order of registration."""
        for path, child in module.named_modules(remove_duplicate=False):
            if child._parameters:
                yield ".".join(part for part in (prefix, path) if part), child

    def _items(self, path: str, module: Any) -> Iterator[Item]:
        """The parameters that a module itself owns; one that was seen before is tied."""
        import torch

        name = type(module).__name__
        own = {key: p for key, p in module._parameters.items() if p is not None}
        weight = own.get("weight")
        tied = self._owners.get(id(weight), "") if weight is not None else ""
        for parameter in own.values():
            self._owners.setdefault(id(parameter), path)
        bias = "bias" in own and self._owners[id(own["bias"])] == path
        if isinstance(module, torch.nn.Embedding):
            if not tied:
                yield Item("embedding", path, tuple(module.weight.shape))
        elif isinstance(module, torch.nn.Linear):
            yield Item("linear", path, tuple(module.weight.shape), bias, tied=tied)
        elif name == "Conv1D" and weight is not None:  # transformers' transposed linear layer
            yield Item("linear", path, tuple(reversed(weight.shape)), bias, tied=tied)
        elif "norm" in name.lower() and weight is not None and weight.dim() == 1 and set(own) <= {"weight", "bias"}:
            if not tied:
                yield Item("norm", path, tuple(weight.shape), bias)
        else:
            share = self._used(path, own)
            for key, p in own.items():
                where = ".".join(part for part in (path, key) if part)
                if self._owners[id(p)] == path:
                    yield Item("weight", where, tuple(p.shape) or (1,), used=share)

    def _used(self, path: str, own: Mapping[str, Any]) -> float:
        """Fraction of stacked experts that one token uses."""
        active = getattr(self.config, "num_experts_per_tok", None)
        return float(active) if "expert" in path and isinstance(active, int) and active > 0 else 1.0

    def _fraction(self, *names: str) -> float:
        return next((float(v) for n in names if isinstance(v := getattr(self.config, n, None), float)), 0.0)

    def _number(self, *names: str, default: int | None = None) -> int:
        for name in names:
            value = getattr(self.config, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
        if default is None:
            raise PlanError(f"model.{names[0]}", None, "is missing from the config", f"Add {names[0]}, a whole number.")
        return default
