"""An evaluation beside a process that is busy on every core, and what the choice of a waiting policy costs alone."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from antidote_ci.sandbox.fork_server import WAIT_VARIABLES
from benchmarks.speed.commands import time_command
from benchmarks.speed.paired import Line, ratios
from demo.build import BuildRequest, build_checkpoints
from demo.main_job import POLICY

RUNTIME_SPIN_COUNT = "300000"
"""libgomp's default: https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html"""


def run(count: int) -> list[Line]:
    """Two lines, each of `antidote-ci evaluate` on the demo's fine-tune."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoints = build_checkpoints(BuildRequest(folder, merged=True), lambda _: None)
        arguments = ["evaluate", str(checkpoints.finetune), "--policy", str(POLICY)]

        environ = {name: value for name, value in os.environ.items() if name not in WAIT_VARIABLES}

        def evaluate(**variables: str) -> float:
            return time_command(arguments, folder / "out", environ | variables).total

        evaluate()  # read the files once
        alone, default, beside = list[float](), list[float](), list[float]()
        for _ in range(count):
            alone.append(evaluate())
            default.append(evaluate(GOMP_SPINCOUNT=RUNTIME_SPIN_COUNT))
            with keep_busy():
                beside.append(evaluate())
    return [
        Line("evaluate beside a busy process on every core / alone", ratios(beside, alone), "<=", 3.0),
        Line("evaluate with our wait policy / with the runtime's default", ratios(alone, default), "<=", 1.02),
    ]


@contextmanager
def keep_busy() -> Iterator[None]:
    """As many processes that never wait as there are cores."""
    processes = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(len(os.sched_getaffinity(0)))
    ]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
