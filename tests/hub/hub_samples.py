"""Values and helpers for the tests of the Hub."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError

from antidote_ci.errors import AntidoteError
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.retry import RetryPolicy
from antidote_ci.records import Manifest, ReportedSource

CARD = "---\nlicense: apache-2.0\nbase_model: demo/base\ntags: [demo]\n---\n# A small model\n"
TOKEN = "hf_loopbackToken"

NO_RETRY = HubAccess(retry_policy=RetryPolicy(0))
"""Access without a token and without retries."""

MakeModel = Callable[..., Path]


@dataclass
class Clock:
    """A clock that advances only in `sleep`; thread-safe."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)
    passing: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self.passing:
            self.slept.append(seconds)
            self.now += seconds


uploads = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
"""huggingface_hub 2.4.0 uploads large files with a deprecated argument of its HTTP library."""


def hub_error(kind: type[HfHubHTTPError], status: int, message: str = "no") -> HfHubHTTPError:
    """An exception of the client for an answer of the Hub."""
    request = httpx2.Request("GET", "http://127.0.0.1/api/models/org/model")
    return kind(message, response=httpx2.Response(status, request=request), server_message=message)


def full_text(error: AntidoteError) -> str:
    """The full text of an error."""
    return f"{error.what}\n{error.cause}\n{error.hint}\n{error!r}"


MANIFEST = Manifest(
    schema_version=1,
    tool_version="0",
    run_id="0" * 32,
    source=ReportedSource("org/model", "0" * 40, "full"),
    reference=None,
    method="scale",
    target="delta",
    per=None,
    dose=0.5,
    effective_dose=0.5,
    changed={},
    left_alone=[],
    policy_sha256="c" * 64,
    scores_sha256="",
    masks_sha256="",
    source_files={},
    reference_files={},
    plan=None,
    files=[],
)
"""The manifest of a repair of org/model. Tests add its files."""
