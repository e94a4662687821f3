"""Requests to the Hub for one purpose: the token, the account that it belongs to, and the retry policy."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from antidote_ci.errors import AntidoteError, ConfigurationError, InfrastructureError
from antidote_ci.hub.client import (
    configure_client,
    count_answers,
    create_api,
    has_answered,
    parse_answer,
    printable_endpoint,
)
from antidote_ci.hub.error_table import Purpose
from antidote_ci.hub.errors import UNAUTHORIZED, is_unauthorized, retry_delay, to_antidote_error, translate_errors
from antidote_ci.hub.retry import RetryPolicy

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Answer = TypeVar("Answer")

RESOURCE_VARIABLE = "HF_OIDC_RESOURCE"
"""The repository or account for which a workflow's identity is exchanged for a token."""
RETRY_VARIABLE = "ANTIDOTE_HUB_RETRY_SECONDS"
"""The retry budget in seconds."""
FORBIDDEN = 403
WORKFLOW = "[OIDC]"
"""The name under which the Hub shows the pushes of every workflow identity. We expect it for pull requests too."""
EXCHANGED_PREFIX = "hf_jwt_"
"""The beginning of a token that was exchanged for the identity of a workflow, maybe by an earlier step."""
WRITING_ROLES = ("contributor", "write", "admin")
"""The roles in an organisation with which a member may create repositories there. The others are read and no_access.
https://huggingface.co/docs/hub/organizations-security"""


@dataclass(frozen=True)
class HubAccess:
    """A token with its purpose. Reading and publishing use separate tokens."""

    token: str | None = field(default=None, repr=False)
    """With `resource`, the first token: each attempt sends the current one."""
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    purpose: Purpose = "reading"
    resource: str | None = None
    """Set if the token was exchanged for the workflow's identity. Such a token expires during a long run."""

    @property
    def is_workflow(self) -> bool:
        """Whether the token stands for a workflow, which has no account.

        The origin of the token decides: the Hub's answer to `whoami` for such a token is not documented.
        """
        return self.resource is not None or (self.token or "").startswith(EXCHANGED_PREFIX)

    def request(
        self,
        identifier: str,
        call: Callable[["HfApi"], Answer],
        count_finished: Callable[[], int] = lambda: 0,
    ) -> Answer:
        """Return `call(client)`, and retry it after transient errors.

        `call` may run several times, so it must check the state before it changes anything. `count_finished`: see
        `RetryPolicy.call`. Raises AntidoteError about `identifier` instead of the client's exceptions.
        """
        resource = self.resource
        if resource is None:
            return self._retry(identifier, lambda: call(create_api(self.token)), count_finished)
        return self._retry(identifier, lambda: self._call_with_exchanged(resource, call), count_finished)

    def exchange_token(self, resource: str) -> str:
        """The current token of the workflow's own identity for `resource`. The client caches it.

        Raises ValueError unless HF_OIDC_RESOURCE of this process is `resource`: the client reads that variable, and
        without it would return a token saved on this machine.
        """
        from huggingface_hub import get_token

        if os.environ.get(RESOURCE_VARIABLE) != resource:
            raise ValueError(f"{RESOURCE_VARIABLE} of this process is not {resource}")
        configure_client()
        # With HF_OIDC_RESOURCE the client raises an error instead of returning None.
        return cast(str, self._retry(resource, get_token))

    def _call_with_exchanged(self, resource: str, call: Callable[["HfApi"], Answer]) -> Answer:
        """Return `call(client)`, and call it once more if the Hub no longer accepts the token."""
        token = self._current_token(resource)
        try:
            return call(create_api(token))
        except Exception as error:
            if not is_unauthorized(error):
                raise
        # The Hub may revoke a token before the announced expiry.
        forget_exchanged(token)
        return call(create_api(self._current_token(resource)))

    def _current_token(self, resource: str) -> str:
        """The token for `resource`. The client exchanges the identity again some minutes before the token expires."""
        purpose: Purpose = "exchanging again" if os.environ.get("HF_OIDC_ID_TOKEN") else "exchanging"
        return HubAccess(None, self.retry_policy, purpose).exchange_token(resource)

    def _retry(
        self, identifier: str, attempt: Callable[[], Answer], count_finished: Callable[[], int] = lambda: 0
    ) -> Answer:
        def describe(error: Exception) -> str:
            ours = isinstance(error, AntidoteError)
            return str(error if ours else to_antidote_error(error, identifier, self.token, self.purpose))

        def attempt_counted() -> Answer:
            count_answers()
            return attempt()

        with translate_errors(identifier, self.token, self.purpose):
            return self.retry_policy.call(attempt_counted, retry_delay, describe, has_answered, count_finished)


def read_access(environ: Mapping[str, str]) -> HubAccess:
    """Access for pulling, with HF_TOKEN if it is set."""
    return HubAccess(_read_token(environ, "HF_TOKEN"), _read_retry_policy(environ))


