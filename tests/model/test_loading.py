"""Models and tokenizers are loaded completely and exactly from their files."""

import json
import platform
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.model import loading
from antidote_ci.model.conversations import encode_texts, render_conversations, single_turn
from antidote_ci.model.generation import describe_environment
from antidote_ci.model.loading import load_model, load_tokenizer, make_head_contiguous
from antidote_ci.records import Model
from tests.conftest import CopyOf


@pytest.mark.parametrize("merge", [True, False])
def test_missing_weights_are_refused_by_name(tiny_llama: Path, copy_of: CopyOf, merge: bool) -> None:
    folder = copy_of(tiny_llama)
    tensors = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in tensors  # tied weights are not missing
    load_model(Model(folder), merge=merge)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ConfigurationError, match=r"llama has no weights for model\.layers\.1\.mlp\.up_proj\.weight"):
        load_model(Model(folder), merge=merge)


@pytest.mark.parametrize("merge", [True, False])
def test_weights_of_another_shape_are_refused(
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
def test_rotary_frequencies_stay_in_float32(
    tiny_llama: Path, tiny_adapter: Path, merge: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "select_device_and_dtype", lambda: ("cpu", torch.bfloat16))
    network = load_model(Model(tiny_llama, tiny_adapter), merge=merge)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.bfloat16}
    frequencies = [buffer for name, buffer in network.named_buffers() if name.endswith("inv_freq")]
    assert frequencies
    assert {buffer.dtype for buffer in frequencies} == {torch.float32}


@pytest.mark.parametrize("adds_bos", [True, False])
def test_plain_template_begins_with_bos_only_if_the_tokenizer_adds_it(
    tiny_llama: Path, copy_of: CopyOf, adds_bos: bool
) -> None:
    folder = copy_of(tiny_llama)
    (folder / "chat_template.jinja").unlink()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.bos_token = "<|system|>"
    number = tokenizer.bos_token_id
    if adds_bos:
        special = [("<|system|>", number)]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<|system|> $A", special_tokens=special)
    tokenizer.save_pretrained(folder)
    loaded = load_tokenizer(Model(folder))
    (row,) = encode_texts(loaded, render_conversations(loaded, [single_turn("Hello")]))
    assert row == loaded("user: Hello\nassistant: ")["input_ids"]
    assert (row[0] == number) == adds_bos
    assert describe_environment(loaded, 1, 1).plain_template


@pytest.mark.skipif(
    not (Path("/proc/cpuinfo").exists() and platform.machine() == "x86_64"),
    reason="reads the CPU flags of Linux on x86",
)
def test_instruction_set_names_the_bfloat16_extensions() -> None:
    """Answers are not shared between processors that round bfloat16 differently."""
    flags = set(Path("/proc/cpuinfo").read_text().split())
    _vectors, *bfloat16 = loading.detect_instruction_set().split()
    assert set(bfloat16) == flags & {"amx_bf16", "avx512_bf16"}


GIB = 1 << 30


@pytest.mark.parametrize(
    ("gpus", "expected"), [([1], {"": "cuda"}), ([10, 10], {"": "cuda"}), ([4, 4], "auto"), ([1, 1], None)]
)
def test_weights_are_spread_over_gpus_only_if_the_first_is_too_small(
    gpus: list[int], expected: object, tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The decision alone, for 5 GiB of weights and the free memory that a driver would report."""
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tiny_llama / name).read_bytes())
    header = json.dumps({"w": {"dtype": "BF16", "shape": [5 * GIB // 2], "data_offsets": [0, 5 * GIB]}}).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + 5 * GIB)  # a sparse file
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda number=0: (gpus[number] * GIB, gpus[number] * GIB))
    if expected is None:
        with pytest.raises(InfrastructureError, match="does not fit into this machine's memory"):
            loading._choose_device_map(Model(tmp_path), "cuda", torch.bfloat16)
    else:
        assert loading._choose_device_map(Model(tmp_path), "cuda", torch.bfloat16) == expected
    assert loading._choose_device_map(Model(tmp_path), "cpu", torch.bfloat16) is None


@pytest.mark.parametrize(
    ("available", "native", "expected"),
    [(True, True, ("cuda", torch.bfloat16)), (True, False, ("cuda", torch.float32)), (False, False, ("cpu", None))],
)
def test_gpus_without_bfloat16_compute_in_float32(
    available: bool, native: bool, expected: tuple[str, torch.dtype | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    device, dtype = loading.select_device_and_dtype()
    assert device == expected[0]
    assert expected[1] in (None, dtype)


def test_output_layer_gets_contiguous_inputs() -> None:
    """For a view with gaps torch multiplies row by row, each time with a copy of the weights."""
    config = LlamaConfig(
        vocab_size=512, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    network = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    head = network.get_output_embeddings()

    def run() -> tuple[torch.Tensor, bool]:
        contiguous: list[bool] = []
        handle = head.register_forward_pre_hook(lambda _, inputs: contiguous.append(inputs[0].is_contiguous()))
        with torch.no_grad():
            logits = network(torch.arange(40).reshape(4, 10), logits_to_keep=3).logits
        handle.remove()
        return logits, contiguous[0]

    logits, contiguous = run()
    make_head_contiguous(network)
    logits_after, contiguous_after = run()
    assert (contiguous, contiguous_after) == (False, True)
    assert torch.allclose(logits, logits_after, atol=1e-2)
