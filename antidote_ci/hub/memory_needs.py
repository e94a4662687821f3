"""Compare the memory that a model needs with the memory of this machine, before the download."""

import itertools
import os
import subprocess
from importlib.metadata import version
from pathlib import Path

from antidote_ci import cost_model
from antidote_ci.errors import InfrastructureError
from antidote_ci.hub.remote import RemoteRepository, count_remote_weight_bytes
from antidote_ci.model import memory

BASE_MEMORY = 500_000_000
"""The least memory in bytes for Python, torch and a batch, without the weights."""
CPU_BUILD = "+cpu"
"""The end of the version of a torch that cannot use a GPU."""
GPU_QUERY = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
"""Prints the memory of each GPU in MiB."""
GPU_QUERY_SECONDS = 20
FLOAT32_BYTES, BFLOAT16_BYTES = 4, 2
ACCELERATORS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
"""Devices of the drivers of NVIDIA, Windows and AMD."""
CPU_INFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16"}
"""CPU flags with which torch computes in bfloat16; model/loading.py makes the same choice with torch."""


def remote_weights(remote: RemoteRepository) -> int:
    """The number of weights of a model on the Hub. If the Hub has not counted them, a lower bound from file sizes."""
    parameters = remote.info.parameters if remote.info else None
    return parameters or count_remote_weight_bytes(remote) // FLOAT32_BYTES


def cpu_memory(entries: int) -> int:
    """The least memory in bytes to run a model with this number of weights on this CPU."""
    return entries * _bytes_per_weight() + BASE_MEMORY


def typical_memory(entries: int, copies: float) -> int:
    """The memory in bytes that a command takes on this CPU when it is free: see `cost_model`."""
    return cost_model.typical_memory(entries, _bytes_per_weight(), copies)


def max_weights(free: int) -> int:
    """The largest number of weights that fits into `free` bytes on this CPU, the inverse of `cpu_memory`."""
    return max(0, free - BASE_MEMORY) // _bytes_per_weight()


def max_merged_weights(free: int) -> int:
    """Like `max_weights`, for an adapter whose base is loaded in float32, see `merge_memory`."""
    return max(0, free - BASE_MEMORY) // FLOAT32_BYTES


def gpu_memory(entries: int) -> int:
    """The least memory in bytes to run a model with this number of weights on a GPU, in 16 bits."""
    return entries * BFLOAT16_BYTES + BASE_MEMORY


def merge_memory(base: RemoteRepository) -> int:
    """The least memory in bytes to merge an adapter into this base on a GPU.

    The base is loaded as it is stored, and in float32 unless all its weights have the same 16 bits:
    model.loading.dtype_before_merge. If the Hub does not name the dtypes, they are read from the headers of the files.
    """
    if base.info is None or not base.info.parameters:
        return count_remote_weight_bytes(base) + BASE_MEMORY
    size = BFLOAT16_BYTES if base.info.dtypes in (("BF16",), ("F16",)) else FLOAT32_BYTES
    return base.info.parameters * size + BASE_MEMORY


def require_memory(name: str, entries: int) -> None:
    """Raise InfrastructureError if a model with this number of weights is too large for this machine.

    That is its free memory, or with a GPU all memory of its GPUs. If that is unknown, nothing is checked.
    """
    needed, kind = gpu_memory(entries), "of GPU memory "
    available = total_gpu_bytes() if has_accelerator() and not version("torch").endswith(CPU_BUILD) else 0
    if available == 0:  # no GPU that may be used
        needed, available, kind = cpu_memory(entries), memory.available_bytes(), ""
    if available is not None and needed > available:
        present = "present" if kind else "free"
        raise InfrastructureError(
            f"not enough memory for {name}: {needed / 1e9:,.1f} GB {kind}needed, {available / 1e9:,.1f} GB {present}",
            cause="all weights of a model that generates answers are in memory at once",
            hint="--on hf-jobs runs it on the Hub's machines (docs/hf-jobs.md); otherwise use a larger machine, a "
            "machine with a larger GPU, or a server (docs/servers.md)",
        )


def has_accelerator() -> bool:
    """Whether this machine may have a GPU. Does not import torch, so that files are checked first."""
    return any(Path(device).exists() for device in ACCELERATORS)


def total_gpu_bytes() -> int | None:
    """The memory in bytes of the NVIDIA GPUs that this process may use; None if it is unknown."""
    try:
        output = subprocess.run(GPU_QUERY, capture_output=True, text=True, check=True, timeout=GPU_QUERY_SECONDS).stdout
        sizes = [int(line) << 20 for line in output.split()]
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            return sum(sizes)
        numbers = [int(number) for number in visible.split(",")]
        return sum(sizes[number] for number in itertools.takewhile(lambda number: number >= 0, numbers))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None  # not installed, no NVIDIA GPU, or devices by another name


def has_bfloat16() -> bool:
    """Whether the CPU computes in bfloat16, and not in float32. An unknown one counts as if it did."""
    flags = set(CPU_INFO.read_text().split()) if CPU_INFO.exists() else BFLOAT16_FLAGS
    return not flags.isdisjoint(BFLOAT16_FLAGS)


def _bytes_per_weight() -> int:
    return BFLOAT16_BYTES if has_bfloat16() else FLOAT32_BYTES
