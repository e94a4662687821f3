"""The child process of the sandbox: reads requests, runs the functions that they name, and replies with JSON lines."""

import dataclasses
import importlib
import json
import os
import queue
import sys
import threading
import traceback
from typing import IO, Any

from antidote_ci.errors import AntidoteError, ConfigurationError
from antidote_ci.records import OnProgress, Progress
from antidote_ci.sandbox.limits import drop_privileges

PACKAGE = "antidote_ci."


def serve_requests(replies_descriptor: int) -> None:
    """Answer requests from standard input until it ends."""
    drop_privileges()
    requests: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    with os.fdopen(replies_descriptor, "wb") as replies:
        while True:
            _answer_request(requests.get(), replies)


def _read_requests(requests: "queue.Queue[bytes]") -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)  # the main thread may be in a long forward pass whose result nobody reads


def _answer_request(line: bytes, replies: IO[bytes]) -> None:
    def send(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message).encode() + b"\n")
        replies.flush()

    def send_progress(progress: Progress) -> None:
        send({"progress": dataclasses.asdict(progress)})

    def send_error(error: AntidoteError) -> None:
        kind = type(error).__name__
        send({"error": {"kind": kind, "what": error.what, "cause": error.cause, "hint": error.hint}})

    try:
        send({"result": _call_function(json.loads(line), send_progress)})
    except AntidoteError as error:
        send_error(error)
    except PermissionError as error:
        send_error(
            ConfigurationError(
                f"the process that runs the model may not open {error.filename or 'a file'}",
                cause="it has no privileges, so it cannot read files of other users, even if root started it",
                hint="make the checkpoint readable with `chmod -R a+rX FOLDER`, or run as its owner",
            )
        )
    except Exception as error:  # noqa: BLE001 - the parent raises it
        traceback.print_exc()
        send({"error": {"kind": type(error).__name__, "what": str(error)}})


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
    serve_requests(int(sys.argv[1]))
