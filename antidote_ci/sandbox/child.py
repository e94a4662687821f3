"""One child process.

A child may be taken over by the checkpoint that it opens. The parent ends it when it exceeds a limit, and with it every
process that it started.
"""

import json
import os
import select
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TypeVar

from antidote_ci import errors
from antidote_ci.checkpoint.links import FileState, link_checkpoint
from antidote_ci.paths import remove_tree
from antidote_ci.records import Model, OnProgress
from antidote_ci.sandbox.fork_server import ChildEnded, ForkServer
from antidote_ci.sandbox.replies import (
    MAX_REPLY_BYTES,
    START_LIMITS,
    CallLimits,
    Reply,
    clean_progress,
    describe_end,
    excess_error,
    invalid_reply_error,
    opening_error,
    rebuild_error,
    reply_adapter,
    slowness_error,
)
from antidote_ci.sandbox.usage import measure_group, watch_disk

Result = TypeVar("Result")

POLL_SECONDS = 0.2
WATCH_SECONDS = 0.5
"""Between two looks at what a child uses."""
PROGRESS_SECONDS = 0.05
"""Shorter pauses between progress updates are not passed on, so that a flood of them does not hold the parent."""
MAX_PROCESSES, MAX_THREADS = 256, 5_000
"""Of a child and its forks. One library may start a thread for each processor core."""
MAX_FILE_BYTES, MAX_OUTPUT_FILE_BYTES = 1 << 30, 1 << 40
"""The largest file that a child may write, and one with output folders: more than the largest checkpoint has."""
MIN_FREE_BYTES, MIN_FREE_FILES = 256 << 20, 10_000
"""A child ends when the disk of its home folder has room for no more than this."""
MIN_FREE_OUTPUT_BYTES, MIN_FREE_OUTPUT_FILES = 4 << 20, 100
"""The same for the disks of its log and its outputs, which a repaired model may rightly fill."""
SECONDS_TO_END = 60
"""For the processes of a group that were killed: each first leaves the system call that it is in."""
MEASURED_FORKS = 1
"""The check of a checkpoint has one fork at a time, whose memory is at first that of the child."""


