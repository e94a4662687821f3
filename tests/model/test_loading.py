"""What is loaded is what the files hold, and all of it."""

import json
import platform
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from antidote_ci.errors import ConfigurationError
from antidote_ci.model import loading
from antidote_ci.model.conversations import encode_texts, render_conversations, single_turn
from antidote_ci.model.generation import describe_environment
from antidote_ci.model.loading import load_model, load_tokenizer
from antidote_ci.records import Model
from tests.conftest import CopyOf


@pytest.mark.parametrize("merge", [True, False])
def test_missing_weights_are_refused_by_name(tiny_llama: Path, copy_of: CopyOf, merge: bool) -> None:
    folder = copy_of(tiny_llama)
    tensors = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in tensors  # tied weights are no gap
    load_model(Model(folder), merge=merge)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigurationError, match=r"llama has no weights for model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(Model(folder), merge=merge)


@pytest.mark.parametrize("merge", [True, False])
def test_weights_of_other_shapes_are_a_mistake_in_the_configuration(
    tiny_llama: Path, tiny_adapter: Path, copy_of: CopyOf, merge: bool
) -> None:
    folder = copy_of(tiny_llama)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 298}))
    for adapter in (None, tiny_adapter):
        with pytest.raises(
            ConfigurationError, match=r"embed_tokens\.weight in llama has shape \[290, 64\], .* \[298, 64\]"
        ):
            load_model(Model(folder, adapter), merge=merge)


@pytest.mark.parametrize("merge", [True, False])
def test_rotary_frequencies_stay_as_exact_as_the_framework_makes_them(
    tiny_llama: Path, tiny_adapter: Path, merge: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "select_device_and_dtype", lambda: ("cpu", torch.bfloat16))
    network = load_model(Model(tiny_llama, tiny_adapter), merge=merge)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}
    frequencies = [buffer for name, buffer in network.named_buffers() if name.endswith("inv_freq")]
    assert frequencies
    assert {buffer.dtype for buffer in frequencies} == {torch.float32}


@pytest.mark.parametrize("written", [True, False])
def test_without_a_chat_template_a_text_begins_as_its_tokenizer_begins_it(
    tiny_llama: Path, copy_of: CopyOf, written: bool
) -> None:
    folder = copy_of(tiny_llama)
    (folder / "chat_template.jinja").unlink()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.bos_token = "<|system|>"
    number = tokenizer.bos_token_id
    if written:
        special = [("<|system|>", number)]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<|system|> $A", special_tokens=special)
    tokenizer.save_pretrained(folder)
    loaded = load_tokenizer(Model(folder))
    (row,) = encode_texts(loaded, render_conversations(loaded, [single_turn("Hello")]))
    assert row == loaded("user: Hello\nassistant: ")["input_ids"]
    assert (row[0] == number) == written
    assert describe_environment(loaded, 1, 1).plain_template


@pytest.mark.skipif(
    not (Path("/proc/cpuinfo").exists() and platform.machine() == "x86_64"), reason="asks Linux in the words of x86"
)
def test_two_processors_that_round_bfloat16_otherwise_are_two() -> None:
    """Answers of one are never taken for those of the other: the widest vectors alone do not tell them apart."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    _vectors, *bfloat16 = loading.detect_instruction_set().split()
    assert set(bfloat16) == flags & {"amx_bf16", "avx512_bf16"}
