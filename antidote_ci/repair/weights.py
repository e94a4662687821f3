"""One tensor of a checkpoint, read where it lies."""

from typing import TYPE_CHECKING

from antidote_ci.checkpoint.layout import Layout

if TYPE_CHECKING:
    import torch


def read(layout: Layout, name: str) -> "torch.Tensor":
    """The tensor `name` in its own dtype."""
    from safetensors import safe_open

    with safe_open(layout.folder / layout.weight_map[name], framework="pt") as shard:
        tensor: torch.Tensor = shard.get_tensor(name)
    return tensor


def delta(source: Layout, reference: Layout | None, name: str) -> "torch.Tensor":
    """What fine-tuning added: W - W_ref in float32, or an adapter's factor itself, whose reference is zero."""
    weight = read(source, name).float()
    return weight if reference is None else weight - read(reference, name).float()
