"""Length-sorted batches, and the search for the fastest batch size that fits."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.model.batching import (
    GROWTH,
    MIN_BATCH,
    MIN_SPEEDUP,
    common_prefix_length,
    find_fastest_batch,
    length_sorted_batches,
)
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


@given(
    rows=st.lists(st.lists(st.integers(0, 2), max_size=6), min_size=1, max_size=4),
    prefix=st.lists(st.just(9), max_size=3),
)
def test_common_prefix_is_the_longest_one(rows: list[list[int]], prefix: list[int]) -> None:
    rows = [prefix + row for row in rows]
    length = common_prefix_length(rows)
    assert length >= len(prefix)
    assert all(row[:length] == rows[0][:length] for row in rows)
    assert min(map(len, rows)) == length or len({row[length] for row in rows}) > 1


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


def test_size_that_cannot_pay_is_not_measured() -> None:
    measured = []

    def seconds(size: int) -> float:
        measured.append(size)
        return 0.04 + 0.0015 * size

    assert find_fastest_batch(seconds, 200) == MIN_BATCH * GROWTH
    assert measured == [MIN_BATCH, MIN_BATCH * GROWTH]


def test_search_raises_when_one_row_does_not_fit() -> None:
    with pytest.raises(RuntimeError) as raised:
        find_fastest_batch(step_timer(0, 8), 20)
    assert is_out_of_memory(raised.value)


def test_search_passes_other_errors_on() -> None:
    def broken(size: int) -> float:
        raise RuntimeError(f"shapes do not match at {size}")

    with pytest.raises(RuntimeError, match=f"shapes do not match at {MIN_BATCH}"):
        find_fastest_batch(broken, 20)


def test_memory_errors_are_recognised() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
