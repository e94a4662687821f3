"""Random Llama checkpoints of any size, written shard by shard: as large as a disk, without ever being in memory."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from antidote_ci.checkpoint.tensors import open_writer
from demo.models import write_base

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
VOCABULARY = 49152


@dataclass(frozen=True)
class Shape:
    """A Llama in bfloat16; 20 blocks of the default width take 3 GB with their embeddings."""

    blocks: int = 20
    width: int = 2048
    inner: int = 8192
    shards: int = 10

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes, in the order of the files."""
        found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, self.width)}
        for number in range(self.blocks):
            block = f"model.layers.{number}"
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                found[f"{block}.self_attn.{name}.weight"] = (self.width, self.width)
            for name in ("gate_proj", "up_proj"):
                found[f"{block}.mlp.{name}.weight"] = (self.inner, self.width)
            found[f"{block}.mlp.down_proj.weight"] = (self.width, self.inner)
            for name in ("input_layernorm", "post_attention_layernorm"):
                found[f"{block}.{name}.weight"] = (self.width,)
        return found | {"model.norm.weight": (self.width,)}

    def block_bytes(self) -> int:
        """Of one block."""
        return 2 * (4 * self.width**2 + 3 * self.width * self.inner + 2 * self.width)


def write_pair(folder: Path, shape: Shape) -> tuple[Path, Path]:
    """A fine-tune and the reference it is near to."""
    source, reference = folder / "finetune", folder / "reference"
    base = folder / "base"
    write_base(base)
    for each, moved in ((reference, 0.0), (source, 0.002)):
        each.mkdir()
        for name in TOKENIZER:
            if (base / name).exists():
                shutil.copy(base / name, each / name)
        _write(each, shape, moved)
    shutil.rmtree(base)
    return source, reference


def _write(folder: Path, shape: Shape, moved: float) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.blocks,
        "num_attention_heads": shape.width // 64,
        "num_key_value_heads": shape.width // 64,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
        "eos_token_id": 2,
        "bos_token_id": 1,
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    tensors = shape.tensors()
    names = list(tensors)
    per_shard = -(-len(names) // shape.shards)
    weight_map: dict[str, str] = {}
    for number, start in enumerate(range(0, len(names), per_shard)):
        chunk = names[start : start + per_shard]
        shard = f"model-{number + 1:05d}-of-{shape.shards:05d}.safetensors"
        weight_map |= dict.fromkeys(chunk, shard)
        with open_writer(folder / shard, {name: ("BF16", tensors[name]) for name in chunk}, {"format": "pt"}) as write:
            for name in chunk:
                write(_values(names.index(name), tensors[name], moved if len(tensors[name]) == 2 else 0.0))
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _values(seed: int, shape: tuple[int, ...], moved: float) -> torch.Tensor:
    if len(shape) == 1:
        return torch.ones(shape, dtype=torch.bfloat16)
    generator = torch.Generator().manual_seed(seed)
    # One row of noise, turned: random enough to compute with, and quick to make by the gigabyte.
    row = torch.randn(shape[1], generator=generator) * 0.02
    scales = torch.randn(shape[0], 1, generator=generator)
    noise = torch.randn(shape[1], generator=torch.Generator().manual_seed(seed + 1)) * moved
    values = row * scales
    if moved:
        values += noise * torch.randn(shape[0], 1, generator=generator)
    return values.to(torch.bfloat16)
