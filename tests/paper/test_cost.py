"""Costs: both processes count, and a maximum belongs to one piece of work."""

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from benchmarks.paper.cost import resident_bytes, watching

HELD = 96 << 20
HOLD = f"held = b'x' * {HELD}; print('held', flush=True); input()"
DEADLINE = 30


def run_alone(measure: Callable[[], None]) -> None:
    """Call the function in a process of its own: this one has the memory and the children of other tests."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(measure).result()


def wait_until(holds: Callable[[], bool]) -> None:
    """A busy machine takes the next sample late."""
    deadline = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def measure_child() -> None:
    with watching() as cost:
        command = [sys.executable, "-c", HOLD]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
            before = resident_bytes()
            assert child.stdout
            child.stdout.readline()
            assert resident_bytes() > before + HELD // 2
            wait_until(lambda: cost.peak_bytes > before + HELD // 2)
            child.communicate(b"\n")


def measure_twice() -> None:
    with watching() as first:
        before = first.peak_bytes
        held = os.urandom(HELD)
        wait_until(lambda: first.peak_bytes > before + HELD // 2)
        del held
    with watching() as second:
        time.sleep(0.1)
    assert second.peak_bytes < first.peak_bytes - HELD // 2


def test_the_memory_of_children_counts() -> None:
    run_alone(measure_child)


def test_a_peak_belongs_to_one_piece_of_work() -> None:
    run_alone(measure_twice)


def test_seconds_go_on_from_the_beginning() -> None:
    with watching() as cost:
        time.sleep(0.05)
        assert cost.seconds >= 0.05
