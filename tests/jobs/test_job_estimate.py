"""The choice of hardware for a Job."""

from dataclasses import replace

import pytest
from huggingface_hub import JobHardwareInfo
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.cost_model import GPU_MEMORY_FACTOR
from antidote_ci.errors import ConfigurationError
from antidote_ci.hub.jobs_api import Hardware, to_hardware
from antidote_ci.jobs.job_estimate import MemoryNeed, cheapest_flavor, describe_flavor, find_flavor
from loopback_hub.jobs import flavor_json
from loopback_hub.records import HARDWARE

GB = 10**9
CPU = Hardware("cpu-basic", "CPU Basic", 2, 16 * GB, None, 0.01)
T4 = Hardware("t4-small", "Nvidia T4 - small", 4, 15 * GB, 16 * GB, 0.40)
L4 = Hardware("l4x1", "1x Nvidia L4", 8, 30 * GB, 24 * GB, 0.80)
H200 = Hardware("h200", "1x Nvidia H200", 23, 256 * GB, 141 * GB, 5.00)
OFFERED = [H200, CPU, L4, T4]


def of(gigabytes: float) -> MemoryNeed:
    """The need of a model of this size in 16 bits."""
    return MemoryNeed("org/model", round(gigabytes * GB))


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


CATALOGUE = [to_hardware(JobHardwareInfo(**flavor_json(flavor))) for flavor in HARDWARE]


@pytest.mark.parametrize(
    ("need", "flavor"),
    [
        (MemoryNeed("a", 14 * GB + GB // 2), "l4x1"),
        (MemoryNeed("a", 14 * GB + GB // 2, merging=28 * GB), "l40sx1"),
        (MemoryNeed("a", 26 * GB), "l40sx1"),
        (MemoryNeed("a", 80 * GB), "h200"),
        (MemoryNeed("a", 140 * GB, on_server=True), "a100x4"),
    ],
    ids=["7B", "7B adapter of a base in float32", "13B", "40B", "70B behind a server"],
)
def test_flavor_of_the_whole_catalogue(need: MemoryNeed, flavor: str) -> None:
    assert cheapest_flavor(need, CATALOGUE).name == flavor


def test_models_need_one_gpu_that_is_large_enough() -> None:
    """All flavors with four A100 or eight H200 together have more memory."""
    with pytest.raises(ConfigurationError, match="needs about 210 GB of GPU memory") as raised:
        cheapest_flavor(of(140), CATALOGUE)
    assert "of one GPU" in str(raised.value.cause)


def test_memory_of_the_catalogue_is_that_of_one_gpu() -> None:
    gpus = {hardware.name: (hardware.gpus, hardware.gpu_memory) for hardware in CATALOGUE}
    assert gpus["a100x4"] == (4, 80 * GB)
    assert gpus["h200x8"] == (8, 141 * GB)
    assert gpus["cpu-xl"] == (1, None)
    assert "80 GB on each of 4 GPUs, $10.00 an hour" in describe_flavor(find_flavor("a100x4", CATALOGUE))


@pytest.mark.parametrize(("kind", "maker"), [("tpu", "Google"), ("gpu", "AMD"), ("neuron", "AWS")])
def test_other_accelerators_are_never_chosen(kind: str, maker: str) -> None:
    listed = flavor_json(HARDWARE[-1])
    accelerator = {"type": kind, "model": "v5e", "quantity": "8", "vram": "128 GB", "manufacturer": maker}
    hardware = to_hardware(JobHardwareInfo(**(listed | {"accelerator": accelerator})))
    assert hardware.gpu_memory is None
    with pytest.raises(ConfigurationError):
        cheapest_flavor(of(1), [hardware])
