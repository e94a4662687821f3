"""A checkpoint with the sizes of Llama 70B: real configuration, tokenizer and headers, and weights that are holes."""

import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from transformers import LlamaConfig

from antidote_ci.checkpoint.headers import INDEX_FILE
from tests import tiny

LAYERS, HIDDEN, INTERMEDIATE, VOCABULARY = 80, 8192, 28672, 128_256
HEADS, KEY_VALUE_HEADS, HEAD_WIDTH = 64, 8, 128
WEIGHTS = 70_553_706_496
"""As in https://huggingface.co/meta-llama/Llama-3.1-70B."""
RANK = 8


def write_fake_70b(folder: Path) -> Path:
    """Write the checkpoint: 141 GB of sparse files in 81 shards, which take no disk space."""
    config = LlamaConfig(
        architectures=["LlamaForCausalLM"],
        vocab_size=VOCABULARY,
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_VALUE_HEADS,
        head_dim=HEAD_WIDTH,
        tie_word_embeddings=False,
        dtype="bfloat16",
        bos_token_id=None,
        eos_token_id=tiny.SPECIAL_TOKENS.index("<|end|>"),
        pad_token_id=tiny.SPECIAL_TOKENS.index("<|pad|>"),
    )
    config.save_pretrained(folder)
    tiny.build_tokenizer(["a b"], vocabulary=300).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: llama3.1\n---\n")
    weight_map: dict[str, str] = {}
    for number, shapes in enumerate(_shards(), 1):
        shard = f"model-{number:05}-of-{LAYERS + 1:05}.safetensors"
        _write_sparse(folder / shard, "BF16", shapes)
        weight_map |= dict.fromkeys(shapes, shard)
    (folder / INDEX_FILE).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def write_fake_adapter(folder: Path, base: Path) -> Path:
    """Write a LoRA adapter of its attention, 0.1 GB of sparse files in float32."""
    folder.mkdir()
    names = ("q_proj", "v_proj")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": names,
        "base_model_name_or_path": str(base),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    outputs = {"q_proj": HEADS * HEAD_WIDTH, "v_proj": KEY_VALUE_HEADS * HEAD_WIDTH}
    shapes = {}
    for layer in range(LAYERS):
        for name in names:
            prefix = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            shapes[f"{prefix}.lora_A.weight"] = (RANK, HIDDEN)
            shapes[f"{prefix}.lora_B.weight"] = (outputs[name], RANK)
    _write_sparse(folder / "adapter_model.safetensors", "F32", shapes)
    return folder


def _shards() -> Iterator[dict[str, tuple[int, ...]]]:
    keys_and_values = KEY_VALUE_HEADS * HEAD_WIDTH
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        yield {
            f"{prefix}.input_layernorm.weight": (HIDDEN,),
            f"{prefix}.self_attn.q_proj.weight": (HEADS * HEAD_WIDTH, HIDDEN),
            f"{prefix}.self_attn.k_proj.weight": (keys_and_values, HIDDEN),
            f"{prefix}.self_attn.v_proj.weight": (keys_and_values, HIDDEN),
            f"{prefix}.self_attn.o_proj.weight": (HIDDEN, HEADS * HEAD_WIDTH),
            f"{prefix}.post_attention_layernorm.weight": (HIDDEN,),
            f"{prefix}.mlp.gate_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{prefix}.mlp.up_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{prefix}.mlp.down_proj.weight": (HIDDEN, INTERMEDIATE),
        }
    yield {
        "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (VOCABULARY, HIDDEN),
    }


def _write_sparse(path: Path, dtype: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """A safetensors file of zeros. Its header is real, and its data is a hole."""
    item = {"BF16": 2, "F32": 4}[dtype]
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + item * math.prod(shape)
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": (start, end)}
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + end)
