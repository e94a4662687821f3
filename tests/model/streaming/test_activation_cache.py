"""What is put in comes out bit for bit, in memory or on disk, and memory holds no more than the budget."""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antidote_ci.errors import InfrastructureError
from antidote_ci.model.streaming.activation_cache import ActivationCache

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.int64, torch.bool)
ACTS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(DTYPES), st.integers(0, 40)), max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(acts=ACTS, budget=st.integers(0, 400))
def test_it_is_a_dictionary_with_a_bound(acts: list[tuple[str, torch.dtype, int]], budget: int, tmp_path: Path) -> None:
    reservoir, expected = ActivationCache(tmp_path, budget), dict[str, torch.Tensor]()
    for number, (key, dtype, size) in enumerate(acts):
        if size:
            expected[key] = (torch.arange(2 * size) + number).to(dtype).reshape(size, 2).T
            reservoir.put(key, expected[key])
        else:
            expected.pop(key, None)
            reservoir.drop(key)
    assert reservoir.peak_bytes <= budget
    for key in "abcd":
        if key in expected:
            assert torch.equal(reservoir.get(key), expected[key])
            assert reservoir.get(key).dtype == expected[key].dtype
        else:
            with pytest.raises(KeyError):
                reservoir.get(key)
        reservoir.drop(key)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    reservoir = ActivationCache(tmp_path / "folder", 0)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.hidden").symlink_to("/dev/full")
    with pytest.raises(InfrastructureError, match="No space left on device"):
        reservoir.put("a", torch.ones(8))
