"""The choice of hardware for a Job."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.cost_model import GPU_MEMORY_FACTOR
from antidote_ci.errors import ConfigurationError
from antidote_ci.hub.jobs_api import Hardware
from antidote_ci.jobs.job_estimate import cheapest_flavor, describe_flavor, find_flavor
from antidote_ci.pipeline.dry_run import DryRunForecast

GB = 10**9
CPU = Hardware("cpu-basic", "CPU Basic", 2, 16 * GB, None, 0.01)
T4 = Hardware("t4-small", "Nvidia T4 - small", 4, 15 * GB, 16 * GB, 0.40)
L4 = Hardware("l4x1", "1x Nvidia L4", 8, 30 * GB, 24 * GB, 0.80)
H200 = Hardware("h200", "1x Nvidia H200", 23, 256 * GB, 141 * GB, 5.00)
OFFERED = [H200, CPU, L4, T4]


def of(gigabytes: float) -> DryRunForecast:
    """The forecast of a model of this size."""
    return DryRunForecast(
        "org/model",
        "0" * 40,
        None,
        "taylor",
        "qwen3guard",
        {},
        0,
        0,
        0,
        0,
        0,
        0,
        round(gigabytes * GB),
        0,
        0,
        "none",
    )


@pytest.mark.parametrize(
    ("gigabytes", "flavor"), [(0.8, "t4-small"), (5, "t4-small"), (10, "l4x1"), (15, "l4x1"), (17, "h200")]
)
def test_cheapest_flavor(gigabytes: float, flavor: str) -> None:
    assert cheapest_flavor(of(gigabytes), OFFERED).name == flavor


@given(st.floats(0.1, 90), st.permutations(OFFERED))
def test_cheapest_flavor_fits_the_model(gigabytes: float, offered: list[Hardware]) -> None:
    chosen = cheapest_flavor(of(gigabytes), offered)
    assert chosen.gpu_memory is not None
    # The T4 computes in float32.
    needed = {item.name: (2 if item == T4 else 1) * GPU_MEMORY_FACTOR * gigabytes * GB for item in offered}
    assert chosen.gpu_memory >= needed[chosen.name] - 1
    assert chosen.memory >= gigabytes * GB - 1
    cheaper = [item for item in offered if item.dollars < chosen.dollars and item.gpu_memory]
    assert all(needed[item.name] + 1 > (item.gpu_memory or 0) or item.memory < gigabytes * GB for item in cheaper)


def test_main_memory_must_fit_the_model_too() -> None:
    assert cheapest_flavor(of(5), [T4, L4]) == T4
    assert cheapest_flavor(of(5), [replace(T4, memory=4 * GB), L4]) == L4


def test_model_that_fits_nowhere() -> None:
    with pytest.raises(ConfigurationError, match="needs about 150 GB of GPU memory") as raised:
        cheapest_flavor(of(100), OFFERED)
    assert "docs/servers.md" in str(raised.value.hint)


def test_unknown_flavor_lists_the_offered_ones() -> None:
    assert find_flavor("cpu-basic", OFFERED) == CPU
    with pytest.raises(ConfigurationError, match="'l4', which the Hub does not offer") as raised:
        find_flavor("l4", OFFERED)
    assert raised.value.exit_code == 2
    cause = str(raised.value.cause)
    assert "cpu-basic (CPU Basic, 16 GB, no GPU, $0.01 an hour)" in cause
    assert describe_flavor(L4) in cause
    assert cause.index("cpu-basic") < cause.index("t4-small") < cause.index("l4x1") < cause.index("h200")
