"""How much memory this process can still take, whether a model fits into it, and how what was freed goes back."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.model.loading import select_device_and_dtype
from antidote_ci.records import Model

HEADROOM = 1.3
"""Beside the weights stand activations, the cache of a batch, and what loading takes for a moment."""
UNLIMITED = 1 << 60
PROCESSES = Path("/proc")
LIMITS = ("memory.max", "memory.limit_in_bytes")
"""A control group's limit in versions 2 and 1 of the kernel's interface."""

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""glibc's numbers of two settings: https://man7.org/linux/man-pages/man3/mallopt.3.html"""
SMALL_THRESHOLD, LARGEST_THRESHOLD = 4 << 20, 32 << 20


@contextmanager
def return_freed_memory() -> Iterator[None]:
    """Within it, what is freed in pieces of 4 MiB or more goes back to the system at once.

    Left alone, the C library keeps freed matrices for later ones, up to several times what is in use. That is quicker
    by a tenth where they are large, and is what generation wants; streaming is there for the memory.
    """
    _set_thresholds(SMALL_THRESHOLD)
    try:
        yield
    finally:
        _set_thresholds(LARGEST_THRESHOLD)  # where they come to rest by themselves


def _set_thresholds(size: int) -> None:
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt") and hasattr(library, "malloc_trim"):  # glibc's own
        for setting in (MMAP_THRESHOLD, TRIM_THRESHOLD):
            library.mallopt(setting, size)
        library.malloc_trim(0)


def fits_in_memory(model: Model) -> bool:
    """Whether all of its weights fit into memory at once, in the precision in which they are run."""
    import torch

    device, dtype = select_device_and_dtype()
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else available_bytes()
    folders = [model.folder] if model.adapter is None else [model.folder, model.adapter]
    weights = sum(read_layout(folder).entries for folder in folders)
    return weights * dtype.itemsize * HEADROOM < free


def available_bytes() -> int:
    """Bytes that the machine has free, or that the control groups of this process leave it, if that is less."""
    if not PROCESSES.exists():
        return UNLIMITED  # not Linux: what does not fit is found out by trying
    return min(_read_bytes("meminfo", "MemAvailable"), _cgroup_limit() - _read_bytes("self/status", "VmRSS"))


def _read_bytes(table: str, name: str) -> int:
    lines = (PROCESSES / table).read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _cgroup_limit() -> int:
    """The least of the limits of this process's control group and of all that it lies in."""
    found = UNLIMITED
    for line in (PROCESSES / "self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            # In a container the group's own path is not visible, but its root stands for it.
            group = Path("/sys/fs/cgroup", controllers) / path.lstrip("/")
            for folder in (group, *group.parents):
                texts = [(folder / name).read_text().strip() for name in LIMITS if (folder / name).exists()]
                found = min([found, *(int(text) for text in texts if text != "max")])
    return found
