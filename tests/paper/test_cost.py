"""Costs: both processes count, and a maximum belongs to one piece of work."""

import os
import subprocess
import sys
import time

from benchmarks.paper.cost import resident_bytes, watching

HELD = 96 << 20
HOLD = f"held = b'x' * {HELD}; print('held', flush=True); input()"


def test_the_memory_of_children_counts() -> None:
    with watching() as cost:
        command = [sys.executable, "-c", HOLD]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            before = resident_bytes()
            assert child.stdout
            child.stdout.readline()
            assert resident_bytes() > before + HELD // 2
            time.sleep(0.1)
            child.communicate(b"\n")
    assert cost.peak_bytes >= before + HELD // 2


def test_a_peak_belongs_to_one_piece_of_work() -> None:
    with watching() as first:
        held = os.urandom(HELD)
        time.sleep(0.1)
        del held
    with watching() as second:
        time.sleep(0.1)
    assert second.peak_bytes < first.peak_bytes - HELD // 2


def test_seconds_go_on_from_the_beginning() -> None:
    with watching() as cost:
        time.sleep(0.05)
        assert cost.seconds >= 0.05
