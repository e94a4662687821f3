"""Compare the memory that a model needs with the memory of this machine, before the download."""

from pathlib import Path

from antidote_ci.errors import InfrastructureError
from antidote_ci.hub.remote import RemoteRepository, count_remote_weight_bytes
from antidote_ci.model import memory

BASE_MEMORY = 500_000_000
"""The least memory in bytes for Python, torch and a batch, without the weights."""
FLOAT32_BYTES, BFLOAT16_BYTES = 4, 2
ACCELERATORS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Devices of the drivers of NVIDIA, Windows and AMD."""
CPU_INFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""CPU flags with which torch computes in bfloat16; model/loading.py makes the same choice with torch."""


def remote_memory(remote: RemoteRepository, *, merged: bool = False) -> int:
    """`cpu_memory` of a model on the Hub. If the Hub has not counted its weights, the file sizes give a lower bound."""
    parameters = remote.info.parameters if remote.info else None
    return cpu_memory(parameters or count_remote_weight_bytes(remote) // FLOAT32_BYTES, merged=merged)


def cpu_memory(entries: int, *, merged: bool = False) -> int:
    """The least memory in bytes to run a model with this number of weights on this CPU.

    `merged`: the model is the base of an adapter, which is merged in float32.
    """
    return entries * (FLOAT32_BYTES if merged else _bytes_per_weight()) + BASE_MEMORY


def max_weights(free: int) -> int:
    """The largest number of weights that fits into `free` bytes on this CPU, the inverse of `cpu_memory`."""
    return max(0, free - BASE_MEMORY) // _bytes_per_weight()


def gpu_memory(entries: int) -> int:
    """The least memory in bytes to run a model with this number of weights on a GPU, in bfloat16."""
    return entries * BFLOAT16_BYTES + BASE_MEMORY


def require_memory(name: str, needed: int) -> None:
    """Raise InfrastructureError if this machine has too little memory. With a GPU, only running the model can tell."""
    free = memory.available_bytes()
    if needed > free and not has_accelerator():
        raise InfrastructureError(
            f"not enough memory for {name}: {needed / 1e9:,.1f} GB needed, {free / 1e9:,.1f} GB free",
            cause="all weights of a model that generates answers are in memory at once",
            hint="--on hf-jobs runs it on the Hub's machines (docs/hf-jobs.md); otherwise use a larger machine, a "
            "machine with a GPU, or a server (docs/servers.md)",
        )


def has_accelerator() -> bool:
    """Whether this machine may have a GPU. Does not import torch, so that files are checked first."""
    return any(Path(device).exists() for device in ACCELERATORS)


def _bytes_per_weight() -> int:
    flags = set(CPU_INFO.read_text().split()) if CPU_INFO.exists() else BFLOAT16_FLAGS
    return FLOAT32_BYTES if flags.isdisjoint(BFLOAT16_FLAGS) else BFLOAT16_BYTES
