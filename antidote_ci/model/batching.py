"""Batches of token rows: sorting by length, padding, and the search for the fastest batch size."""

import math
from collections.abc import Callable, Sequence

from antidote_ci.model import Tensor
from antidote_ci.model.loading import is_out_of_memory

MIN_BATCH = 16
"""The first size that the search tries. A request with fewer rows is one batch."""
GROWTH = 8
MIN_SPEEDUP = 1.15
"""The speed-up that a larger size must bring: a smaller one is lost again to padding."""


def length_sorted_batches(rows: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    """Positions of the rows, longest first, in batches of at most `batch_size`."""
    order = sorted(range(len(rows)), key=lambda position: (-len(rows[position]), position))
    batches = math.ceil(len(order) / batch_size)
    # Batches of equal size: a last batch of four rows costs nearly as much as one of forty.
    size = math.ceil(len(order) / batches) if batches else 1
    return [order[start : start + size] for start in range(0, len(order), size)]


def common_prefix_length(rows: Sequence[Sequence[int]]) -> int:
    """The number of tokens with which all rows begin."""
    columns = enumerate(zip(*rows, strict=False))
    return next((position for position, tokens in columns if len(set(tokens)) > 1), min(map(len, rows)))


def pad_left(rows: Sequence[Sequence[int]], device: str) -> dict[str, Tensor]:
    """The inputs of a forward pass, [rows, tokens] each. Padding has no position: every row begins at position 0."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0)}


def pad_right(rows: Sequence[Sequence[int]], device: str) -> dict[str, Tensor]:
    """The inputs of a forward pass that counts positions from the first column, [rows, tokens] each."""
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return {"input_ids": ids, "attention_mask": mask}


def find_fastest_batch(seconds: Callable[[int], float], rows: int) -> int:
    """The batch size with the most rows per second, of at most `rows` rows. The size grows as long as that is faster.

    `seconds(size)` measures one decoding step. A size at which it runs out of memory is too large. Raises the error of
    `seconds` when even one row does not fit.
    """
    size, step, candidate = 0, 0.0, MIN_BATCH
    while True:
        try:
            candidate_step = seconds(candidate)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or candidate == 1:
                raise
            candidate_step = math.inf
        if candidate_step == math.inf and size == 0:
            candidate //= 2
            rows = 1  # memory is scarce: the first size that fits is taken
            continue
        if candidate_step > _longest_step(size, step, candidate):
            return size
        growth = (candidate_step - step) / (candidate - size) if size else 0.0
        size, step = candidate, candidate_step
        candidate = min(GROWTH * size, rows)
        # More rows never cost less than the ones before them: a larger size takes at least this long.
        if size >= rows or step + growth * (candidate - size) > _longest_step(size, step, candidate):
            return size


def _longest_step(size: int, step: float, candidate: int) -> float:
    """The seconds that a step of `candidate` rows may take, to be worth it after one of `size` rows in `step`."""
    return step * candidate / size / MIN_SPEEDUP if size else math.inf
