"""The process that forks the children: it has imported the libraries, and never opens an untrusted file."""

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from antidote_ci import errors
from antidote_ci.sandbox.replies import describe_end

INHERITED_VARIABLES = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "TMPDIR",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "MKL_NUM_THREADS",
)
WAIT_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
SPIN_COUNT = 5000
"""Iterations that a waiting OpenMP thread spins before it sleeps, if the user sets neither of the WAIT_VARIABLES.

The default of libgomp, 300,000, takes 4 to 7 ms with the `pause` instruction of current processors. That is as long as
a time slice: beside a process that uses every core, most of the processor time is then spent in waiting. Without any
spinning, decoding on a quiet machine is a quarter slower. Measured by `benchmarks/speed/neighbour.py`;
https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html
"""
SECONDS_TO_END = 5


def sandbox_environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """Return the environment of the child: inherited variables without secrets, and settings for libraries."""
    inherited = {name: environ[name] for name in INHERITED_VARIABLES if name in environ}
    if inherited.keys().isdisjoint(WAIT_VARIABLES):
        inherited["GOMP_SPINCOUNT"] = str(SPIN_COUNT)
    return inherited | {
        "HOME": str(home),
        "HF_HOME": str(home / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "USE_HUB_KERNELS": "0",
        # Read each weight when it is needed: with asynchronous loading the weights of experts are in memory twice.
        "HF_DEACTIVATE_ASYNC_LOAD": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # Without it matrix products on a GPU may differ from run to run.
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "PYTHONUNBUFFERED": "1",
    }


class ChildEnded(Exception):
    """The child is dead or must not be used any more."""

    def __init__(self, explanation: errors.AntidoteError) -> None:
        super().__init__(explanation.what)
        self.explanation = explanation


class ForkServer:
    """The process that forks the children."""

    def __init__(self, log: IO[bytes], log_path: Path) -> None:
        self._log, self._log_path = log, log_path
        # If this process is killed, the other one removes the folder, with those of its children.
        self._home = tempfile.TemporaryDirectory(prefix="antidote-server-")
        self.home = Path(self._home.name)
        # A stream, because macOS has no SOCK_SEQPACKET. Each message waits for the answer to the one before.
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with control:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "antidote_ci.sandbox.worker", str(control.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(control.fileno(),),
                env=sandbox_environment(os.environ, self.home),
                # Ctrl-C in a terminal signals the parent alone, which then ends the child in order.
                start_new_session=True,
            )

    def fork(self, requests: int, replies: int) -> int:
        """Start a child that reads `requests` and writes `replies`. Returns its process id."""
        return self._ask(b"fork", [requests, replies, self._log.fileno()])

    def wait(self, process: int) -> int:
        """End a child and its forks, once. Returns its exit code, negative for a signal."""
        return self._ask(str(process).encode(), [])

    def close(self) -> None:
        self._control.close()
        try:
            self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._home.cleanup()

    def _ask(self, message: bytes, descriptors: Sequence[int]) -> int:
        try:
            if descriptors:
                socket.send_fds(self._control, [message], descriptors)
            else:
                self._control.sendall(message)
            answer = self._control.recv(64)
        except ConnectionError:
            answer = b""
        if not answer:
            code = self._process.wait()
            raise ChildEnded(
                errors.InfrastructureError(
                    f"the process that starts the sandbox died ({describe_end(code)})",
                    cause="its log has the details",
                    hint=f"read {self._log_path}; reinstall antidote-ci if a package is missing",
                )
            )
        return int(answer)
