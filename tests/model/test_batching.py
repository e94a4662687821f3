"""Length-sorted batches, and the search for the fastest batch size that fits."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.model.batching import GROWTH, MIN_BATCH, MIN_SPEEDUP, find_fastest_batch, length_sorted_batches
from antidote_ci.model.loading import is_out_of_memory


@given(lengths=st.lists(st.integers(1, 50), max_size=60), size=st.integers(1, 20))
def test_batches_hold_every_row_once_longest_first_in_equal_sizes(lengths: list[int], size: int) -> None:
    batches = length_sorted_batches([[7] * length for length in lengths], size)
    order = [position for batch in batches for position in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[position] for position in order] == sorted(lengths, reverse=True)
    assert len(batches) == math.ceil(len(lengths) / size)
    assert max(map(len, batches), default=0) <= size
    assert max(map(len, batches), default=0) - min(map(len, batches), default=0) < max(1, len(batches))


def step_timer(fits: int, knee: int) -> Callable[[int], float]:
    """Seconds of a step: constant up to `knee` rows, then linear, and out of memory beyond `fits` rows."""

    def seconds(size: int) -> float:
        if size > fits:
            torch.empty(1 << 60)  # more than any machine has
        return max(1.0, size / knee)

    return seconds


@given(fits=st.integers(1, 300), knee=st.integers(1, 300), most=st.integers(9, 300))
def test_search_finds_the_fastest_size_that_fits(fits: int, knee: int, most: int) -> None:
    size = find_fastest_batch(step_timer(fits, knee), most)
    assert size <= fits
    assert size <= max(most, MIN_BATCH)
    # The next size would not fit, is not needed, or is no faster.
    following = min(GROWTH * size, most)
    assert following > fits or size >= most or min(following, knee) <= MIN_SPEEDUP * min(size, knee)
    assert size <= GROWTH * max(knee, MIN_BATCH)


def test_search_raises_when_one_row_does_not_fit() -> None:
    with pytest.raises(RuntimeError) as raised:
        find_fastest_batch(step_timer(0, 8), 20)
    assert is_out_of_memory(raised.value)


def test_search_passes_other_errors_on() -> None:
    def broken(size: int) -> float:
        raise RuntimeError(f"shapes do not match at {size}")

    with pytest.raises(RuntimeError, match="shapes do not match at 8"):
        find_fastest_batch(broken, 20)


def test_memory_errors_are_recognised() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
