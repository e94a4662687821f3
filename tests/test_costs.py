"""The table of costs: what is measured of a command, and where a larger model fits."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.cost_model import GENERATION_RATE, SCORING_RATE, Computation
from benchmarks.costs import processes, sizes
from benchmarks.costs.forecasts import Forecast
from benchmarks.costs.machines import MACHINES, Correction, place
from benchmarks.costs.page import Cell, Comparison, find_correction, write_page
from benchmarks.costs.processes import Memory

GIGABYTE = 1_000_000_000
EVALUATION = Forecast(
    7 * GIGABYTE, False, 14 * GIGABYTE, 14 * GIGABYTE, 0, 0, Computation(generated=3596 * GENERATION_RATE)
)
REPAIR = Forecast(
    70 * GIGABYTE, True, 141 * GIGABYTE, 0, 9 * GIGABYTE, GIGABYTE, Computation(scored=7200 * SCORING_RATE)
)


def test_the_memory_of_a_child_counts() -> None:
    child = "text = b'a' * 100_000_000; print(1, flush=True); input()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        memory = processes.tree_memory(parent.pid)
        parent.communicate(b"\n")
    assert 100_000_000 < memory.private < 200_000_000
    assert memory.resident > 100_000_000
    assert processes.tree_memory(parent.pid) == Memory(0, 0)


def test_a_command_without_a_verdict_is_no_measurement(tmp_path: Path) -> None:
    def run(code: int) -> processes.Usage:
        command = [sys.executable, "-c", f"raise SystemExit({code})"]
        return processes.run_command(command, tmp_path, os.environ, tmp_path / "log")

    assert run(4).exit_code == 4
    with pytest.raises(RuntimeError, match="ended with 3"):
        run(3)


def test_a_link_to_a_file_elsewhere_takes_no_space(tmp_path: Path) -> None:
    model, watched = tmp_path / "model", tmp_path / "watched"
    watched.mkdir()
    model.write_bytes(b"a" * 40960)
    (watched / "link").hardlink_to(model)
    assert processes.folder_bytes(watched) == 0
    (watched / "own").write_bytes(b"a" * 8192)
    (watched / "twice").hardlink_to(watched / "own")
    assert processes.folder_bytes(watched) == 8192


@pytest.mark.parametrize("shape", sizes.SHAPES, ids=lambda shape: shape.name)
def test_the_shapes_are_checkpoints_without_weights(shape: sizes.Shape, tmp_path: Path) -> None:
    full = sizes.write_full(shape, tmp_path / "full")
    assert read_layout(full).entries / 1e9 == pytest.approx(int(shape.name.removesuffix("B")), abs=0.7)
    assert sum(path.stat().st_blocks * 512 for path in full.iterdir()) < 1_000_000
    assert read_layout(sizes.write_adapter(shape, full, tmp_path / "adapter")).kind == "adapter"


def test_what_fits_where() -> None:
    runner, small, _, eight = MACHINES
    assert place(EVALUATION, runner, Correction()) == "does not fit: 27 GB of memory"
    assert place(EVALUATION, small, Correction()).startswith("fits, ")
    assert place(REPAIR, runner, Correction()) == "does not fit: 142 GB of disk"
    assert place(REPAIR, small, Correction()).startswith("streams, ")
    assert place(REPAIR, eight, Correction()).startswith("fits, ")
    assert place(REPAIR, small, Correction(memory=10.0)) == "does not fit: 90 GB of memory"


def test_the_largest_model_of_a_kind_corrects_the_estimate() -> None:
    small = Cell("a", "evaluate", False, GIGABYTE, 0, 60.0, 60.0, 1, Memory(GIGABYTE, GIGABYTE), 0, {})
    large = Cell("b", "evaluate", False, 2 * GIGABYTE, 0, 9000.0, 14400.0, 2, Memory(1, 28 * GIGABYTE), 0, {})
    measured = [Comparison(large, EVALUATION), Comparison(small, EVALUATION)]
    assert find_correction(measured, "evaluate", is_adapter=False) == Correction(2.0, 1.0, 2.0)
    assert find_correction(measured, "evaluate", is_adapter=True) == Correction()
    page = write_page(measured, {("7B", False, "evaluate"): EVALUATION})
    assert (
        "| b, merged | 2.00 billion | `evaluate` | 0 | 9000 s (7200); **2.00** | 28.0 GB (0.0); **2.00** | 0.0 GB |"
        in page
    )
    assert "| 7B, merged | does not fit: 53 GB of memory |" in page
