"""The boundary: everything that opens a model runs in a process of its own.

The child sees an allow-listed environment, an empty home and no token. It is sent names of this package's functions
with a request, and answers in JSON lines on a pipe of its own: parsing them can at worst raise, which a pickle could
not promise. It dies with its parent, because its standard input ends then.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

from antidote_ci import errors
from antidote_ci.records import OnProgress, Progress

Request = TypeVar("Request")
Result = TypeVar("Result")

INHERITED_VARIABLES = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LD_LIBRARY_PATH",
    "TMPDIR",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "MKL_NUM_THREADS",
)
SECONDS_TO_END = 5


def sandbox_environment(environ: Mapping[str, str], home: Path) -> dict[str, str]:
    """The child's whole environment: what it needs to compute, nothing that speaks for its owner."""
    inherited = {name: environ[name] for name in INHERITED_VARIABLES if name in environ}
    return inherited | {
        "HOME": str(home),
        "HF_HOME": str(home / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "USE_HUB_KERNELS": "0",
        # weights are read when their turn comes: read ahead, those of experts would stand in memory twice
        "HF_DEACTIVATE_ASYNC_LOAD": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }


class Sandbox:
    """A worker process, started on entry and ended on exit; calls are answered one at a time."""

    def __init__(self, log: Path) -> None:
        """`log` receives what libraries in the child print."""
        self._log_path = log
        self._home = tempfile.TemporaryDirectory(prefix="antidote-child-")

    def __enter__(self) -> "Sandbox":
        read_end, write_end = os.pipe()
        self._log = self._log_path.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "antidote_ci.sandbox.worker", str(write_end)],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            pass_fds=(write_end,),
            env=sandbox_environment(os.environ, Path(self._home.name)),
            # A Ctrl-C at the terminal goes to the parent alone, which then ends the child in order.
            start_new_session=True,
        )
        os.close(write_end)
        self._replies: IO[bytes] = os.fdopen(read_end, "rb")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._replies.close()
        self._log.close()
        self._home.cleanup()

    def call(self, function: Callable[[Request, OnProgress], Result], request: Request, report: OnProgress) -> Result:
        """`function(request, report)` as run in the child.

        Raises the error the function raised, when it is one of `errors`; anything else it raises, and its death, is an
        InfrastructureError.
        """
        from pydantic import TypeAdapter

        name = f"{function.__module__}:{function.__qualname__}"
        payload = TypeAdapter(type(request)).dump_python(request, mode="json")
        self._send(json.dumps({"function": name, "request": payload}))
        while True:
            line = self._replies.readline()
            if not line:
                raise self._death_error()
            message: dict[str, Any] = json.loads(line)
            if "progress" in message:
                report(Progress(**message["progress"]))
            elif "error" in message:
                raise _rebuild_error(message["error"], self._log_path)
            else:
                return_type = function.__annotations__["return"]
                result: Result = TypeAdapter(return_type).validate_python(message["result"], strict=False)
                return result

    def _send(self, line: str) -> None:
        stdin = self._process.stdin
        if stdin is None:
            raise RuntimeError("the child was started without a standard input")
        try:
            stdin.write(line.encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise self._death_error() from None

    def _death_error(self) -> errors.InfrastructureError:
        code = self._process.wait()
        killed = code == -9
        return errors.InfrastructureError(
            f"the process that runs the model died ({'killed' if killed else f'exit {code}'})",
            cause="most often the machine ran out of memory" if killed else "see its log",
            hint=f"a machine with more memory; the process's log is {self._log_path}",
        )


def _rebuild_error(error: dict[str, str | None], log: Path) -> errors.AntidoteError:
    """The child's exception as one of ours; a class we do not know is an unexpected failure."""
    known: dict[str | None, type[errors.AntidoteError]] = {
        cls.__name__: cls for cls in (errors.ConfigurationError, errors.InfrastructureError, errors.UnsafeCheckpoint)
    }
    kind = known.get(error["kind"])
    if kind is None:
        return errors.InfrastructureError(
            f"unexpected {error['kind']} while the model ran: {error['what']}",
            hint=f"the process's log with the traceback is {log}",
        )
    return kind(error["what"] or "", cause=error["cause"], hint=error["hint"])
