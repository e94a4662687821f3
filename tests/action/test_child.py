"""Real child processes: order and delay of their output, signals and exit codes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from action import child
from antidote_ci.environment import wait_exit_code

ROOT = Path(__file__).parents[2]


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def run(code: str) -> tuple[bytes, int]:
    process = child.start_command(python(code), os.environ)
    written = b"".join(child.read_output(process))
    return written, wait_exit_code(process)


@pytest.fixture(autouse=True)
def restore_signal_handlers() -> object:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_both_streams_arrive_in_order() -> None:
    lines = [(f"print({i}, flush=True)", f"print({i}, file=sys.stderr, flush=True)")[i % 2] for i in range(200)]
    written, code = run("import sys\n" + "\n".join(lines))
    assert written.split() == [str(i).encode() for i in range(200)]
    assert code == 0


def test_output_arrives_immediately() -> None:
    process = child.start_command(
        python("import sys, time\nprint('.', end='', flush=True)\ntime.sleep(60)"), os.environ
    )
    assert next(child.read_output(process)) == b"."
    process.kill()
    assert wait_exit_code(process) == 128 + signal.SIGKILL


def test_open_pipe_of_another_process_does_not_block() -> None:
    started = time.monotonic()
    written, code = run(
        "import os, subprocess, sys\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(30)'])\n"
        "print(other.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    os.kill(int(written), signal.SIGKILL)
    assert code == 137
    assert time.monotonic() - started < 10


def test_output_of_a_dead_child_is_read() -> None:
    process = child.start_command(python("import os\nos.write(1, b'x' * 60000)\nos._exit(3)"), os.environ)
    process.wait()
    assert len(b"".join(child.read_output(process))) == 60000
    assert wait_exit_code(process) == 3


def test_child_that_closes_its_output_is_waited_for() -> None:
    assert run("import os, time\nos.close(1); os.close(2)\ntime.sleep(0.5)\nos._exit(4)") == (b"", 4)


EARLY = """
import os, signal, subprocess, sys
from action import child
from antidote_ci.environment import wait_exit_code
real = subprocess.Popen
def slow(*arguments, **options):
    process = real(*arguments, **options)
    process.stdout.read(1)
    os.kill(os.getpid(), signal.SIGTERM)  # before anybody holds the process
    return process
subprocess.Popen = slow
code = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(143)); print('.', flush=True); time.sleep(30)"
sys.exit(wait_exit_code(child.start_command([sys.executable, "-c", code], os.environ)))
"""


def test_signal_during_the_start_is_forwarded() -> None:
    assert subprocess.run([sys.executable, "-c", EARLY], cwd=ROOT, timeout=20, check=False).returncode == 143