@dataclass(frozen=True)
class ChildInputs:
    """What one child opens: the states of the files of each input path, and the folders that it writes."""

    states: tuple[tuple[Path, tuple[FileState, ...]], ...]
    outputs: tuple[Path, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The input paths, whatever the states of their files are."""
        return tuple(path for path, _ in self.states)


class Child:
    """One child process with its inputs."""

    def __init__(self, server: ForkServer, inputs: ChildInputs, model: Model | None, links: Path, log: Path) -> None:
        """`model` is the one model that the process loads, if its memory can be estimated."""
        self.inputs, self.model = inputs, model
        self._server, self._log = server, log
        self._buffer = bytearray()
        self._ended = False
        self.is_idle = True
        """False during a call, and after one that was interrupted: its reply must not answer the next call."""
        with ExitStack() as resources:
            self._folder = Path(tempfile.mkdtemp(prefix="child-", dir=server.home))
            resources.callback(remove_tree, self._folder)
            home = self._folder / "home"
            home.mkdir(mode=0o700)
            self._disks = [watch_disk("temporary folder", home, MIN_FREE_BYTES, MIN_FREE_FILES)]
            for output in inputs.outputs:
                output.mkdir(parents=True, exist_ok=True)
            # The links may be hard links: below a folder that the child may write, it could change the inputs.
            is_exposed = any(links.resolve().is_relative_to(output.resolve()) for output in inputs.outputs)
            linked = tempfile.TemporaryDirectory(dir=self._folder if is_exposed else links)
            self._links = Path(resources.enter_context(linked))
            readable = self._link_inputs()
            for name, folder in (("log", log.parent), *(("output", output) for output in inputs.outputs)):
                self._disks.append(watch_disk(name, folder, MIN_FREE_OUTPUT_BYTES, MIN_FREE_OUTPUT_FILES))
            requests, self._requests = os.pipe()
            resources.callback(os.close, self._requests)
            self._replies, replies = os.pipe()
            resources.callback(os.close, self._replies)
            os.set_blocking(self._requests, False)  # a child that does not read must not hold the parent
            try:
                self.process = server.fork(requests, replies)
            finally:
                os.close(requests)
                os.close(replies)
            resources.callback(self._kill)
            confinement = {
                "home": str(home),
                "readable": list(map(str, readable)),
                "writable": list(map(str, [home, *(path.absolute() for path in inputs.outputs)])),
                "largest_file": MAX_OUTPUT_FILE_BYTES if inputs.outputs else MAX_FILE_BYTES,
            }
            self._send(confinement, START_LIMITS)
            # The child has not opened an untrusted file yet, so it can be believed.
            self.protections = self._receive(START_LIMITS, 0).protections or []
            self._resources = resources.pop_all()

    def _link_inputs(self) -> list[Path]:
        """Link the inputs into the child's own folder. Returns the files and folders that it may read."""
        self._replaced: dict[Path, Path] = {}
        readable = [self._links]
        for number, (path, states) in enumerate(self.inputs.states):
            if path.is_dir():
                linked = link_checkpoint(path, [state.name for state in states], self._links / str(number))
                self._replaced[path] = linked.folder
                readable += linked.targets
            else:
                readable.append(path)
        return readable

    def call(
        self, function: Callable[..., Result], request: object, on_progress: OnProgress, limits: CallLimits
    ) -> Result:
        """Continue the process for one call, and stop it afterwards: it may have been taken over."""
        self._signal(signal.SIGCONT)
        try:
            return self._call(function, request, on_progress, limits)
        finally:
            self._signal(signal.SIGSTOP)

    def _call(
        self, function: Callable[..., Result], request: object, on_progress: OnProgress, limits: CallLimits
    ) -> Result:
        from pydantic import TypeAdapter, ValidationError

        payload = TypeAdapter(type(request)).dump_python(request, mode="python")
        name = f"{function.__module__}:{function.__qualname__}"
        before = max(measure_group(self.process).memory, default=0)
        self.is_idle = False
        self._require_no_reply()
        self._send({"function": name, "request": _replace_paths(payload, self._replaced)}, limits)
        update, shown, started = None, -PROGRESS_SECONDS, time.monotonic()
        while True:
            if time.monotonic() - started > limits.total:
                raise ChildEnded(slowness_error(limits, self._log))
            reply = self._receive(limits, before)
            if reply.progress is not None:
                update = clean_progress(reply.progress)
            if update is not None and (reply.progress is None or time.monotonic() - shown >= PROGRESS_SECONDS):
                on_progress(update)
                update, shown = None, time.monotonic()
            if reply.error is not None:
                self.is_idle = True
                raise rebuild_error(reply.error, self._log)
            if reply.progress is None:
                try:
                    result: Result = TypeAdapter(function.__annotations__["return"]).validate_python(reply.result)
                except ValidationError:
                    raise ChildEnded(invalid_reply_error()) from None
                if not all(self._is_own_path(path) for path in iterate_values(result, Path)):
                    raise ChildEnded(invalid_reply_error())
                self.is_idle = True
                return result

    def end(self) -> None:
        """End the process with its forks, and remove its folders."""
        self._resources.close()

    def _kill(self) -> None:
        if not self._ended:
            self._signal(signal.SIGKILL)
            with suppress(ChildEnded):
                self._wait()

    def _wait(self) -> int:
        """Wait until the process and its forks have ended. Returns its exit code."""
        self._ended = True  # its number may be that of another process soon
        code = self._server.wait(self.process)
        until = time.monotonic() + SECONDS_TO_END
        while measure_group(self.process).is_running and time.monotonic() < until:
            time.sleep(0.005)
        return code

    def _signal(self, number: int) -> None:
        if not self._ended:
            with suppress(ProcessLookupError, PermissionError):  # macOS reports the second for a dead process
                os.killpg(self.process, number)

    def _require_no_reply(self) -> None:
        """Raise when the child has sent more than the replies to earlier calls."""
        poll = select.poll()
        poll.register(self._replies, select.POLLIN)
        if self._buffer or (poll.poll(0) and os.read(self._replies, 1)):
            raise ChildEnded(invalid_reply_error())

    def _send(self, message: object, limits: CallLimits) -> None:
        data = memoryview(json.dumps(message).encode() + b"\n")
        poll = select.poll()
        poll.register(self._requests, select.POLLOUT)
        try:
            while data:
                if not poll.poll(limits.silence * 1000):
                    raise ChildEnded(slowness_error(limits, self._log))
                data = data[os.write(self._requests, data) :]
        except BrokenPipeError:
            raise self._death() from None

    def _receive(self, limits: CallLimits, allocated_before: int) -> Reply:
        """The next reply of the child."""
        from pydantic import ValidationError

        deadline, next_watch = time.monotonic() + limits.silence, 0.0
        poll = select.poll()
        poll.register(self._replies, select.POLLIN)
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if poll.poll(POLL_SECONDS * 1000):
                data = os.read(self._replies, 1 << 16)
                if not data:
                    raise self._death()
                self._buffer += data
                if len(self._buffer) > MAX_REPLY_BYTES:
                    raise ChildEnded(invalid_reply_error())
            if time.monotonic() >= next_watch:
                self._require_moderate_use(limits, allocated_before)
                next_watch = time.monotonic() + WATCH_SECONDS
            if time.monotonic() > deadline:
                raise ChildEnded(slowness_error(limits, self._log))
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            reply: Reply = reply_adapter().validate_json(line)
        except ValidationError:
            raise ChildEnded(invalid_reply_error()) from None
        return reply

    def _require_moderate_use(self, limits: CallLimits, allocated_before: int) -> None:
        """Raise when the child and its forks exceed a limit of memory, processes, threads or disk space."""
        group = measure_group(self.process)
        memory = sorted(group.memory, reverse=True)
        expected = MEASURED_FORKS + 1
        allocated = sum(max(0, used - allocated_before) for used in memory[:expected]) + sum(memory[expected:])
        if limits.memory is not None and allocated > limits.memory:
            raise ChildEnded(opening_error(f"takes more than {limits.memory >> 20:,} MiB of memory"))
        if len(group.memory) > MAX_PROCESSES or group.threads > MAX_THREADS:
            raise ChildEnded(excess_error(f"started more than {MAX_PROCESSES} processes or {MAX_THREADS:,} threads"))
        for disk in self._disks:
            if disk.is_full():
                raise ChildEnded(excess_error(f"filled the disk of its {disk.name}"))

    def _is_own_path(self, path: Path) -> bool:
        outputs = (output.absolute() for output in self.inputs.outputs)
        return ".." not in path.parts and any(path.absolute().is_relative_to(output) for output in outputs)

    def _death(self) -> ChildEnded:
        code = self._wait()
        return ChildEnded(
            errors.InfrastructureError(
                f"the process that runs the model died ({describe_end(code)})",
                cause="most likely the machine ran out of memory" if code == -9 else "its log has the details",
                hint=f"read its log, {self._log}, or use a machine with more memory",
            )
        )


Value = TypeVar("Value")


def iterate_values(value: object, kind: type[Value]) -> Iterator[Value]:
    """Every value of the class `kind` in a record, at any depth."""
    if isinstance(value, kind):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from iterate_values(getattr(value, field.name), kind)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from iterate_values(inner, kind)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from iterate_values(inner, kind)


def _replace_paths(value: object, replaced: Mapping[Path, Path]) -> object:
    if isinstance(value, Path):
        return str(replaced.get(value, value))
    if isinstance(value, Mapping):
        return {key: _replace_paths(inner, replaced) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_paths(inner, replaced) for inner in value]
    return value
