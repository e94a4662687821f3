"""Speaking to the Hub for one purpose: a token, or none, and how long to wait for an answer."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar, cast

from antidote_ci.errors import AntidoteError, ConfigurationError, InfrastructureError
from antidote_ci.hub.client import configure_client, create_api, forget_exchanged
from antidote_ci.hub.error_table import Purpose
from antidote_ci.hub.errors import is_unauthorized, retry_delay, to_antidote_error, translate_errors
from antidote_ci.hub.retry import DEFAULT_BUDGET, RetryPolicy

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Answer = TypeVar("Answer")

RESOURCE_VARIABLE = "HF_OIDC_RESOURCE"
"""The repository or the account for which a workflow's identity is exchanged for a token."""
RETRY_VARIABLE = "ANTIDOTE_HUB_PATIENCE"
"""Seconds for which a Hub that fails in passing is asked again."""


@dataclass(frozen=True)
class HubAccess:
    """Reading and publishing are separate rights: each has its own."""

    token: str | None = field(default=None, repr=False)
    """The token that is sent. With `resource` it is the first one, and every attempt sends the current one."""
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    purpose: Purpose = "reading"
    resource: str | None = None
    """Set where the token was exchanged for the workflow's identity: such a token expires during a long run."""

    def request(self, identifier: str, call: Callable[["HfApi"], Answer]) -> Answer:
        """What `call` gets from the client about `identifier`, asked again while the Hub fails in passing.

        `call` may run many times, so it must look before it changes anything. Raises our errors, never the client's.
        """
        resource = self.resource
        if resource is None:
            return self._retry(identifier, lambda: call(create_api(self.token)))
        return self._retry(identifier, lambda: self._ask_with_exchanged(resource, call))

    def exchange_token(self, resource: str) -> str:
        """The current token of the workflow's own identity for `resource`, which may be the one of an earlier call.

        Raises ValueError unless HF_OIDC_RESOURCE of this process is `resource`: the client looks there, and where it is
        not set would return a token that is saved on this machine.
        """
        from huggingface_hub import get_token

        if os.environ.get(RESOURCE_VARIABLE) != resource:
            raise ValueError(f"{RESOURCE_VARIABLE} of this process is not {resource}")
        configure_client()
        # With HF_OIDC_RESOURCE the client raises an error instead of returning None.
        return cast(str, self._retry(resource, get_token))

    def _ask_with_exchanged(self, resource: str, call: Callable[["HfApi"], Answer]) -> Answer:
        """What `call` gets. It runs once more if the Hub no longer accepts the token, as during a long upload."""
        token = self._current(resource)
        try:
            return call(create_api(token))
        except Exception as error:
            if not is_unauthorized(error):
                raise
        # The Hub may end a token earlier than it told the client.
        forget_exchanged(token)
        return call(create_api(self._current(resource)))

    def _current(self, resource: str) -> str:
        """The token for `resource`. The client exchanges the identity again some minutes before the token expires."""
        purpose: Purpose = "exchanging again" if os.environ.get("HF_OIDC_ID_TOKEN") else "exchanging"
        return HubAccess(None, self.retry_policy, purpose).exchange_token(resource)

    def _retry(self, identifier: str, attempt: Callable[[], Answer]) -> Answer:
        def told(error: Exception) -> str:
            ours = isinstance(error, AntidoteError)
            return str(error if ours else to_antidote_error(error, identifier, self.token, self.purpose))

        with translate_errors(identifier, self.token, self.purpose):
            return self.retry_policy.call(attempt, retry_delay, told)


def read_access(environ: Mapping[str, str]) -> HubAccess:
    """For pulling: HF_TOKEN where it is set."""
    return HubAccess(_read_token(environ, "HF_TOKEN"), _read_retry_policy(environ))


def write_access(environ: Mapping[str, str]) -> HubAccess:
    """For publishing: HF_WRITE_TOKEN, else the workflow's own identity (HF_OIDC_RESOURCE), else HF_TOKEN.

    The identity is exchanged at once, so that a workflow that is not trusted fails before the work. Raises
    InfrastructureError when there is nothing to publish with. https://huggingface.co/docs/hub/trusted-publishers
    """
    patience = _read_retry_policy(environ)
    token = _read_token(environ, "HF_WRITE_TOKEN")
    if not token and (resource := environ.get(RESOURCE_VARIABLE)):
        first = HubAccess(None, patience, "exchanging").exchange_token(resource)
        return HubAccess(first, patience, "publishing", resource)
    token = token or _read_token(environ, "HF_TOKEN")
    if not token:
        raise InfrastructureError(
            "publishing needs a token that may write",
            cause="neither HF_WRITE_TOKEN, HF_OIDC_RESOURCE nor HF_TOKEN is set",
            hint="set HF_WRITE_TOKEN to a token that may write there, or use --publish none",
        )
    return HubAccess(token, patience, "publishing")


def jobs_access(environ: Mapping[str, str]) -> HubAccess:
    """For Jobs, which cost money: HF_JOBS_TOKEN, else HF_TOKEN. Raises InfrastructureError when neither is set."""
    token = _jobs_token(environ)
    if not token:
        raise InfrastructureError(
            "a Job needs a token that may start it",
            cause="neither HF_JOBS_TOKEN nor HF_TOKEN is set",
            hint="set HF_JOBS_TOKEN to a token with the right to start Jobs, or run --on here",
        )
    return HubAccess(token, _read_retry_policy(environ), "submitting")


def webhook_access(environ: Mapping[str, str]) -> HubAccess:
    """For webhooks: the same tokens as for Jobs. Raises InfrastructureError when neither is set."""
    token = _jobs_token(environ)
    if not token:
        raise InfrastructureError(
            "webhooks belong to an account, and no token says to which",
            cause="neither HF_JOBS_TOKEN nor HF_TOKEN is set",
            hint="set HF_JOBS_TOKEN to a token that may manage webhooks",
        )
    return HubAccess(token, _read_retry_policy(environ), "managing")


def _jobs_token(environ: Mapping[str, str]) -> str | None:
    return _read_token(environ, "HF_JOBS_TOKEN") or _read_token(environ, "HF_TOKEN")


def _read_token(environ: Mapping[str, str], name: str) -> str | None:
    token = environ.get(name, "").strip()
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigurationError(
            f"{name} has characters that no token has", hint="set it without quotes, spaces and line ends"
        )
    return token or None


def _read_retry_policy(environ: Mapping[str, str]) -> RetryPolicy:
    text = environ.get(RETRY_VARIABLE, "").strip()
    try:
        seconds = float(text) if text else DEFAULT_BUDGET
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigurationError(f"{RETRY_VARIABLE} is {text!r}, no number of seconds", hint="600 is the default")
    return RetryPolicy(seconds)
