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
CONTROL_GROUPS = Path("/sys/fs/cgroup")
MEMORY_FILES = (
    ("memory.max", "memory.current", ("inactive_file", "active_file")),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
)
"""The files of a control group with its limit and its usage, and the fields of `memory.stat` that count pages of files;
in cgroup v2 and v1.
"""

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
    machine = next(_read_fields(PROCESSES / "meminfo", "MemAvailable:")) * 1024
    return min([machine, *_free_bytes_of_groups()])


def _free_bytes_of_groups() -> Iterator[int]:
    """The free bytes of this process's control group and of each ancestor with a limit.

    Pages of files count as free: the kernel drops them before it kills a process.
    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
    """
    for line in (PROCESSES / "self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        # In a container the group's own path is not visible, and the mounted root is that group.
        group = CONTROL_GROUPS / controllers / path.lstrip("/")
        for folder in (group, *group.parents):
            for limit, usage, files in MEMORY_FILES:
                limit_file = folder / limit
                if limit_file.exists() and (text := limit_file.read_text().strip()) != "max":
                    pages = sum(_read_fields(folder / "memory.stat", *files))
                    yield int(text) - int((folder / usage).read_text()) + pages


def _read_fields(path: Path, *names: str) -> Iterator[int]:
    """The numbers of some lines, each of which begins with a name."""
    for line in path.read_text().splitlines():
        name, number, *_ = line.split()
        if name in names:
            yield int(number)
