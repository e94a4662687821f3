"""Every way a run can end early: one class per exit code, each naming the thing, the likely cause and what to do next.

Verdicts about a model are results, not errors: they live in `records`.
"""

VERDICTS = (0, 1, 4, 7)
"""Their exit codes."""


class AntidoteError(Exception):
    """Base of all expected failures.

    `what` names the thing and what is wrong with it, `cause` the likely reason, `hint` the next command or step.
    `passing`: the same question may be answered otherwise in a while.
    """

    exit_code = 3

    def __init__(self, what: str, *, cause: str | None = None, hint: str | None = None, passing: bool = False) -> None:
        super().__init__(what)
        self.what = what
        self.cause = cause
        self.hint = hint
        self.passing = passing


class ConfigurationError(AntidoteError):
    """The request cannot be carried out as written: usage, policy, or a checkpoint of an unsupported kind."""

    exit_code = 2


class InfrastructureError(AntidoteError):
    """Something around the run failed: Hub, network, disk, memory, a child process that died."""

    exit_code = 3


class PublishConflict(AntidoteError):
    """Source or destination moved, or the destination is somebody else's: nothing was published over it."""

    exit_code = 5


class UnsafeCheckpoint(AntidoteError):
    """The checkpoint is refused as unsafe to open: pickled weights only, lying headers, paths that leave the folder."""

    exit_code = 6


class Terminated(BaseException):
    """SIGTERM arrived. Like KeyboardInterrupt it passes every `except Exception`, so that clean-up runs."""

    exit_code = 143
