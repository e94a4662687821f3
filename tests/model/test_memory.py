"""Free memory, and whether a model fits into it."""

import json
import struct
from pathlib import Path

from antidote_ci.model import memory
from antidote_ci.records import Model


def test_a_small_model_fits_and_one_of_terabytes_does_not(tiny_llama: Path, tmp_path: Path) -> None:
    assert memory.fits_in_memory(Model(tiny_llama))
    size = 1 << 42
    header = json.dumps({"weight": {"dtype": "BF16", "shape": [size // 2], "data_offsets": [0, size]}}).encode()
    (tmp_path / "config.json").write_bytes((tiny_llama / "config.json").read_bytes())
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)  # a sparse file
    assert not memory.fits_in_memory(Model(tmp_path))


def test_available_memory_is_less_than_the_total() -> None:
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal:"))
    assert 0 < memory.available_bytes() < int(total.split()[1]) * 1024
