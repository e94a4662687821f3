"""Free memory of this process, whether a model fits into it, and how freed memory returns to the system."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.model import loading
from antidote_ci.records import Model, OnProgress

HEADROOM = 1.3
"""The factor on the weights for activations, the key-value cache, and copies during loading."""
HIDDEN_STATES_BUDGET = 1 << 30
"""Bytes of hidden states that stay in memory while figures are computed block by block, as by default in scoring."""
UNLIMITED = 1 << 60
PROCESSES = Path("/proc")
LIMITS = ("memory.max", "memory.limit_in_bytes")
"""The file with the limit of a control group, in cgroup v2 and v1."""

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Parameters of mallopt in glibc: https://man7.org/linux/man-pages/man3/mallopt.3.html"""
SMALL_THRESHOLD, LARGEST_THRESHOLD = 4 << 20, 32 << 20


@contextmanager
def return_freed_memory() -> Iterator[None]:
    """In the context, freed memory of 4 MiB or more returns to the system at once.

    By default glibc keeps freed matrices for later use, up to several times the memory in use. That is faster by up to
    a tenth, so generation uses the default; streaming needs the memory.
    """
    _set_thresholds(SMALL_THRESHOLD)
    try:
        yield
    finally:
        _set_thresholds(LARGEST_THRESHOLD)  # the upper limit of glibc's own dynamic threshold


def _set_thresholds(size: int) -> None:
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt") and hasattr(library, "malloc_trim"):  # only glibc has both
        for parameter in (MMAP_THRESHOLD, TRIM_THRESHOLD):
            library.mallopt(parameter, size)
        library.malloc_trim(0)


def fits_in_memory(model: Model) -> bool:
    """Whether all weights of the model are in memory, or fit into it at once in the dtype in which it runs.

    Another model that is still loaded is released: it would be before this one is loaded.
    """
    if loading.is_cached(model):
        return True
    loading.release_models()
    device, dtype = loading.select_device_and_dtype()
    free = free_gpu_bytes() if device == "cuda" else available_bytes()
    folders = [model.folder]
    if model.adapter is not None:
        folders.append(model.adapter)
        dtype = loading.dtype_before_merge(model.folder, dtype)
    weights = sum(read_layout(folder).entries for folder in folders)
    return weights * dtype.itemsize * HEADROOM < free


def measure_free_memory(_model: Model, _on_progress: OnProgress) -> int:
    """The free bytes of the devices that models are loaded to, without what this process keeps for later use."""
    import torch

    if loading.select_device_and_dtype()[0] != "cuda":
        return available_bytes()
    torch.cuda.empty_cache()
    return free_gpu_bytes()


def free_gpu_bytes() -> int:
    """The free memory of all GPUs together: a model that is too large for one is spread over them."""
    import torch

    return sum(torch.cuda.mem_get_info(number)[0] for number in range(torch.cuda.device_count()))


def available_bytes() -> int:
    """The free memory of the machine, or what the process's control groups still allow if that is less."""
    if not PROCESSES.exists():
        return UNLIMITED  # not Linux
    return min(_read_bytes("meminfo", "MemAvailable"), _cgroup_limit() - _read_bytes("self/status", "VmRSS"))


def _read_bytes(table: str, name: str) -> int:
    lines = (PROCESSES / table).read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _cgroup_limit() -> int:
    """The lowest limit of this process's control group and its ancestors."""
    limit = UNLIMITED
    for line in (PROCESSES / "self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            # In a container the group's own path is not visible, and the mounted root is that group.
            group = Path("/sys/fs/cgroup", controllers) / path.lstrip("/")
            for folder in (group, *group.parents):
                texts = [(folder / name).read_text().strip() for name in LIMITS if (folder / name).exists()]
                limit = min([limit, *(int(text) for text in texts if text != "max")])
    return limit
