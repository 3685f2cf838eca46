"""Model configurations: names, parameter counts against transformers and the published totals, and hostile input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from planner.catalog import fetch_config, find_model, load_config, models
from planner.catalog.tables import DATA
from planner.errors import PlanError
from tests.oracles import denoisers, parameters

PUBLISHED = {
    "openai-community/gpt2": 124_439_808,
    "openai-community/gpt2-medium": 354_823_168,
    "openai-community/gpt2-large": 774_030_080,
    "openai-community/gpt2-xl": 1_557_611_200,
    "facebook/opt-125m": 125_239_296,
    "facebook/opt-1.3b": 1_315_758_080,
    "facebook/opt-6.7b": 6_658_473_984,
    "EleutherAI/pythia-70m": 70_426_624,
    "EleutherAI/pythia-160m": 162_322_944,
    "EleutherAI/pythia-410m": 405_334_016,
    "EleutherAI/pythia-1b": 1_011_781_632,
    "EleutherAI/pythia-1.4b": 1_414_647_808,
    "EleutherAI/pythia-2.8b": 2_775_208_960,
    "EleutherAI/pythia-6.9b": 6_857_302_016,
    "EleutherAI/pythia-12b": 11_846_072_320,
    "EleutherAI/gpt-neox-20b": 20_554_567_680,
    "EleutherAI/gpt-j-6b": 6_050_882_784,
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "meta-llama/Llama-2-13b-hf": 13_015_864_320,
    "meta-llama/Llama-2-70b-hf": 68_976_648_192,
    "meta-llama/Llama-3.1-8B": 8_030_261_248,
    "meta-llama/Llama-3.1-70B": 70_553_706_496,
    "meta-llama/Llama-3.1-405B": 405_853_388_800,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Llama-3.2-3B": 3_212_749_824,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 1_100_048_384,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    "mistralai/Mistral-7B-v0.3": 7_248_023_552,
    "mistralai/Mixtral-8x7B-v0.1": 46_702_792_704,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen2.5-7B": 7_615_616_512,
    "Qwen/Qwen2.5-72B": 72_706_203_648,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "google/gemma-2b": 2_506_172_416,
    "google/gemma-7b": 8_537_680_896,
    "google/gemma-2-2b": 2_614_341_888,
    "google/gemma-2-9b": 9_241_705_984,
    "google/gemma-2-27b": 27_227_128_320,
    "microsoft/phi-1_5": 1_418_270_720,
    "microsoft/phi-2": 2_779_683_840,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "microsoft/phi-4": 14_659_507_200,
    "allenai/OLMo-2-1124-7B": 7_298_617_344,
    "HuggingFaceTB/SmolLM2-135M": 134_515_008,
    "bigscience/bloom-560m": 559_214_592,
    "bigscience/bloom-7b1": 7_069_016_064,
    "mosaicml/mpt-7b": 6_649_286_656,
    "distilbert/distilgpt2": 81_912_576,
}


def test_published_totals() -> None:
    index = {entry.id: entry.parameters for entry in models()}
    assert len(index) >= 45
    for model_id, total in PUBLISHED.items():
        assert index[model_id] == total, model_id


def test_every_entry_has_its_file_and_every_file_its_entry() -> None:
    ids = [entry.id for entry in models()]
    assert len(set(ids)) == len(ids)
    files = {file.stem.replace("--", "/", 1) for file in (DATA / "models").glob("*.json")}
    assert files == set(ids)
    for entry in models():
        config = entry.config
        assert load_config(config) == config
        assert isinstance(config.get("model_type", config.get("_class_name")), str)
        assert config.get("architectures") or "_class_name" in config  # diffusers names the class alone
        assert entry.source


def test_names_are_unique() -> None:
    owner: dict[str, str] = {}
    for entry in models():
        for name in (entry.id, *entry.aliases):
            for part in (name, name.rsplit("/", 1)[-1]):
                assert owner.setdefault(part.casefold(), entry.id) == entry.id, part
                assert find_model(part).id == entry.id


@pytest.mark.parametrize(
    ("typed", "model_id"),
    [
        ("gpt2", "openai-community/gpt2"),
        ("GPT2", "openai-community/gpt2"),
        ("meta-llama/Meta-Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("llama  3 8b", "meta-llama/Meta-Llama-3-8B"),
        ("bert-large-uncased", "google-bert/bert-large-uncased"),
        ("NousResearch/Llama-2-70b-hf", "meta-llama/Llama-2-70b-hf"),
    ],
)
def test_find(typed: str, model_id: str) -> None:
    assert find_model(typed).id == model_id


@pytest.mark.parametrize(
    "typed", ["", "llama", "gpt", "<img src=x onerror=alert(1)>", "../../etc/passwd", "a" * 10_000, "\x00"]
)
def test_unknown_models(typed: str) -> None:
    with pytest.raises(PlanError) as caught:
        find_model(typed)
    assert caught.value.field == "model"
    assert len(str(caught.value)) < 500
    if typed.strip():
        assert "config.json" in caught.value.fix


def test_a_config_can_be_changed_without_harm() -> None:
    entry = find_model("gpt2")
    entry.config["n_layer"] = 99
    assert entry.config["n_layer"] == 12


def test_finding_one_model_reads_one_configuration() -> None:
    code = (
        "import pathlib\n"
        "seen = []\n"
        "original = pathlib.Path.read_text\n"
        "pathlib.Path.read_text = lambda self, *a, **k: (seen.append(self.name), original(self, *a, **k))[1]\n"
        "from planner.catalog.models import find_model\n"
        "find_model('gpt2').config\n"
        "import sys\n"
        "seen = [name for name in seen if name.endswith('.json')]\n"
        "assert seen == ['openai-community--gpt2.json'], seen\n"
        "assert not {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def _billion_laughs() -> dict[str, Any]:
    node: Any = 1
    for _ in range(25):
        node = {"a": node, "b": node}
    return {"model_type": "llama", "x": node}


def _cycle() -> dict[str, Any]:
    node: dict[str, Any] = {"model_type": "llama"}
    node["self"] = node
    return node


HOSTILE: list[Any] = [
    '{"hidden_size": 1}',
    '{"model_type": 1}',
    '{"model_type": ""}',
    '{"model_type": "x", "a": NaN}',
    '{"model_type": "x", "a": -Infinity}',
    '{"model_type": "x", "a": 1e999}',
    '{"model_type": "x", "model_type": "y"}',
    '{"model_type": "x", "b": {"a": 1, "a": 2}}',
    '{"model_type": "x", "a": ' + "9" * 5000 + "}",
    '{"model_type": "x", "a": ' + "9" * 30 + "}",
    '{"a":' * 100_000,
    '{"model_type": "x", "a": ' + "[" * 40 + "]" * 40 + "}",
    '{"model_type": "x", "a": "' + "b" * 2**20 + '"}',
    "{",
    '{"model_type": "x"} trailing',
    "{'model_type': 'x'}",
    "/no/such/file.json",
    "/dev/zero",
    "a\x00b",
    b"{}",
    None,
    42,
    ["model_type"],
    {"model_type": "x", "a": float("nan")},
    {"model_type": "x", "a": object()},
    {"model_type": "x", 3: 1},
    _billion_laughs(),
    _cycle(),
]


@pytest.mark.parametrize("source", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_configurations(source: Any) -> None:
    with pytest.raises(PlanError) as caught:
        load_config(source)
    assert caught.value.field.startswith("model")
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_load_from_file_folder_text_and_mapping(tmp_path: Path) -> None:
    config = {"model_type": "llama", "_name_or_path": "<script>alert(1)</script>", "n": None, "list": [1, 2.5, True]}
    file = tmp_path / "config.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(config).encode())
    assert load_config(file) == load_config(str(file)) == load_config(tmp_path) == config
    assert load_config(json.dumps(config)) == load_config(config) == config
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match="UTF-8"):
        load_config(file)
    file.write_text(json.dumps(config) + " " * 2**20)
    with pytest.raises(PlanError, match="1 MiB"):
        load_config(file)


def test_hub_failures_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    from huggingface_hub import errors

    def fail(error: Exception) -> None:
        def download(*_: object, **__: object) -> str:
            raise error

        monkeypatch.setattr(hub, "hf_hub_download", download)

    def build(kind: type[Exception]) -> Exception:
        error = kind.__new__(kind)
        Exception.__init__(error, "secret token hf_xxx")
        return error

    for kind, words in (
        (errors.GatedRepoError, "gated"),
        (errors.RepositoryNotFoundError, "not on the Hugging Face hub"),
        (errors.LocalEntryNotFoundError, "not reachable"),
        (errors.HFValidationError, "not a Hugging Face id"),
        (TimeoutError, "TimeoutError"),
    ):
        fail(build(kind))
        with pytest.raises(PlanError, match=words) as caught:
            fetch_config("org/name")
        assert "hf_xxx" not in str(caught.value)


def test_fetched_configurations_are_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    file = tmp_path / "config.json"
    monkeypatch.setattr(hub, "hf_hub_download", lambda *_, **__: str(file))
    file.write_text('{"model_type": "llama"}')
    assert fetch_config("org/name") == {"model_type": "llama"}
    file.write_text('{"model_type": NaN}')
    with pytest.raises(PlanError):
        fetch_config("org/name")


def test_counts_agree_with_transformers() -> None:
    """Every configuration builds in transformers on the meta device and has the parameters the index says."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    for entry in models():
        config = entry.config
        if "_class_name" in config:
            if denoisers.available():
                assert parameters.count(config, "denoising")["total"] == entry.parameters, entry.id
            continue
        config.pop("quantization_config", None)
        config.pop("auto_map", None)
        kind = {"kimi_k2": "deepseek_v3"}.get(config["model_type"], config["model_type"])  # published with code of its own
        built = transformers.AutoConfig.for_model(kind, **{k: v for k, v in config.items() if k != "model_type"})
        names = {"MPTForCausalLM": "MptForCausalLM"}
        name = names.get(config["architectures"][0], config["architectures"][0])
        with torch.device("meta"):
            model = getattr(transformers, name)(built)
        model.tie_weights()
        assert sum(p.numel() for p in model.parameters()) == entry.parameters, entry.id
