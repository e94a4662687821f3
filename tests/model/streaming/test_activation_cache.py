"""The activation cache returns tensors bit for bit, from memory or disk, and keeps to its budget."""

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antidote_ci.errors import InfrastructureError
from antidote_ci.model.streaming.sequential_forward import ActivationCache

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.int64, torch.bool)
OPERATIONS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(DTYPES), st.integers(0, 40)), max_size=20)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS, budget=st.integers(0, 400))
def test_cache_behaves_like_a_dictionary_within_its_budget(
    operations: list[tuple[str, torch.dtype, int]], budget: int, tmp_path: Path
) -> None:
    cache, expected = ActivationCache(tmp_path, budget), dict[str, torch.Tensor]()
    for number, (key, dtype, size) in enumerate(operations):
        if size:
            expected[key] = (torch.arange(2 * size) + number).to(dtype).reshape(size, 2).T
            cache.put(key, expected[key])
        else:
            expected.pop(key, None)
            cache.drop(key)
        assert cache.bytes_in_memory() <= budget
    for key in "abcd":
        if key in expected:
            assert torch.equal(cache.get(key), expected[key])
            assert cache.get(key).dtype == expected[key].dtype
        else:
            with pytest.raises(KeyError):
                cache.get(key)
        cache.drop(key)
    assert list(tmp_path.iterdir()) == []


def test_full_disk_raises_infrastructure_error(tmp_path: Path) -> None:
    cache = ActivationCache(tmp_path / "folder", 0)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.hidden").symlink_to("/dev/full")
    with pytest.raises(InfrastructureError, match="No space left on device"):
        cache.put("a", torch.ones(8))
