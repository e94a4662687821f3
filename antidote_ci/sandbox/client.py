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
from pathlib import Path
from typing import Protocol, TypeVar

from antidote_ci.checkpoint.links import list_states
from antidote_ci.paths import create_file
from antidote_ci.records import Model, OnProgress
from antidote_ci.sandbox.child import Child, Inputs, iterate_values
from antidote_ci.sandbox.fork_server import ChildEnded, ForkServer
from antidote_ci.sandbox.replies import CALL_LIMITS, OPENING_LIMITS, CallLimits

Request = TypeVar("Request")
Result = TypeVar("Result")


class Runner(Protocol):
    """Runs the functions of this package that open models: a `Sandbox`, or in a test this process."""

    def call(
        self, function: Callable[[Request, OnProgress], Result], request: Request, on_progress: OnProgress
    ) -> Result:
        """Run `function(request, on_progress)` and return its result."""
        ...


class Sandbox:
    """Runs one call at a time, each in a child that sees only the call's own files.

    A child stays for the next call with the same inputs, so that weights are loaded once, and ends before another one
    starts, so that two models are never in memory at once.
    """

    def __init__(self, log: Path, check: Callable[[Model, OnProgress], None] | None = None) -> None:
        """`log` is the file to which the children write their output. Beside it lies a folder of links to the inputs.

        `check` runs once for each model before any other call opens it.
        """
        self._log_path = log
        self._check = check
        self._checked: set[Inputs] = set()
        self._child: Child | None = None
        self.protections: list[str] = []
        """The protections of the children; empty before the first call."""

    def __enter__(self) -> "Sandbox":
        with ExitStack() as resources:
            log = resources.enter_context(create_file(self._log_path, 0o600))
            folder = tempfile.TemporaryDirectory(prefix=".work-sandbox-", dir=self._log_path.parent.absolute())
            self._links = Path(resources.enter_context(folder))
            self._server = ForkServer(log, self._log_path)
            resources.callback(self._server.close)
            resources.callback(self._end_child)
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
        inputs = _list_inputs(request, outputs)
        try:
            child = self._child
            if child is None or child.inputs != inputs or not child.is_idle:
                self._end_child()
                child = self._child = Child(self._server, inputs, self._links, self._log_path)
                self.protections = child.protections
            result = child.call(function, request, on_progress, limits)
        except ChildEnded as error:
            self._end_child()
            raise error.explanation from None
        if outputs:
            self._end_child()  # it could change the files after the caller has checked them
        return result

    def end_children(self) -> None:
        """End the idle child, so that the memory of its model is free for another program."""
        self._end_child()

    def _check_once(self, model: Model, on_progress: OnProgress) -> None:
        if self._check is None:
            return
        inputs = _list_inputs(model, ())
        if inputs not in self._checked:
            self.call(self._check, model, on_progress, limits=OPENING_LIMITS)
            self._checked.add(inputs)

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.end()


def _list_inputs(request: object, outputs: Sequence[Path]) -> Inputs:
    """The inputs of a request: all its paths outside of `outputs`."""
    roots = [output.absolute() for output in outputs]
    paths = dict.fromkeys(iterate_values(request, Path))
    inputs = [path for path in paths if not any(path.absolute().is_relative_to(root) for root in roots)]
    return Inputs(tuple((path, list_states(path)) for path in inputs), tuple(outputs))
