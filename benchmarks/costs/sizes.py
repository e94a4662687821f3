"""Checkpoints of the shapes of known models, in sparse files: their headers can be read, their weights take no disk."""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

RANK = 32


@dataclass(frozen=True)
class Shape:
    """A decoder of the Llama family."""

    name: str
    hidden: int
    blocks: int
    inner: int
    heads: int
    key_value_heads: int
    vocabulary: int
    is_tied: bool = False

    def linears(self) -> dict[str, tuple[int, int]]:
        """The shape of each linear layer of a block."""
        key_value = self.hidden * self.key_value_heads // self.heads
        return {
            "self_attn.q_proj": (self.hidden, self.hidden),
            "self_attn.k_proj": (key_value, self.hidden),
            "self_attn.v_proj": (key_value, self.hidden),
            "self_attn.o_proj": (self.hidden, self.hidden),
            "mlp.gate_proj": (self.inner, self.hidden),
            "mlp.up_proj": (self.inner, self.hidden),
            "mlp.down_proj": (self.hidden, self.inner),
        }

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor."""
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocabulary, self.hidden)}
        for number in range(self.blocks):
            block = f"model.layers.{number}"
            shapes |= {f"{block}.{name}.weight": shape for name, shape in self.linears().items()}
            shapes |= {f"{block}.{n}.weight": (self.hidden,) for n in ("input_layernorm", "post_attention_layernorm")}
        shapes["model.norm.weight"] = (self.hidden,)
        return shapes if self.is_tied else shapes | {"lm_head.weight": (self.vocabulary, self.hidden)}

    def config(self) -> dict[str, Any]:
        """The content of config.json, for bfloat16."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.inner,
            "num_hidden_layers": self.blocks,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_value_heads,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": self.is_tied,
            "dtype": "bfloat16",
        }


SHAPES = (
    Shape("3B", 2048, 36, 11008, 16, 2, 151936, is_tied=True),  # Qwen2.5 3B
    Shape("7B", 3584, 28, 18944, 28, 4, 152064),  # Qwen2.5 7B
    Shape("13B", 5120, 40, 13824, 40, 40, 32000),  # Llama 2 13B
    Shape("70B", 8192, 80, 28672, 64, 8, 128256),  # Llama 3 70B
)


def write_full(shape: Shape, folder: Path) -> Path:
    """Write a full checkpoint in bfloat16."""
    return _write(folder, "model.safetensors", "config.json", shape.config(), shape.tensors())


def write_adapter(shape: Shape, base: Path, folder: Path) -> Path:
    """Write a LoRA adapter of rank RANK on all linear layers."""
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": [name.partition(".")[2] for name in shape.linears()],
    }
    shapes = dict[str, tuple[int, ...]]()
    for number in range(shape.blocks):
        for name, (rows, columns) in shape.linears().items():
            path = f"base_model.model.model.layers.{number}.{name}"
            shapes |= {f"{path}.lora_A.weight": (RANK, columns), f"{path}.lora_B.weight": (rows, RANK)}
    return _write(folder, "adapter_model.safetensors", "adapter_config.json", config, shapes)


def _write(
    folder: Path, weights: str, config_name: str, config: dict[str, Any], shapes: dict[str, tuple[int, ...]]
) -> Path:
    folder.mkdir(parents=True)
    (folder / config_name).write_text(json.dumps(config), encoding="utf-8")
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor_shape in shapes.items():
        start, end = end, end + 2 * prod(tensor_shape)
        header[name] = {"dtype": "BF16", "shape": tensor_shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / weights).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return folder
