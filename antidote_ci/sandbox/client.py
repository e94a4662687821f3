"""The parent process of the sandbox. All code that opens a model runs in a child process, `sandbox.worker`.

One child opens one set of inputs and nothing else: the files of a checkpoint that have been linked into a folder of its
own, and the libraries. The children are forks of one process that has imported the libraries and never opens an
untrusted file. It inherits only allow-listed environment variables, and has an empty home folder and no token.

The parent sends a child the name of a function of this package and a request; the child replies with JSON lines on a
pipe. The messages are JSON because parsing a malicious reply may fail but, unlike unpickling, cannot run code. Every
process exits when its parent closes the connection, so none outlives its parent.
"""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from antidote_ci.checkpoint.links import list_states
from antidote_ci.errors import AntidoteError
from antidote_ci.paths import create_file
from antidote_ci.records import Model, OnProgress, Progress
from antidote_ci.sandbox.child import Child, ChildInputs, iterate_values
from antidote_ci.sandbox.fork_server import ChildEnded, ForkServer
from antidote_ci.sandbox.replies import CALL_LIMITS, OPENING_LIMITS, START_LIMITS, CallLimits

Request = TypeVar("Request")
Result = TypeVar("Result")
MEMORY_FACTOR = 2.6
"""The memory that a model needs, at most, for each byte of its files: bfloat16 weights may run in float32, and 1.3 is
for activations and copies."""


class Runner(Protocol):
    """Runs the functions of this package that open models: a `Sandbox`, or in a test this process."""

    def call(
        self, function: Callable[[Request, OnProgress], Result], request: Request, on_progress: OnProgress
    ) -> Result:
        """Run `function(request, on_progress)` and return its result."""
        ...


class Sandbox:
    """Runs one call at a time, each in a child that sees only the call's own files.

    A child stays for the next call with the same inputs, so that weights are loaded once. The children of other models
    are stopped meanwhile, and end when the memory does not suffice for one more.
    """

    def __init__(
        self,
        log: Path,
        check: Callable[[Model, OnProgress], None] | None,
        measure_free_memory: Callable[[Model, OnProgress], int] | None = None,
    ) -> None:
        """`log` is the file to which the children write their output. Beside it lies a folder of links to the inputs.

        `check` runs once for each model before any other call opens it; None is for children that open no model.
        `measure_free_memory` returns the bytes that
        are free where a child loads a model. Without it, a child ends before one with other inputs starts.
        """
        self._log_path = log
        self._check = check
        self._measure_free_memory = measure_free_memory
        self._checked: set[ChildInputs] = set()
        self._children: list[Child] = []
        """The last one was used last."""
        self.protections: list[str] = []
        """The protections of the children; empty before the first call."""

    def __enter__(self) -> "Sandbox":
        with ExitStack() as resources:
            log = resources.enter_context(create_file(self._log_path, 0o600))
            folder = tempfile.TemporaryDirectory(prefix=".work-sandbox-", dir=self._log_path.parent.absolute())
            self._links = Path(resources.enter_context(folder))
            self._server = ForkServer(log, self._log_path)
            resources.callback(self._server.close)
            resources.callback(self.end_children)
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def call(
        self,
        function: Callable[[Request, OnProgress], Result],
        request: Request,
        on_progress: OnProgress,
        *,
        outputs: Sequence[Path] = (),
        limits: CallLimits = CALL_LIMITS,
    ) -> Result:
        """Run `function(request, on_progress)` in a child and return its result.

        The child can read the files and folders that `request` names, and write the folders `outputs`, which are
        created. Raises the function's error when its class is in `errors`; InfrastructureError for any other exception,
        when the child dies or exceeds `limits`, and for an invalid reply.
        """
        if self._check is not None and function is not self._check:
            for model in iterate_values(request, Model):
                self._check_once(model, on_progress)
        inputs, models = _list_inputs(request, outputs), set(iterate_values(request, Model))
        for interrupted in [child for child in self._children if not child.is_idle]:
            self._end(interrupted)
        child = next((child for child in self._children if child.inputs == inputs), None)
        try:
            if child is None:
                # Only a call that loads one model has an estimate of the memory that it needs.
                only = next(iter(models)) if len(models) == 1 and not outputs else None
                self._make_room(only, inputs)
                child = Child(self._server, inputs, only, self._links, self._log_path)
                self.protections = child.protections
            else:
                self._children.remove(child)
            self._children.append(child)
            return child.call(function, request, on_progress, limits)
        except ChildEnded as error:
            if child in self._children:
                self._end(child)
            raise error.explanation from None
        finally:
            if outputs and child in self._children:
                self._end(child)  # it could change the files after the caller has checked them

    def end_children(self) -> None:
        """End all children, so that their memory is free."""
        for child in list(self._children):
            self._end(child)

    def _make_room(self, model: Model | None, inputs: ChildInputs) -> None:
        """End the children that were not used for the longest time, until the memory suffices for one more model."""
        for child in [child for child in self._children if child.inputs.paths == inputs.paths]:
            self._end(child)  # its files have changed since
        loaded = (model.folder, model.adapter) if model else ()
        needed = MEMORY_FACTOR * sum(
            state.identity.size for path, states in inputs.states if path in loaded for state in states
        )
        while self._children:
            free = self._measure_free(self._children[-1]) if model else None
            if free is None:
                self._end(self._children[-1])
            elif free < needed:
                self._end(self._children[0])
            else:
                return

    def _measure_free(self, child: Child) -> int | None:
        """The free bytes where this child has its model; None if they are unknown."""
        if self._measure_free_memory is None or child.model is None:
            return None
        try:
            return child.call(self._measure_free_memory, child.model, _ignore, START_LIMITS)
        except (ChildEnded, AntidoteError):
            return None

    def _end(self, child: Child) -> None:
        self._children.remove(child)
        child.end()

    def _check_once(self, model: Model, on_progress: OnProgress) -> None:
        if self._check is None:
            return
        unedited = replace(model, edit=None)
        inputs = _list_inputs(unedited, ())
        if inputs not in self._checked:
            self.call(self._check, unedited, on_progress, limits=OPENING_LIMITS)
            self._checked.add(inputs)


def _ignore(_: Progress) -> None:
    pass


def _list_inputs(request: object, outputs: Sequence[Path]) -> ChildInputs:
    """The inputs of a request: all its paths outside of `outputs`."""
    roots = [output.absolute() for output in outputs]
    paths = dict.fromkeys(iterate_values(request, Path))
    inputs = [path for path in paths if not any(path.absolute().is_relative_to(root) for root in roots)]
    return ChildInputs(tuple((path, list_states(path)) for path in inputs), tuple(outputs))
