"""The parent process of the sandbox. All code that opens a model runs in a child process, `sandbox.worker`.

The child inherits only allow-listed environment variables, and has an empty home folder and no token. The parent sends
it the name of a function of this package and a request; the child replies with JSON lines on a pipe. The messages are
JSON because parsing a malicious reply may fail but, unlike unpickling, cannot run code. The child exits when its
standard input is closed, so it does not outlive its parent.
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
    """Return the environment of the child: inherited variables without secrets, and settings for libraries."""
    inherited = {name: environ[name] for name in INHERITED_VARIABLES if name in environ}
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
        "PYTHONUNBUFFERED": "1",
    }


class Sandbox:
    """A worker process, started on entry and ended on exit. It runs one call at a time."""

    def __init__(self, log: Path) -> None:
        """`log` is the file to which the child writes its output."""
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
            # Ctrl-C in a terminal signals the parent alone, which then ends the child in order.
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

    def call(
        self, function: Callable[[Request, OnProgress], Result], request: Request, on_progress: OnProgress
    ) -> Result:
        """Run `function(request, on_progress)` in the child and return its result.

        Raises the function's error when its class is in `errors`; InfrastructureError for any other exception, and when
        the child dies.
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
                on_progress(Progress(**message["progress"]))
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
            cause="most likely the machine ran out of memory" if killed else "its log has the details",
            hint=f"read its log, {self._log_path}, or use a machine with more memory",
        )


def _rebuild_error(error: dict[str, str | None], log: Path) -> errors.AntidoteError:
    """Return the exception that the child reported. An exception of an unknown class becomes an InfrastructureError."""
    classes: dict[str | None, type[errors.AntidoteError]] = {
        cls.__name__: cls for cls in (errors.ConfigurationError, errors.InfrastructureError, errors.UnsafeCheckpoint)
    }
    error_class = classes.get(error["kind"])
    if error_class is None:
        return errors.InfrastructureError(
            f"unexpected {error['kind']} while the model ran: {error['what']}",
            hint=f"read the traceback in the log of the process, {log}",
        )
    return error_class(error["what"] or "", cause=error["cause"], hint=error["hint"])