def write_access(environ: Mapping[str, str]) -> HubAccess:
    """Access for publishing: HF_WRITE_TOKEN, else the workflow's own identity (HF_OIDC_RESOURCE), else HF_TOKEN.

    The identity is exchanged immediately, so that an untrusted workflow fails before the work. Raises
    InfrastructureError when no token is set. https://huggingface.co/docs/hub/trusted-publishers
    """
    retry_policy = _read_retry_policy(environ)
    token = _read_token(environ, "HF_WRITE_TOKEN")
    if not token and (resource := environ.get(RESOURCE_VARIABLE)):
        first = HubAccess(None, retry_policy, "exchanging").exchange_token(resource)
        return HubAccess(first, retry_policy, "publishing", resource)
    token = token or _read_token(environ, "HF_TOKEN")
    if not token:
        raise InfrastructureError(
            "publishing requires a token with write access",
            cause="neither HF_WRITE_TOKEN, HF_OIDC_RESOURCE nor HF_TOKEN is set",
            hint="set HF_WRITE_TOKEN to a token with write access, or use --publish none",
        )
    return HubAccess(token, retry_policy, "publishing")


def jobs_access(environ: Mapping[str, str]) -> HubAccess:
    """Access for paid Jobs: HF_JOBS_TOKEN, else HF_TOKEN. Raises InfrastructureError when neither is set."""
    return _account_access(environ, "submitting", "start Jobs", "or run with --on here")


def webhook_access(environ: Mapping[str, str]) -> HubAccess:
    """Access for webhooks, with the tokens of `jobs_access`. Raises InfrastructureError when neither is set."""
    return _account_access(environ, "managing", "manage webhooks", "since a webhook belongs to an account")


def _account_access(environ: Mapping[str, str], purpose: Purpose, right: str, advice: str) -> HubAccess:
    token = _read_token(environ, "HF_JOBS_TOKEN") or _read_token(environ, "HF_TOKEN")
    if not token:
        raise InfrastructureError(
            f"a token is required to {right}",
            cause="neither HF_JOBS_TOKEN nor HF_TOKEN is set",
            hint=f"set HF_JOBS_TOKEN to a token that may {right}, {advice}",
        )
    return HubAccess(token, _read_retry_policy(environ), purpose)


def _read_token(environ: Mapping[str, str], name: str) -> str | None:
    token = environ.get(name, "").strip()
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise ConfigurationError(
            f"{name} contains characters that are not allowed in a token",
            hint="set it without quotes, spaces and line ends",
        )
    return token or None


def _read_retry_policy(environ: Mapping[str, str]) -> RetryPolicy:
    text = environ.get(RETRY_VARIABLE, "").strip()
    if not text:
        return RetryPolicy()
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ConfigurationError(f"{RETRY_VARIABLE} is {text!r}, not a number of seconds", hint="the default is 600")
    return RetryPolicy(seconds, first_contact_seconds=seconds)


@dataclass(frozen=True)
class HubAccount:
    """The account of a token."""

    name: str
    namespaces: tuple[str, ...]
    """The account and the organisations in which it may create repositories. Empty for a workflow's identity."""


def read_account(access: HubAccess, identifier: str) -> HubAccount:
    """The account of the token, for a request about `identifier`. Raises InfrastructureError for a read-only token."""
    if access.is_workflow:
        return HubAccount(WORKFLOW, ())
    return access.request(identifier, _read_account)


def read_name(access: HubAccess, identifier: str) -> str:
    """The name of the account of the token, with any rights, for a request about `identifier`."""
    return WORKFLOW if access.is_workflow else str(access.request(identifier, read_whoami)["name"])


def require_hub(client: "HfApi") -> None:
    """Raise InfrastructureError unless the endpoint rejects a `whoami` request without a token, as a Hub does."""
    from huggingface_hub import get_session, hf_raise_for_status

    response = get_session().get(f"{client.endpoint}/api/whoami-v2")
    if response.status_code != UNAUTHORIZED:
        hf_raise_for_status(response)
        raise InfrastructureError(
            f"{printable_endpoint()} does not require a token for whoami",
            cause="the server is not a Hub",
            hint="check HF_ENDPOINT",
        )


def _read_account(client: "HfApi") -> HubAccount:
    answer = read_whoami(client)
    name = str(answer["name"])
    with parse_answer():
        role = answer.get("auth", {}).get("accessToken", {}).get("role")
        organisations = [
            str(organisation["name"])
            for organisation in answer.get("orgs", [])
            if organisation.get("roleInOrg", "write") in WRITING_ROLES
        ]
    if role == "read":
        raise InfrastructureError(
            f"the token of {name} is read-only",
            cause="publishing creates a commit",
            hint="create a token with write access, and set it as HF_WRITE_TOKEN",
        )
    return HubAccount(name, (name, *organisations))


def read_whoami(client: "HfApi") -> dict[str, Any]:
    """The Hub's description of the account of the token, which has a name."""
    answer = client.whoami(cache=True)
    if not isinstance(answer, dict) or not isinstance(answer.get("name"), str):
        raise InfrastructureError(
            f"{printable_endpoint()} does not name the account of the token",
            cause="the server is not a Hub",
            hint="check HF_ENDPOINT",
        )
    return answer


def forget_exchanged(token: str) -> None:
    """Remove `token` from the client's cache, so that the client exchanges the workflow's identity again.

    The client (2.4) caches the token until the expiry that the Hub announced, and has no public function to remove it.
    `tests/hub/test_client.py` checks the private names that are used here.
    """
    from huggingface_hub.utils import _auth

    with _auth._OIDC_TOKEN_LOCK:
        cached = _auth._OIDC_TOKEN_CACHE
        if cached is not None and cached["token"] == token:
            _auth._OIDC_TOKEN_CACHE = None
