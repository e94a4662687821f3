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
TOKEN_VARIABLES: Mapping[Purpose, str] = MappingProxyType(
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
class HubErrorMeaning:
    """One situation. `passing`: the same question may be answered otherwise in a while.

    A command waits for what is passing only where it is `retried`; the service looks again in any case.
    """

    what: str
    cause: str
    hint: str
    error: type[AntidoteError] = InfrastructureError
    transient: bool = False
    retried: bool = True


RETRY_LATER = "run the same command again later"
RERUN = "run the same command again"
RERUN_PUBLISH = "run the same command again: what is published already is recognised, never published twice"
TOKENS_URL = "{hub}/settings/tokens"


def _response_meaning(
    cause: str, hint: str, error: type[AntidoteError] = InfrastructureError, passing: bool = False
) -> HubErrorMeaning:
    return HubErrorMeaning("{hub} answered {status} about {it}", cause, hint, error, passing)


OTHER_REFUSAL = _response_meaning(
    "the Hub refused the request", "check the name and HF_ENDPOINT; HF_DEBUG=1 shows the request"
)
OTHER_FAILURE = _response_meaning("the Hub is down or overloaded", RETRY_LATER, passing=True)

STATUS_MEANINGS: Mapping[int, HubErrorMeaning] = MappingProxyType(
    {
        400: _response_meaning("the Hub does not understand the request", "check the name and the revision"),
        401: _response_meaning(
            "the token is not valid: mistyped, expired or revoked",
            f"make a new one at {TOKENS_URL} and set {{variable}}",
        ),
        402: _response_meaning("this account or organisation has to pay for it", "see {hub}/settings/billing"),
        403: _response_meaning(
            "the token lacks this right, or the owner of {it} asks for more than a token",
            f"allow the token to read {{it}} at {TOKENS_URL}",
        ),
        404: _response_meaning("there is nothing under this address", "check the name and HF_ENDPOINT"),
        407: _response_meaning(
            "a proxy on the way wants a login", "put the proxy's user and password into HTTPS_PROXY"
        ),
        408: _response_meaning("the request took too long to arrive", RETRY_LATER, passing=True),
        410: _response_meaning("it was removed for good", "check the name, or upgrade huggingface_hub"),
        412: HubErrorMeaning(
            "{it} is no longer at the revision that was tested",
            "it moved during the run",
            "run again on its new head",
            PublishConflict,
        ),
        413: _response_meaning(
            "one file or one request is larger than the Hub takes", "see https://huggingface.co/docs/hub/storage-limits"
        ),
        416: _response_meaning(
            "a file is shorter there than a part of it in the cache",
            "delete the repository's folder in HF_HOME/hub, then run the same command again",
        ),
        422: _response_meaning(
            "the Hub understands the request and refuses what it says", "check the name and the revision"
        ),
        429: _response_meaning(
            "too many requests from this account", "run the same command again in five minutes", passing=True
        ),
        451: _response_meaning("it is withdrawn for legal reasons", "read the notice at {hub}/{it}"),
        500: _response_meaning("an error inside the Hub", RETRY_LATER, passing=True),
        501: _response_meaning("what answers is an older Hub, or none", "check HF_ENDPOINT"),
        502: _response_meaning("a server behind the Hub did not answer", RETRY_LATER, passing=True),
        503: _response_meaning("the Hub is down or overloaded", RETRY_LATER, passing=True),
        504: _response_meaning("a server behind the Hub did not answer in time", RETRY_LATER, passing=True),
        511: _response_meaning("the network wants a login first", "log in to the network in a browser"),
    }
)
"""Where nothing finer is known. Other statuses of 500 and more may pass; others below may not."""

ANONYMOUS_MEANINGS: Mapping[int, HubErrorMeaning] = MappingProxyType(
    {
        401: _response_meaning(
            "it wants to know who asks, and no token was sent", "set {variable} to a token that may read {it}"
        ),
        403: _response_meaning("no token was sent", "set {variable} to a token that may read {it}"),
        429: _response_meaning(
            "too many requests from this address, which others may share",
            "set {variable}: an account has a limit of its own",
            passing=True,
        ),
    }
)
"""Where no token was sent."""

PUBLISHING_MEANINGS: Mapping[int, HubErrorMeaning] = MappingProxyType(
    {
        400: _response_meaning(
            "the Hub does not accept what was to be published", "check --publish-to and the model card"
        ),
        402: _response_meaning("the storage or the plan of the account is used up", "see {hub}/settings/billing"),
        403: _response_meaning(
            "the token may not write there: it is read-only, it lacks this right, or {it} is someone else's",
            "set {variable} to a token that may write there, or publish elsewhere with --publish-to",
        ),
        409: _response_meaning("another change is made there at this moment", RERUN_PUBLISH, PublishConflict),
        422: _response_meaning("the Hub understands the request and refuses what it says", "check --publish-to"),
        429: _response_meaning(
            "too many requests or commits of this account", "run the same command again in an hour", passing=True
        ),
        **{status: replace(STATUS_MEANINGS[status], hint=RERUN_PUBLISH) for status in (408, 500, 502, 503, 504)},
    }
)
"""Where publishing has another cause or another way out than reading."""

SUBMITTING_MEANINGS: Mapping[int, HubErrorMeaning] = MappingProxyType(
    {
        400: _response_meaning(
            "the Hub does not accept the Job", "check image, flavor and timeout in [jobs] of the policy"
        ),
        402: _response_meaning(
            "Jobs are paid for in advance, and there is no credit left",
            "add credit at {hub}/settings/billing, or name who pays with jobs.namespace",
        ),
        403: _response_meaning(
            "the token lacks the right to start Jobs, or jobs.namespace is someone else's",
            f"allow it at {TOKENS_URL} and set {{variable}}, or name another jobs.namespace",
        ),
        404: _response_meaning(
            "there is no such account or Job, or this Hub has no Jobs", "check jobs.namespace in the policy"
        ),
        422: _response_meaning(
            "the Hub does not accept the Job", "check image, flavor and timeout in [jobs] of the policy"
        ),
    }
)
"""Where Jobs have another cause or another way out than reading."""

MANAGING_MEANINGS: Mapping[int, HubErrorMeaning] = MappingProxyType(
    {
        400: _response_meaning("the Hub does not accept the webhook", "check --repository and --url"),
        403: _response_meaning(
            "the token lacks the right to manage webhooks, or what is to be watched is someone else's",
            f"allow it at {TOKENS_URL} and set {{variable}}, or check --repository",
        ),
        404: _response_meaning(
            "there is no such webhook, account or model", "check --repository; see `antidote-ci webhook list`"
        ),
        422: _response_meaning("the Hub does not accept the webhook", "check --repository and --url"),
    }
)
"""Where webhooks have another cause or another way out than reading."""

GATED_ANONYMOUS = HubErrorMeaning(
    "{it} is gated",
    "its files are given only to accounts that accepted its conditions",
    "accept the conditions at {hub}/{it}, then set HF_TOKEN",
)
GATED = replace(GATED_ANONYMOUS, cause="the account of this token has not accepted its conditions")
GATED_AWAITING = HubErrorMeaning(
    "{it} is gated", "its owner has not answered this account's request yet", "wait for the answer at {hub}/{it}"
)
GATED_REJECTED = HubErrorMeaning(
    "{it} is gated", "its owner has rejected this account's request", "write to the owner, or test another model"
)
GATED_FINE_GRAINED = HubErrorMeaning(
    "{it} is gated",
    "the fine-grained token may not read gated repositories",
    f"allow it at {TOKENS_URL}: access to public gated repositories",
)
UNKNOWN_REPOSITORY = HubErrorMeaning(
    "{it} is not on {hub}",
    "the name is mistyped, or it is private and this token cannot see it",
    "check the name; set HF_TOKEN if it is private, write ./name for a local folder",
)
UNKNOWN_TARGET = HubErrorMeaning(
    "{it} is not on {hub}",
    "the name is mistyped, it was deleted, or it is private and this token cannot see it",
    "check --publish-to; set {variable} to a token that may write there",
)
UNKNOWN_REVISION = HubErrorMeaning(
    "{it} has no such revision",
    "the branch, tag or commit is mistyped, or it was deleted",
    "choose one listed at {hub}/{it}/tree/main",
)
UNKNOWN_FILE = HubErrorMeaning(
    "a file of {it} is not where it was listed",
    "it was deleted meanwhile, or a mirror is not up to date",
    "run the same command again; check HF_ENDPOINT",
)
DISABLED = HubErrorMeaning(
    "{it} is disabled", "the Hub or its owner has closed the repository", "read the notice at {hub}/{it}"
)
NOT_A_NAME = HubErrorMeaning(
    "{it!r} is not a model's name",
    "a name on the Hub is written organisation/name",
    "write organisation/name, or ./folder for a local checkpoint",
    ConfigurationError,
)

READ_ONLY_TOKEN = _response_meaning(
    "the token is read-only", f"make one that may write at {TOKENS_URL} and set {{variable}}"
)
FINE_GRAINED_TOKEN = _response_meaning(
    "the fine-grained token lacks this right", f"allow it for {{it}} at {TOKENS_URL}"
)
SINGLE_SIGN_ON = _response_meaning(
    "the organisation wants a sign-on of its own (SSO)",
    f"sign on in a browser, then authorise the token at {TOKENS_URL}",
)
NETWORK_NOT_ALLOWED = _response_meaning(
    "the organisation does not let this machine's address in", "run where it does, or ask its administrator"
)
RESOURCE_GROUP = _response_meaning(
    "the repository is in a resource group that this account is not in", "ask the organisation's administrator"
)
TOKEN_NOT_APPROVED = _response_meaning(
    "the organisation has not approved this token, or not tokens of its kind", "ask the organisation's administrator"
)
FOREIGN_NAMESPACE = _response_meaning(
    "the namespace is someone else's, or the token may not create repositories in it",
    "name one of your own with --publish-to ORG/NAME",
)
PULL_REQUEST_ONLY = _response_meaning(
    "the repository is someone else's", "offer a pull request: --publish pull-request"
)
STORAGE_FULL = _response_meaning("the storage of the account is used up", "see {hub}/settings/billing")

FORBIDDEN: Mapping[str, HubErrorMeaning] = MappingProxyType(
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
GATED_MEANINGS: Mapping[str, HubErrorMeaning] = MappingProxyType(
    {
        r"awaiting": GATED_AWAITING,
        r"reject": GATED_REJECTED,
        r"fine-?grained": GATED_FINE_GRAINED,
    }
)
"""What the refusal of a gated repository says, likewise."""

IDENTITY = HubErrorMeaning(
    "the workflow's identity could not be exchanged for a token",
    "the job has none, or the settings of the repository on the Hub do not trust this workflow",
    "grant `id-token: write` and see https://huggingface.co/docs/hub/trusted-publishers, or set HF_WRITE_TOKEN instead "
    "of HF_OIDC_RESOURCE",
)
IDENTITY_AGAIN = HubErrorMeaning(
    "the identity in HF_OIDC_ID_TOKEN could not be exchanged for a token again",
    "the token of the first exchange is no longer valid, and the identity has expired or is no longer trusted",
    "run the same command again with a new HF_OIDC_ID_TOKEN, or set HF_WRITE_TOKEN instead of HF_OIDC_RESOURCE if the "
    "run takes longer than the token is valid",
)
EXCHANGES: Mapping[Purpose, HubErrorMeaning] = MappingProxyType(
    {"exchanging": IDENTITY, "exchanging again": IDENTITY_AGAIN},
)
"""What the refusal of an exchange means."""
OFFLINE = HubErrorMeaning(
    "{it} is not in the local cache",
    "HF_HUB_OFFLINE is set, so the Hub was not asked",
    "unset HF_HUB_OFFLINE, or name a 40-hex revision that was pulled before",
)
NOT_REACHED = HubErrorMeaning(
    "{hub} cannot be reached, asked about {it}",
    "no network, a proxy, or a wrong HF_ENDPOINT",
    "check the connection, then run the same command again",
    transient=True,
)
NO_SUCH_HOST = HubErrorMeaning(
    "{hub} cannot be found, asked about {it}",
    "no network, or a wrong HF_ENDPOINT: this machine cannot resolve that host name",
    "check the connection and HF_ENDPOINT, or name a folder of this machine instead",
    transient=True,
    retried=False,
)
NOT_IN_TIME = HubErrorMeaning(
    "{hub} did not answer in time, asked about {it}",
    "the Hub or the network is overloaded",
    RETRY_LATER,
    transient=True,
)
NOT_TRUSTED = HubErrorMeaning(
    "{hub} cannot be trusted",
    "its certificate is not signed by anyone this machine knows, as behind a proxy that reads along",
    "set SSL_CERT_FILE to the certificates of your network",
)
PROXY = HubErrorMeaning(
    "the proxy does not let us through to {hub}",
    "HTTPS_PROXY or the proxy is wrong",
    "check HTTPS_PROXY and NO_PROXY",
    transient=True,
)
NOT_AN_ADDRESS = HubErrorMeaning(
    "{hub} is not an address of a Hub",
    "HF_ENDPOINT is mistyped",
    "unset HF_ENDPOINT, or write https://HOST",
    ConfigurationError,
)
NOT_SENT = HubErrorMeaning(
    "the request about {it} cannot be sent",
    "a token or a name holds what HTTP does not carry",
    "set {variable} without quotes, spaces and line ends",
    ConfigurationError,
)
NOT_A_HUB = HubErrorMeaning(
    "{hub} does not answer like a Hub",
    "a wrong HF_ENDPOINT, or a proxy that answers in its place",
    "check HF_ENDPOINT and the proxy settings",
)
CUT_SHORT = HubErrorMeaning("a file of {it} came cut short", "the connection broke", RERUN, transient=True)
STORAGE = HubErrorMeaning(
    "{it} could not be transferred",
    "the Hub's storage or the way to it failed",
    "run the same command again; HF_HUB_DISABLE_XET=1 goes another way",
    transient=True,
)
STORAGE_REFUSED = HubErrorMeaning(
    "the Hub's storage refused files for {it}",
    "they are too large, or the storage is used up",
    "see {hub}/settings/billing",
)
NO_XET = HubErrorMeaning("{hub} has no Xet storage", "it is a mirror or an older Hub", "set HF_HUB_DISABLE_XET=1")
BAD_CARD = HubErrorMeaning(
    "the Hub refuses the model card for {it}",
    "its front matter is not valid",
    "mend the front matter of the source's README.md, then run again",
    ConfigurationError,
)
DISK_FULL = HubErrorMeaning(
    "the disk is full: {it} could not be written",
    "no space is left",
    "free some space, or set HF_HOME to a larger disk",
)
NOT_WRITABLE = HubErrorMeaning(
    "{it} could not be written to this disk",
    "the folder of the cache belongs to someone else, or is read-only",
    "set HF_HOME to a folder of your own",
)
NOT_TRANSFERRED = HubErrorMeaning("{it} could not be transferred", "this machine refused", RERUN)
