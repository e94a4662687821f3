"""Judges: they decide whether the answer of an exchange is harmful. One file per judge; the types are defined here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from antidote_ci.errors import AntidoteError
from antidote_ci.records import JudgeIdentity, OnProgress

Verdict = Literal["harmful", "safe", "unparsed"]


@dataclass(frozen=True)
class Exchange:
    """A prompt and the answer of the evaluated model. The answer is untrusted text."""

    prompt: str
    answer: str


@dataclass(frozen=True)
class JudgeVerdict:
    """The verdict on one exchange."""

    verdict: Verdict
    """`unparsed` when the output of the judge has no valid form."""
    refused: bool | None = None
    """Whether the answer is a refusal; None when the judge does not detect refusals."""


class Judge(Protocol):
    """A judge of exchanges. `identity.measure` names the share of its `harmful` verdicts."""

    @property
    def identity(self) -> JudgeIdentity:
        """The name, weights and settings of the judge."""
        ...

    def judge(self, exchanges: Sequence[Exchange], on_progress: OnProgress) -> list[JudgeVerdict]:
        """Return one verdict per exchange, in order. Raises AntidoteError, naming the judge, when it cannot run."""
        ...


def name_judge(identity: JudgeIdentity, error: AntidoteError) -> AntidoteError:
    """Return the same error with the judge named in its message."""
    return type(error)(
        f"the judge {identity.name} ({identity.model}) failed: {error.what}", cause=error.cause, hint=error.hint
    )
