"""Random Llama checkpoints of any size, written shard by shard: as large as a disk, without ever being in memory."""

import json
import shutil
from pathlib import Path

import torch

from antidote_ci.checkpoint.tensors import open_writer
from benchmarks.costs.sizes import Shape
from demo.models import write_base

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
VOCABULARY = 49152
SETTINGS = {"max_position_embeddings": 4096, "eos_token_id": 2, "bos_token_id": 1}
"""Keys of config.json that say nothing of the shape."""


def llama(blocks: int, width: int = 2048, inner: int = 8192) -> Shape:
    """A Llama with the tokenizer of SmolLM2. 20 blocks of the default width take 3 GB with their embeddings."""
    return Shape("random", width, blocks, inner, width // 64, width // 64, VOCABULARY, is_tied=True)


def write_pair(folder: Path, shape: Shape, shards: int) -> tuple[Path, Path]:
    """Write a fine-tune and the reference that it is near to."""
    source, reference = folder / "finetune", folder / "reference"
    base = folder / "base"
    write_base(base)
    for checkpoint, moved in ((reference, 0.0), (source, 0.002)):
        checkpoint.mkdir()
        for name in TOKENIZER:
            if (base / name).exists():
                shutil.copy(base / name, checkpoint / name)
        _write(checkpoint, shape, shards, moved)
    shutil.rmtree(base)
    return source, reference


def _write(folder: Path, shape: Shape, shards: int, moved: float) -> None:
    (folder / "config.json").write_text(json.dumps(shape.config() | SETTINGS))
    tensors = shape.tensors()
    names = list(tensors)
    per_shard = -(-len(names) // shards)
    weight_map: dict[str, str] = {}
    for number, start in enumerate(range(0, len(names), per_shard)):
        chunk = names[start : start + per_shard]
        shard = f"model-{number + 1:05d}-of-{shards:05d}.safetensors"
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
