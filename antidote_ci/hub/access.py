"""Speaking to the Hub for one purpose: a token, or none, and how long to wait for an answer."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast

from antidote_ci.errors import AntidoteError, ConfigurationError, InfrastructureError
from antidote_ci.hub.client import api, forget_exchanged, prepare
from antidote_ci.hub.error_table import Purpose
from antidote_ci.hub.errors import explained, in_our_words, is_unauthorized, seconds_to_wait
from antidote_ci.hub.retry import SECONDS, Patience

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Answer = TypeVar("Answer")

RESOURCE_VARIABLE = "HF_OIDC_RESOURCE"
"""The repository or the account for which a workflow's identity is exchanged for a token."""
PATIENCE_VARIABLE = "ANTIDOTE_HUB_PATIENCE"
"""Seconds for which a Hub that fails in passing is asked again."""


@dataclass(frozen=True)
class Access:
    """Reading and publishing are separate rights: each has its own."""

    token: str | None = field(default=None, repr=False)
    """The token that is sent. With `resource` it is the first one, and every attempt sends the current one."""
    patience: Patience = field(default_factory=Patience)
    purpose: Purpose = "reading"
    resource: str | None = None
    """Set where the token was exchanged for the workflow's identity: such a token expires during a long run."""

    def ask(self, identifier: str, call: Callable[["HfApi"], Answer]) -> Answer:
        """What `call` gets from the client about `identifier`, asked again while the Hub fails in passing.

        `call` may run many times, so it must look before it changes anything. Raises our errors, never the client's.
        """
        resource = self.resource
        if resource is None:
            return self._insist(identifier, lambda: call(api(self.token)))
        return self._insist(identifier, lambda: self._ask_with_exchanged(resource, call))

    def exchange(self, resource: str) -> str:
        """The current token of the workflow's own identity for `resource`, which may be the one of an earlier call.

        Raises ValueError unless HF_OIDC_RESOURCE of this process is `resource`: the client looks there, and where it is
        not set would return a token that is saved on this machine.
        """
        from huggingface_hub import get_token

        if os.environ.get(RESOURCE_VARIABLE) != resource:
            raise ValueError(f"{RESOURCE_VARIABLE} of this process is not {resource}")
        prepare()
        # With HF_OIDC_RESOURCE the client raises an error instead of returning None.
        return cast(str, self._insist(resource, get_token))

    def _ask_with_exchanged(self, resource: str, call: Callable[["HfApi"], Answer]) -> Answer:
        """What `call` gets. It runs once more if the Hub no longer accepts the token, as during a long upload."""
        token = self._current(resource)
        try:
            return call(api(token))
        except Exception as error:
            if not is_unauthorized(error):
                raise
        # The Hub may end a token earlier than it told the client.
        forget_exchanged(token)
        return call(api(self._current(resource)))

    def _current(self, resource: str) -> str:
        """The token for `resource`. The client exchanges the identity again some minutes before the token expires."""
        purpose: Purpose = "exchanging again" if os.environ.get("HF_OIDC_ID_TOKEN") else "exchanging"
        return Access(None, self.patience, purpose).exchange(resource)

    def _insist(self, identifier: str, attempt: Callable[[], Answer]) -> Answer:
        def told(error: Exception) -> str:
            ours = isinstance(error, AntidoteError)
            return str(error if ours else in_our_words(error, identifier, self.token, self.purpose))

        with explained(identifier, self.token, self.purpose):
            return self.patience.insist(attempt, seconds_to_wait, told)


def reading(environ: Mapping[str, str]) -> Access:
    """For pulling: HF_TOKEN where it is set."""
    return Access(_token(environ, "HF_TOKEN"), _patience(environ))


def writing(environ: Mapping[str, str]) -> Access:
    """For publishing: HF_WRITE_TOKEN, else the workflow's own identity (HF_OIDC_RESOURCE), else HF_TOKEN.

    The identity is exchanged at once, so that a workflow that is not trusted fails before the work. Raises
    InfrastructureError when there is nothing to publish with. https://huggingface.co/docs/hub/trusted-publishers
    """
    patience = _patience(environ)
    token = _token(environ, "HF_WRITE_TOKEN")
    if not token and (resource := environ.get(RESOURCE_VARIABLE)):
        first = Access(None, patience, "exchanging").exchange(resource)
        return Access(first, patience, "publishing", resource)
    token = token or _token(environ, "HF_TOKEN")
    if not token:
        raise InfrastructureError(
            "publishing needs a token that may write",
            cause="neither HF_WRITE_TOKEN, HF_OIDC_RESOURCE nor HF_TOKEN is set",
            hint="set HF_WRITE_TOKEN to a token that may write there, or use --publish none",
        )
    return Access(token, patience, "publishing")


def submitting(environ: Mapping[str, str]) -> Access:
    """For Jobs, which cost money: HF_JOBS_TOKEN, else HF_TOKEN. Raises InfrastructureError when neither is set."""
    token = _jobs_token(environ)
    if not token:
        raise InfrastructureError(
            "a Job needs a token that may start it",
            cause="neither HF_JOBS_TOKEN nor HF_TOKEN is set",
            hint="set HF_JOBS_TOKEN to a token with the right to start Jobs, or run --on here",
        )
    return Access(token, _patience(environ), "submitting")


def managing(environ: Mapping[str, str]) -> Access:
    """For webhooks: the same tokens as for Jobs. Raises InfrastructureError when neither is set."""
    token = _jobs_token(environ)
    if not token:
        raise InfrastructureError(
            "webhooks belong to an account, and no token says to which",
            cause="neither HF_JOBS_TOKEN nor HF_TOKEN is set",
            hint="set HF_JOBS_TOKEN to a token that may manage webhooks",
        )
    return Access(token, _patience(environ), "managing")


def _jobs_token(environ: Mapping[str, str]) -> str | None:
    return _token(environ, "HF_JOBS_TOKEN") or _token(environ, "HF_TOKEN")


def _token(environ: Mapping[str, str], name: str) -> str | None:
    token = environ.get(name, "").strip()
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigurationError(
            f"{name} has characters that no token has", hint="set it without quotes, spaces and line ends"
        )
    return token or None


def _patience(environ: Mapping[str, str]) -> Patience:
    text = environ.get(PATIENCE_VARIABLE, "").strip()
    try:
        seconds = float(text) if text else SECONDS
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigurationError(f"{PATIENCE_VARIABLE} is {text!r}, no number of seconds", hint="600 is the default")
    return Patience(seconds)
