"""The processes of the sandbox: one that forks, and its children, which run functions and reply with JSON lines."""

import dataclasses
import gc
import importlib
import json
import os
import queue
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from antidote_ci.checkpoint.files import allow_link_targets
from antidote_ci.environment import refuse_inspection
from antidote_ci.errors import AntidoteError, ConfigurationError
from antidote_ci.paths import remove_tree
from antidote_ci.records import OnProgress, Progress
from antidote_ci.sandbox.confinement import Confinement, confine

PACKAGE = "antidote_ci."
SECONDS_TO_EXIT = 1.0
"""For a child that has closed its pipe. It then exits with a code that says why."""


def serve_forks(control_descriptor: int) -> None:
    """Fork a child for each message with three file descriptors, and end one for each message with its number.

    Each child leads a process group, which the seccomp filter does not let its own forks leave.
    """
    refuse_inspection()
    _import_libraries()
    children: set[int] = set()
    # A parent that was killed may have asked for a child, and does not read the answer.
    with suppress(ConnectionError), socket.socket(fileno=control_descriptor) as control:
        while True:
            message, descriptors, _, _ = socket.recv_fds(control, 64, 3)
            if not message:
                break
            if descriptors:
                process = os.fork()
                if process == 0:
                    control.close()
                    os.setpgid(0, 0)
                    _run_child(*descriptors)
                os.setpgid(process, process)
                children.add(process)
                for descriptor in descriptors:
                    os.close(descriptor)
                control.send(str(process).encode())
            else:
                process = int(message)
                children.remove(process)
                control.send(str(_end_group(process)).encode())
    for process in children:
        _end_group(process)
    remove_tree(Path(os.environ["HOME"]))


def _end_group(leader: int) -> int:
    """Kill a child and its forks. Returns its exit code, negative for a signal."""
    until = time.monotonic() + SECONDS_TO_EXIT
    ended, status = os.waitpid(leader, os.WNOHANG)
    while not ended and time.monotonic() < until:
        time.sleep(0.005)
        ended, status = os.waitpid(leader, os.WNOHANG)
    # The number of the group stays in use as long as a fork lives. Without one, macOS reports another error than Linux.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    if not ended:
        _, status = os.waitpid(leader, 0)
    return os.waitstatus_to_exitcode(status)


def _import_libraries() -> None:
    """Import the large libraries once for all children."""
    gc.disable()  # during the import, garbage collection takes a seventh of the time and finds nothing
    import peft  # noqa: F401
    import pydantic  # noqa: F401
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel  # noqa: F401

    gc.freeze()
    gc.enable()


def _run_child(requests: int, replies: int, log: int) -> None:
    code = 1
    try:
        os.dup2(requests, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for descriptor in (requests, log):
            os.close(descriptor)
        serve_requests(replies)
        code = 0
    except BaseException:  # noqa: BLE001 - the fork must not return into the loop of its parent
        traceback.print_exc()
    finally:
        os._exit(code)


def serve_requests(replies_descriptor: int) -> None:
    """Confine this process as the first line of standard input says, then answer requests until it ends."""
    setup = json.loads(sys.stdin.buffer.readline())
    os.environ.update(HOME=setup["home"], TMPDIR=setup["home"])
    tempfile.tempdir = None  # it may have been looked up before the fork
    readable, writable = (list(map(Path, setup[name])) for name in ("readable", "writable"))
    allow_link_targets(readable)
    protections = confine(Confinement(readable, writable, largest_file=setup["largest_file"]))
    requests: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    with os.fdopen(replies_descriptor, "wb") as replies:
        _send(replies, {"protections": protections})
        while True:
            _answer_request(requests.get(), replies)


def _read_requests(requests: "queue.Queue[bytes]") -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)  # the main thread may be in a long forward pass whose result nobody reads


def _send(replies: IO[bytes], message: dict[str, Any]) -> None:
    replies.write(json.dumps(message).encode() + b"\n")
    replies.flush()


def _answer_request(line: bytes, replies: IO[bytes]) -> None:
    def send_progress(progress: Progress) -> None:
        _send(replies, {"progress": dataclasses.asdict(progress)})

    def send_error(error: AntidoteError) -> None:
        kind = type(error).__name__
        _send(replies, {"error": {"kind": kind, "what": error.what, "cause": error.cause, "hint": error.hint}})

    try:
        _send(replies, {"result": _call_function(json.loads(line), send_progress)})
    except AntidoteError as error:
        send_error(error)
    except PermissionError as error:
        send_error(
            ConfigurationError(
                f"the process that runs the model may not open {error.filename or 'a file'}",
                cause="it can read only the files of the checkpoint, and has no privileges even if root started it",
                hint="make the checkpoint readable with `chmod -R a+rX FOLDER`, or run as its owner",
            )
        )
    except Exception as error:  # noqa: BLE001 - the parent raises it
        traceback.print_exc()
        _send(replies, {"error": {"kind": type(error).__name__, "what": str(error)}})


def _call_function(message: dict[str, Any], on_progress: OnProgress) -> Any:  # noqa: ANN401
    from pydantic import TypeAdapter

    module, name = message["function"].split(":")
    if not module.startswith(PACKAGE):
        raise ValueError(f"{module} is not part of this package")
    function = getattr(importlib.import_module(module), name)
    request_type = next(iter(function.__annotations__.values()))
    request = TypeAdapter(request_type).validate_python(message["request"])
    return TypeAdapter(function.__annotations__["return"]).dump_python(function(request, on_progress), mode="json")


if __name__ == "__main__":
    serve_forks(int(sys.argv[1]))
