"""What each answer of the Hub means: the thing, the likely cause, the next command. docs/hub-errors.md shows it.

In the texts {it} is what was asked about, {hub} the Hub's address, {variable} where the token comes from.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from antidote_ci.errors import AntidoteError, ConfigurationError, InfrastructureError, PublishConflict

Purpose = Literal["reading", "publishing", "exchanging", "exchanging again", "submitting", "managing"]
"""The same answer has other causes for each.

`exchanging` is of a workflow's identity for a token, `exchanging again` of the one in HF_OIDC_ID_TOKEN, `submitting` of
Jobs, `managing` of webhooks.
"""
VARIABLES: Mapping[Purpose, str] = MappingProxyType(
    {
        "reading": "HF_TOKEN",
        "publishing": "HF_WRITE_TOKEN",
        "exchanging": "HF_WRITE_TOKEN",
        "exchanging again": "HF_WRITE_TOKEN",
        "submitting": "HF_JOBS_TOKEN",
        "managing": "HF_JOBS_TOKEN",
    }
)
"""Where the token comes from."""


@dataclass(frozen=True)
class Meaning:
    """One situation. `passing`: the same question may be answered otherwise in a while.

    A command waits for what is passing only where it is `waited_for`; the service looks again in any case.
    """

    what: str
    cause: str
    hint: str
    error: type[AntidoteError] = InfrastructureError
    passing: bool = False
    waited_for: bool = True


LATER = "run the same command again later"
AGAIN = "run the same command again"
FOUND_AGAIN = "run the same command again: what is published already is recognised, never published twice"
TOKENS = "{hub}/settings/tokens"


def _answer(cause: str, hint: str, error: type[AntidoteError] = InfrastructureError, passing: bool = False) -> Meaning:
    return Meaning("{hub} answered {status} about {it}", cause, hint, error, passing)


OTHER_REFUSAL = _answer("the Hub refused the request", "check the name and HF_ENDPOINT; HF_DEBUG=1 shows the request")
OTHER_FAILURE = _answer("the Hub is down or overloaded", LATER, passing=True)

STATUSES: Mapping[int, Meaning] = MappingProxyType(
    {
        400: _answer("the Hub does not understand the request", "check the name and the revision"),
        401: _answer(
            "the token is not valid: mistyped, expired or revoked", f"make a new one at {TOKENS} and set {{variable}}"
        ),
        402: _answer("this account or organisation has to pay for it", "see {hub}/settings/billing"),
        403: _answer(
            "the token lacks this right, or the owner of {it} asks for more than a token",
            f"allow the token to read {{it}} at {TOKENS}",
        ),
        404: _answer("there is nothing under this address", "check the name and HF_ENDPOINT"),
        407: _answer("a proxy on the way wants a login", "put the proxy's user and password into HTTPS_PROXY"),
        408: _answer("the request took too long to arrive", LATER, passing=True),
        410: _answer("it was removed for good", "check the name, or upgrade huggingface_hub"),
        412: Meaning(
            "{it} is no longer at the revision that was tested",
            "it moved during the run",
            "run again on its new head",
            PublishConflict,
        ),
        413: _answer(
            "one file or one request is larger than the Hub takes", "see https://huggingface.co/docs/hub/storage-limits"
        ),
        416: _answer(
            "a file is shorter there than a part of it in the cache",
            "delete the repository's folder in HF_HOME/hub, then run the same command again",
        ),
        422: _answer("the Hub understands the request and refuses what it says", "check the name and the revision"),
        429: _answer("too many requests from this account", "run the same command again in five minutes", passing=True),
        451: _answer("it is withdrawn for legal reasons", "read the notice at {hub}/{it}"),
        500: _answer("an error inside the Hub", LATER, passing=True),
        501: _answer("what answers is an older Hub, or none", "check HF_ENDPOINT"),
        502: _answer("a server behind the Hub did not answer", LATER, passing=True),
        503: _answer("the Hub is down or overloaded", LATER, passing=True),
        504: _answer("a server behind the Hub did not answer in time", LATER, passing=True),
        511: _answer("the network wants a login first", "log in to the network in a browser"),
    }
)
"""Where nothing finer is known. Other statuses of 500 and more may pass; others below may not."""

ANONYMOUS: Mapping[int, Meaning] = MappingProxyType(
    {
        401: _answer(
            "it wants to know who asks, and no token was sent", "set {variable} to a token that may read {it}"
        ),
        403: _answer("no token was sent", "set {variable} to a token that may read {it}"),
        429: _answer(
            "too many requests from this address, which others may share",
            "set {variable}: an account has a limit of its own",
            passing=True,
        ),
    }
)
"""Where no token was sent."""

PUBLISHING: Mapping[int, Meaning] = MappingProxyType(
    {
        400: _answer("the Hub does not accept what was to be published", "check --publish-to and the model card"),
        402: _answer("the storage or the plan of the account is used up", "see {hub}/settings/billing"),
        403: _answer(
            "the token may not write there: it is read-only, it lacks this right, or {it} is someone else's",
            "set {variable} to a token that may write there, or publish elsewhere with --publish-to",
        ),
        409: _answer("another change is made there at this moment", FOUND_AGAIN, PublishConflict),
        422: _answer("the Hub understands the request and refuses what it says", "check --publish-to"),
        429: _answer(
            "too many requests or commits of this account", "run the same command again in an hour", passing=True
        ),
        **{status: replace(STATUSES[status], hint=FOUND_AGAIN) for status in (408, 500, 502, 503, 504)},
    }
)
"""Where publishing has another cause or another way out than reading."""

SUBMITTING: Mapping[int, Meaning] = MappingProxyType(
    {
        400: _answer("the Hub does not accept the Job", "check image, flavor and timeout in [jobs] of the policy"),
        402: _answer(
            "Jobs are paid for in advance, and there is no credit left",
            "add credit at {hub}/settings/billing, or name who pays with jobs.namespace",
        ),
        403: _answer(
            "the token lacks the right to start Jobs, or jobs.namespace is someone else's",
            f"allow it at {TOKENS} and set {{variable}}, or name another jobs.namespace",
        ),
        404: _answer("there is no such account or Job, or this Hub has no Jobs", "check jobs.namespace in the policy"),
        422: _answer("the Hub does not accept the Job", "check image, flavor and timeout in [jobs] of the policy"),
    }
)
"""Where Jobs have another cause or another way out than reading."""

MANAGING: Mapping[int, Meaning] = MappingProxyType(
    {
        400: _answer("the Hub does not accept the webhook", "check --repository and --url"),
        403: _answer(
            "the token lacks the right to manage webhooks, or what is to be watched is someone else's",
            f"allow it at {TOKENS} and set {{variable}}, or check --repository",
        ),
        404: _answer(
            "there is no such webhook, account or model", "check --repository; see `antidote-ci webhook list`"
        ),
        422: _answer("the Hub does not accept the webhook", "check --repository and --url"),
    }
)
"""Where webhooks have another cause or another way out than reading."""

GATED_ANONYMOUS = Meaning(
    "{it} is gated",
    "its files are given only to accounts that accepted its conditions",
    "accept the conditions at {hub}/{it}, then set HF_TOKEN",
)
GATED = replace(GATED_ANONYMOUS, cause="the account of this token has not accepted its conditions")
GATED_AWAITING = Meaning(
    "{it} is gated", "its owner has not answered this account's request yet", "wait for the answer at {hub}/{it}"
)
GATED_REJECTED = Meaning(
    "{it} is gated", "its owner has rejected this account's request", "write to the owner, or test another model"
)
GATED_FINE_GRAINED = Meaning(
    "{it} is gated",
    "the fine-grained token may not read gated repositories",
    f"allow it at {TOKENS}: access to public gated repositories",
)
UNKNOWN_REPOSITORY = Meaning(
    "{it} is not on {hub}",
    "the name is mistyped, or it is private and this token cannot see it",
    "check the name; set HF_TOKEN if it is private, write ./name for a local folder",
)
UNKNOWN_TARGET = Meaning(
    "{it} is not on {hub}",
    "the name is mistyped, it was deleted, or it is private and this token cannot see it",
    "check --publish-to; set {variable} to a token that may write there",
)
UNKNOWN_REVISION = Meaning(
    "{it} has no such revision",
    "the branch, tag or commit is mistyped, or it was deleted",
    "choose one listed at {hub}/{it}/tree/main",
)
UNKNOWN_FILE = Meaning(
    "a file of {it} is not where it was listed",
    "it was deleted meanwhile, or a mirror is not up to date",
    "run the same command again; check HF_ENDPOINT",
)
DISABLED = Meaning(
    "{it} is disabled", "the Hub or its owner has closed the repository", "read the notice at {hub}/{it}"
)
NOT_A_NAME = Meaning(
    "{it!r} is not a model's name",
    "a name on the Hub is written organisation/name",
    "write organisation/name, or ./folder for a local checkpoint",
    ConfigurationError,
)

READ_ONLY_TOKEN = _answer("the token is read-only", f"make one that may write at {TOKENS} and set {{variable}}")
FINE_GRAINED_TOKEN = _answer("the fine-grained token lacks this right", f"allow it for {{it}} at {TOKENS}")
SINGLE_SIGN_ON = _answer(
    "the organisation wants a sign-on of its own (SSO)", f"sign on in a browser, then authorise the token at {TOKENS}"
)
NETWORK_NOT_ALLOWED = _answer(
    "the organisation does not let this machine's address in", "run where it does, or ask its administrator"
)
RESOURCE_GROUP = _answer(
    "the repository is in a resource group that this account is not in", "ask the organisation's administrator"
)
TOKEN_NOT_APPROVED = _answer(
    "the organisation has not approved this token, or not tokens of its kind", "ask the organisation's administrator"
)
FOREIGN_NAMESPACE = _answer(
    "the namespace is someone else's, or the token may not create repositories in it",
    "name one of your own with --publish-to ORG/NAME",
)
PULL_REQUEST_ONLY = _answer("the repository is someone else's", "offer a pull request: --publish pull-request")
STORAGE_FULL = _answer("the storage of the account is used up", "see {hub}/settings/billing")

FORBIDDEN: Mapping[str, Meaning] = MappingProxyType(
    {
        r"create_pr": PULL_REQUEST_ONLY,
        r"rights to create|under (the|this) namespace": FOREIGN_NAMESPACE,
        r"storage|quota": STORAGE_FULL,
        r"\bSSO\b|single sign|\bSAML\b": SINGLE_SIGN_ON,
        r"\bIP\b|allow-?list": NETWORK_NOT_ALLOWED,
        r"resource group": RESOURCE_GROUP,
        r"token.*\bapprov|approv.*\btoken|administrator": TOKEN_NOT_APPROVED,
        r"write token|read-only|role .?read": READ_ONLY_TOKEN,
        r"fine-?grained|insufficient (scope|permission)": FINE_GRAINED_TOKEN,
    }
)
"""What a 403 says by words of its message, in the order in which they are looked for. The Hub promises none of them."""
WAITING: Mapping[str, Meaning] = MappingProxyType(
    {
        r"awaiting": GATED_AWAITING,
        r"reject": GATED_REJECTED,
        r"fine-?grained": GATED_FINE_GRAINED,
    }
)
"""What the refusal of a gated repository says, likewise."""

IDENTITY = Meaning(
    "the workflow's identity could not be exchanged for a token",
    "the job has none, or the settings of the repository on the Hub do not trust this workflow",
    "grant `id-token: write` and see https://huggingface.co/docs/hub/trusted-publishers, or set HF_WRITE_TOKEN instead "
    "of HF_OIDC_RESOURCE",
)
IDENTITY_AGAIN = Meaning(
    "the identity in HF_OIDC_ID_TOKEN could not be exchanged for a token again",
    "the token of the first exchange is no longer valid, and the identity has expired or is no longer trusted",
    "run the same command again with a new HF_OIDC_ID_TOKEN, or set HF_WRITE_TOKEN instead of HF_OIDC_RESOURCE if the "
    "run takes longer than the token is valid",
)
EXCHANGES: Mapping[Purpose, Meaning] = MappingProxyType(
    {"exchanging": IDENTITY, "exchanging again": IDENTITY_AGAIN},
)
"""What the refusal of an exchange means."""
OFFLINE = Meaning(
    "{it} is not in the local cache",
    "HF_HUB_OFFLINE is set, so the Hub was not asked",
    "unset HF_HUB_OFFLINE, or name a 40-hex revision that was pulled before",
)
NOT_REACHED = Meaning(
    "{hub} cannot be reached, asked about {it}",
    "no network, a proxy, or a wrong HF_ENDPOINT",
    "check the connection, then run the same command again",
    passing=True,
)
NO_SUCH_HOST = Meaning(
    "{hub} cannot be found, asked about {it}",
    "no network, or a wrong HF_ENDPOINT: this machine cannot resolve that host name",
    "check the connection and HF_ENDPOINT, or name a folder of this machine instead",
    passing=True,
    waited_for=False,
)
NOT_IN_TIME = Meaning(
    "{hub} did not answer in time, asked about {it}",
    "the Hub or the network is overloaded",
    LATER,
    passing=True,
)
NOT_TRUSTED = Meaning(
    "{hub} cannot be trusted",
    "its certificate is not signed by anyone this machine knows, as behind a proxy that reads along",
    "set SSL_CERT_FILE to the certificates of your network",
)
PROXY = Meaning(
    "the proxy does not let us through to {hub}",
    "HTTPS_PROXY or the proxy is wrong",
    "check HTTPS_PROXY and NO_PROXY",
    passing=True,
)
NOT_AN_ADDRESS = Meaning(
    "{hub} is not an address of a Hub",
    "HF_ENDPOINT is mistyped",
    "unset HF_ENDPOINT, or write https://HOST",
    ConfigurationError,
)
NOT_SENT = Meaning(
    "the request about {it} cannot be sent",
    "a token or a name holds what HTTP does not carry",
    "set {variable} without quotes, spaces and line ends",
    ConfigurationError,
)
NO_HUB = Meaning(
    "{hub} does not answer like a Hub",
    "a wrong HF_ENDPOINT, or a proxy that answers in its place",
    "check HF_ENDPOINT and the proxy settings",
)
CUT_SHORT = Meaning("a file of {it} came cut short", "the connection broke", AGAIN, passing=True)
STORAGE = Meaning(
    "{it} could not be transferred",
    "the Hub's storage or the way to it failed",
    "run the same command again; HF_HUB_DISABLE_XET=1 goes another way",
    passing=True,
)
STORAGE_REFUSED = Meaning(
    "the Hub's storage refused files for {it}",
    "they are too large, or the storage is used up",
    "see {hub}/settings/billing",
)
NO_XET = Meaning("{hub} has no Xet storage", "it is a mirror or an older Hub", "set HF_HUB_DISABLE_XET=1")
BAD_CARD = Meaning(
    "the Hub refuses the model card for {it}",
    "its front matter is not valid",
    "mend the front matter of the source's README.md, then run again",
    ConfigurationError,
)
DISK_FULL = Meaning(
    "the disk is full: {it} could not be written",
    "no space is left",
    "free some space, or set HF_HOME to a larger disk",
)
NOT_WRITABLE = Meaning(
    "{it} could not be written to this disk",
    "the folder of the cache belongs to someone else, or is read-only",
    "set HF_HOME to a folder of your own",
)
NOT_TRANSFERRED = Meaning("{it} could not be transferred", "this machine refused", AGAIN)
