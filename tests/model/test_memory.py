"""Free memory, and whether a model fits into it."""

import json
import struct
from pathlib import Path

import pytest
import torch

from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.model import loading, memory
from antidote_ci.records import Model
from tests import tiny


def test_a_small_model_fits_and_one_of_terabytes_does_not(tiny_llama: Path, tmp_path: Path) -> None:
    assert memory.fits_in_memory(Model(tiny_llama))
    size = 1 << 42
    header = json.dumps({"weight": {"dtype": "BF16", "shape": [size // 2], "data_offsets": [0, size]}}).encode()
    (tmp_path / "config.json").write_bytes((tiny_llama / "config.json").read_bytes())
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)  # a sparse file
    assert not memory.fits_in_memory(Model(tmp_path))


def test_a_loaded_model_needs_no_further_memory(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loading.load_cached_model(Model(tiny_llama))
    monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
    assert memory.fits_in_memory(Model(tiny_llama))
    loading.release_models()
    assert not memory.fits_in_memory(Model(tiny_llama))


def test_an_adapter_is_added_to_weights_of_the_dtype_of_its_base(
    tiny_llama: Path, tiny_adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base in float32 is loaded in float32, and takes twice the memory."""
    monkeypatch.setattr(loading, "select_device_and_dtype", lambda: ("cpu", torch.bfloat16))
    larger = tiny.write_tiny_llama(tmp_path / "float32", dtype="float32")
    weights = sum(read_layout(folder).entries for folder in (tiny_llama, tiny_adapter))
    monkeypatch.setattr(memory, "available_bytes", lambda: 3 * memory.HEADROOM * weights)
    assert memory.fits_in_memory(Model(tiny_llama, tiny_adapter))
    assert memory.fits_in_memory(Model(larger))
    assert not memory.fits_in_memory(Model(larger, tiny_adapter))


def test_available_memory_is_less_than_the_total() -> None:
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    assert 0 < memory.available_bytes() < int(total.split()[1]) * 1024


@pytest.mark.parametrize("version", [1, 2])
def test_a_control_group_limits_the_memory_of_all_its_processes(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of files count as free, and the limit of an ancestor counts too."""
    group = tmp_path / "cgroup" / ("memory" if version == 1 else "") / "jobs" / "one"
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if version == 1 else ("memory.max", "memory.current")
    prefix = "total_" if version == 1 else ""
    group.mkdir(parents=True)
    for folder, limit, usage in (
        (group, "9223372036854771712" if version == 1 else "max", 6000),
        (group.parent, "9000", 7000),
    ):
        (folder / names[0]).write_text(f"{limit}\n")
        (folder / names[1]).write_text(f"{usage}\n")
        (folder / "memory.stat").write_text(f"cache 500\n{prefix}inactive_file 1000\n{prefix}active_file 200\n")
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal: 24683652 kB\nMemAvailable:   64000 kB\n")
    (proc / "self" / "cgroup").write_text("8:memory:/jobs/one\n0::/other\n" if version == 1 else "0::/jobs/one\n")
    monkeypatch.setattr(memory, "PROCESSES", proc)
    monkeypatch.setattr(memory, "CONTROL_GROUPS", tmp_path / "cgroup")
    assert memory.available_bytes() == 9000 - 7000 + 1200
    (group.parent / names[0]).write_text(f"{1 << 40}\n")
    assert memory.available_bytes() == 64000 * 1024
