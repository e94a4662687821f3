"""What this project assumes of the Hub and no document says: a question each, asked at a repository for scratch."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.client import create_api, redact_secrets
from antidote_ci.hub.retry import RetryPolicy

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub import HfApi


class NotAsked(Exception):
    """The question needs something that was not given."""


@dataclass(frozen=True)
class Scratch:
    """Where the questions are asked, and with which tokens."""

    repository: str
    """A private repository, to whose namespace the token may write."""
    token: str = field(repr=False)
    read_token: str | None = field(default=None, repr=False)
    """A token of the same account that may only read."""
    has_jobs: bool = False
    """Whether Jobs may be started. Each of them costs less than a cent."""
    job_seconds: int = 10
    """The time limit of a Job that exceeds it."""
    sleep: Callable[[float], None] = time.sleep

    @property
    def access(self) -> HubAccess:
        return HubAccess(self.token, RetryPolicy(0))

    @property
    def client(self) -> "HfApi":
        return create_api(self.token)

    def post(self, path: str, body: dict[str, Any]) -> "httpx2.Response":
        """Send JSON to an address of the Hub's API, and return the answer whatever its status."""
        from huggingface_hub import get_session
        from huggingface_hub.utils import build_hf_headers

        return get_session().post(
            f"{self.client.endpoint}/api/{path}", json=body, headers=build_hf_headers(token=self.token)
        )


@dataclass(frozen=True)
class Question:
    """One question with the answer that the code assumes."""

    name: str
    text: str
    assumed: str
    ask: Callable[[Scratch], str]
    """Raises NotAsked."""


@dataclass(frozen=True)
class Answer:
    """The answer to one question; None if it was not asked."""

    question: Question
    given: str | None
    reason: str = ""
    """Why it was not asked."""

    @property
    def is_different(self) -> bool:
        return self.given not in (None, self.question.assumed)


def answer_question(question: Question, scratch: Scratch) -> Answer:
    """Ask, and take an error as the answer."""
    try:
        return Answer(question, question.ask(scratch))
    except NotAsked as reason:
        return Answer(question, None, str(reason))
    except Exception as error:  # noqa: BLE001 - whatever the Hub does is an answer
        return Answer(question, redact_secrets(f"{type(error).__name__}: {error}".splitlines()[0], scratch.token))


def render_table(answers: list[Answer]) -> str:
    """Return the answers as text: the question, then what is assumed and what the Hub said."""
    lines = []
    for answer in answers:
        state = "not asked" if answer.given is None else "DIFFERENT" if answer.is_different else "as assumed"
        lines += [f"{state:<12}{answer.question.name:<17}{answer.question.text}"]
        lines += [f"{'':<29}assumed: {answer.question.assumed}"] if answer.given != answer.question.assumed else []
        lines += [f"{'':<29}answer:  {answer.given or answer.reason}"]
    return "\n".join(lines)
