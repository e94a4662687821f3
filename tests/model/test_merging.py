"""Adapters are merged with the bits of peft's merge in float32, in memory and in files."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.errors import UnsafeCheckpoint
from antidote_ci.model import loading, merging
from antidote_ci.model.loading import load_model
from antidote_ci.model.merging import MergeRequest, merge_checkpoint
from antidote_ci.records import Model, Progress
from tests import tiny
from tests.builders import ignore
from tests.conftest import CopyOf
from tests.model.streaming import architectures
from tests.model.streaming.test_lora import ADAPTERS, write_adapter

# peft warns about tied weights
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


def merge_independently(model: Model, has_factors_of_tied_head: bool) -> dict[str, torch.Tensor]:
    """The parameters after peft's own merge in float32, rounded to bfloat16.

    peft adds the factors of a tied head to the embedding, too. W_head = W_embedding + s B A, s = alpha / r = 6 / 4.
    """
    assert model.adapter is not None
    network = AutoModelForCausalLM.from_pretrained(model.folder, dtype=torch.float32)
    embedding = network.get_input_embeddings().weight.detach().clone()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged: Any = PeftModel.from_pretrained(network, model.adapter).merge_and_unload()
    parameters = {name: parameter.detach() for name, parameter in merged.named_parameters()}
    if has_factors_of_tied_head:
        factors = load_file(model.adapter / "adapter_model.safetensors")
        a, b = (factors[f"base_model.model.lm_head.lora_{letter}.weight"] for letter in "AB")
        parameters["lm_head.weight"] = embedding + 6 / 4 * (b @ a)
        parameters["model.embed_tokens.weight"] = embedding
    return {name: parameter.bfloat16() for name, parameter in parameters.items()}


def require_equal(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert actual[name].dtype == torch.bfloat16
        assert torch.equal(actual[name], tensor), name


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of two words: the architectures have few embeddings."""
    words = Tokenizer(WordLevel({"<|end|>": 0, "a": 1}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<|end|>").save_pretrained(folder)


@pytest.mark.parametrize("stored", ["bfloat16", "float32"])
@pytest.mark.parametrize("kind", ADAPTERS)
def test_merged_weights_have_the_bits_of_peft(
    kind: str, stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "select_device_and_dtype", lambda: ("cpu", torch.bfloat16))
    architecture, config = ADAPTERS[kind]
    base = architectures.write(architecture, tmp_path / "base")
    if stored == "bfloat16":
        network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
        base = tmp_path / "base in bfloat16"
        network.save_pretrained(base)
    write_adapter(tmp_path / "adapter", base, config)
    model = Model(base, tmp_path / "adapter")
    expected = merge_independently(model, has_factors_of_tied_head=kind == "factors of a tied head")
    require_equal(dict(load_model(model, merge=True).named_parameters()), expected)
    write_tokenizer(base)
    reports: list[Progress] = []
    merge_checkpoint(MergeRequest(model, tmp_path / "merged"), reports.append)
    assert bool(reports) == ("tied" not in kind), "only an adapter of tied weights is merged in memory"
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto")
    require_equal(dict(network.named_parameters()), expected)


@pytest.mark.parametrize("shards", [1, 3])
def test_files_are_those_of_a_checkpoint_that_transformers_saves(
    shards: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tiny.write_tiny_llama(tmp_path / "base", shards=shards)
    (base / "generation_config.json").write_text('{"eos_token_id": 5, "temperature": 0.5, "do_sample": true}')
    model = Model(base, tiny.write_tiny_adapter(tmp_path / "adapter", base))
    reports: list[Progress] = []
    merge_checkpoint(MergeRequest(model, tmp_path / "merged"), reports.append)
    monkeypatch.setattr(merging, "has_own_weights", lambda _network, _adapter: False)
    merge_checkpoint(MergeRequest(model, tmp_path / "expected"), ignore)
    merged, expected = read_layout(tmp_path / "merged"), read_layout(tmp_path / "expected")
    assert merged.shards == read_layout(base).shards
    assert merged.tensors.keys() == expected.tensors.keys()
    for path in (tmp_path / "expected").iterdir():
        if path.suffix != ".safetensors":
            assert (tmp_path / "merged" / path.name).read_bytes() == path.read_bytes(), path.name
    assert json.loads((tmp_path / "merged" / "generation_config.json").read_text())["eos_token_id"] == 5
    assert AutoTokenizer.from_pretrained(tmp_path / "merged").chat_template == tiny.TEMPLATE
    assert reports[-1] == Progress("tensors merged", len(merged.tensors), len(merged.tensors))


def test_merge_that_overflows_is_refused(tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, copy_of: CopyOf) -> None:
    adapter = copy_of(tiny_adapter)
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({name: tensor * 3e30 for name, tensor in weights.items()}, adapter / "adapter_model.safetensors")
    with pytest.raises(UnsafeCheckpoint, match="overflows when the adapter is merged"):
        merge_checkpoint(MergeRequest(Model(tiny_llama, adapter), tmp_path / "merged"), ignore)
    assert not list((tmp_path / "merged").glob("*.safetensors*"))
