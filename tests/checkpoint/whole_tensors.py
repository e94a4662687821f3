"""An edit that replaces a whole tensor."""

import torch

from antidote_ci.checkpoint.tensors import Changes, ChunkEdit, flip_bits, view_bits


def replace_with(after: torch.Tensor) -> ChunkEdit:
    """Return the edit that writes `after`, of the dtype and shape of the edited tensor, in its place."""
    flat = after.reshape(-1)

    def replace(start: int, chunk: torch.Tensor) -> Changes:
        if flat.dtype != chunk.dtype:
            raise ValueError(f"{flat.dtype} cannot replace {chunk.dtype}")
        bits = view_bits(chunk)
        return flip_bits(bits, bits ^ view_bits(flat[start : start + len(chunk)]))

    return replace
