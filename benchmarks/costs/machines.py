"""Whether a command fits a machine, and how long it takes there. Pure."""

from dataclasses import dataclass

from antidote_ci.cost_model import GPU_MEMORY_FACTOR, MEMORY_OVERHEAD, PULL_RATE
from antidote_ci.hub.memory_needs import BFLOAT16_BYTES, FLOAT32_BYTES
from benchmarks.costs.forecasts import Forecast


@dataclass(frozen=True)
class Machine:
    """A machine; sizes in bytes."""

    name: str
    processors: int
    memory: float
    disk: float
    gpu_memory: float = 0.0
    """Of all GPUs together."""
    has_bfloat16: bool = True


MACHINES = (
    Machine("hosted runner: 4 vCPU, 16 GB, 14 GB of disk", 4, 16e9, 14e9, has_bfloat16=False),
    Machine("one GPU of 24 GB; 8 cores, 64 GB, 500 GB of disk", 8, 64e9, 500e9, 24e9),
    Machine("one GPU of 80 GB; 16 cores, 200 GB, 1 TB of disk", 16, 200e9, 1e12, 80e9),
    Machine("eight GPUs of 80 GB; 96 cores, 1 TB, 4 TB of disk", 96, 1e12, 4e12, 640e9),
)


@dataclass(frozen=True)
class Correction:
    """Measured values divided by those of the cost model."""

    memory: float = 1.0
    disk: float = 1.0
    seconds: float = 1.0


def place(forecast: Forecast, machine: Machine, correction: Correction) -> str:
    """One cell of the table: `fits`, `streams`, or `does not fit` with the reason; and minutes."""
    disk = forecast.pulled + forecast.disk * correction.disk
    if disk > machine.disk:
        return f"does not fit: {disk / 1e9:,.0f} GB of disk"
    bytes_per_weight = BFLOAT16_BYTES if machine.has_bfloat16 else FLOAT32_BYTES
    whole = bytes_per_weight * forecast.weights
    mapped = (forecast.running_memory - MEMORY_OVERHEAD) * bytes_per_weight / BFLOAT16_BYTES
    running = mapped * correction.memory + MEMORY_OVERHEAD
    if forecast.running_memory:
        if not machine.gpu_memory and running > machine.memory:
            return f"does not fit: {running / 1e9:,.0f} GB of memory"
        on_gpu = BFLOAT16_BYTES * forecast.weights * GPU_MEMORY_FACTOR
        if machine.gpu_memory and on_gpu > machine.gpu_memory:
            return f"does not fit: {on_gpu / 1e9:,.0f} GB of GPU memory"
    streams = not forecast.running_memory and whole > (machine.gpu_memory or machine.memory)
    # The estimate counts all weights only where they fit; elsewhere one block is in memory.
    counts_all = forecast.scoring_memory > BFLOAT16_BYTES * forecast.weights
    scoring = forecast.scoring_memory * (1.0 if forecast.running_memory else correction.memory)
    if scoring > machine.memory and not counts_all:
        return f"does not fit: {scoring / 1e9:,.0f} GB of memory"
    word = "streams" if streams or scoring > machine.memory else "fits"
    return f"{word}, {_minutes(forecast, machine, correction):,.0f} min"


def _minutes(forecast: Forecast, machine: Machine, correction: Correction) -> float:
    computing = forecast.computation.seconds(
        machine.processors, has_gpu=bool(machine.gpu_memory), has_bfloat16=machine.has_bfloat16
    )
    return max(1.0, (computing * correction.seconds + forecast.pulled / PULL_RATE) / 60)


def is_off(ratio: float, limit: float = 1.5) -> bool:
    """Whether a measured value differs from the cost model by more than the factor `limit`."""
    return ratio > limit or ratio < 1 / limit
