"""Whether this machine has the memory that a model needs: refused early, with numbers."""

from pathlib import Path

from antidote_ci.errors import InfrastructureError
from antidote_ci.hub.remote import RemoteRepository, count_remote_weight_bytes
from antidote_ci.model import memory

BASE_MEMORY = 500_000_000
"""What Python, torch and one batch take beside the weights, at the least."""
FLOAT32_BYTES, BFLOAT16_BYTES = 4, 2
"""Bytes of a weight in float32 and in bfloat16."""
ACCELERATORS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Devices of NVIDIA's, of Windows' and of AMD's drivers."""
CPU_INFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""What a processor says of itself where torch computes in bfloat16: model/loading.py asks torch the same."""


def remote_memory(remote: RemoteRepository, *, merged: bool = False) -> int:
    """`cpu_memory` a model of the Hub. Where the Hub has not counted its weights, they are taken to be the fewest."""
    counted = remote.info.parameters if remote.info else None
    return cpu_memory(counted or count_remote_weight_bytes(remote) // FLOAT32_BYTES, merged=merged)


def cpu_memory(entries: int, *, merged: bool = False) -> int:
    """Bytes that a model of so many weights takes at the least while it runs on this processor.

    `merged`: it is the base of an adapter, which is added into its weights in float32.
    """
    return entries * (FLOAT32_BYTES if merged else _bytes_per_weight()) + BASE_MEMORY


def max_weights(free: int) -> int:
    """The largest model, by its weights, that may run on this processor in so many bytes: `cpu_memory`, inverted."""
    return max(0, free - BASE_MEMORY) // _bytes_per_weight()


def gpu_memory(entries: int) -> int:
    """Bytes that a model of so many weights takes at the least on a GPU, where it runs in bfloat16."""
    return entries * BFLOAT16_BYTES + BASE_MEMORY


def require_memory(name: str, needed: int) -> None:
    """Raise InfrastructureError for a model that cannot run here. With a GPU, running it is the only way to know."""
    free = memory.available_bytes()
    if needed > free and not has_accelerator():
        raise InfrastructureError(
            f"not enough memory for {name}: {needed / 1e9:,.1f} GB needed, {free / 1e9:,.1f} GB free",
            cause="all weights of a model that answers are in memory at once",
            hint="--on hf-jobs runs it on the Hub's machines (docs/hf-jobs.md); else choose a larger machine, one with "
            "a GPU, or let a server answer (docs/servers.md)",
        )


def has_accelerator() -> bool:
    """Whether there may be a GPU. Told without torch, which must not be loaded before the files are checked."""
    return any(Path(device).exists() for device in ACCELERATORS)


def _bytes_per_weight() -> int:
    flags = set(CPU_INFO.read_text().split()) if CPU_INFO.exists() else BFLOAT16_FLAGS
    return FLOAT32_BYTES if flags.isdisjoint(BFLOAT16_FLAGS) else BFLOAT16_BYTES
