"""How many rows at a time: length-sorted batches, and the probe that finds their size."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from antidote_ci.model.decoding import decode_step, prefill
from antidote_ci.model.loading import is_out_of_memory

MIN_BATCH = 8
"""Where the probe begins; a request this small is one batch."""
TIMED_STEPS = 3
"""Timed for each size; the fastest counts, for other work on the machine only ever slows one down."""
GROWTH = 4
MIN_SPEEDUP = 1.15
"""How much faster the next size must be: what is gained by less is lost again in padding."""


def length_sorted_batches(rows: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    """Positions of the rows, longest first, at most `batch_size` at a time."""
    order = sorted(range(len(rows)), key=lambda position: (-len(rows[position]), position))
    batches = math.ceil(len(order) / batch_size)
    # Even batches: a last one of four costs nearly as much as one of forty.
    size = math.ceil(len(order) / batches) if batches else 1
    return [order[start : start + size] for start in range(0, len(order), size)]


def find_fastest_batch(seconds: Callable[[int], float], most: int) -> int:
    """The batch size with the most rows per second: grown while that pays, up to `most` rows.

    `seconds` times one step of a size; a size at which it runs out of memory is too large. Raises what it raised when
    not even one row fits.
    """
    size, rate, candidate = 0, 0.0, MIN_BATCH
    while True:
        try:
            found = candidate / seconds(candidate)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error) or candidate == 1:
                raise
            found = 0.0
        if found == 0.0 and size == 0:
            candidate //= 2
            most = 1  # memory is scarce: the first that fits is taken
            continue
        if found < rate * MIN_SPEEDUP:
            return size
        size, rate = candidate, found
        if size >= most:
            return size
        candidate = min(GROWTH * candidate, most)


def time_step(network: Any, row: Sequence[int], size: int) -> float:  # noqa: ANN401 - transformers is untyped
    """Seconds of one decoding step of `size` rows as long as `row`, whose cache is computed once and repeated."""
    import torch

    with torch.inference_mode():
        state = prefill(network, [row], TIMED_STEPS)
        state.select_rows(torch.zeros(size, dtype=torch.long, device=state.mask.device))
        times = []
        for _ in range(TIMED_STEPS):
            started = time.perf_counter()
            decode_step(network, state, state.scores.argmax(dim=-1))
            state.scores.sum().item()  # an accelerator answers when it is done
            times.append(time.perf_counter() - started)
    return min(times)
