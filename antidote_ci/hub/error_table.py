"""The meaning of every error of the Hub and of its client: what happened, the likely cause, and the next step.

`errors` chooses the row, and docs/hub-errors.md shows the table. In the texts, {it} is the repository or resource of
the request, {hub} the address of the Hub and {status} the HTTP status. {variable}, {right} and {check} depend on the
purpose of the request: see PURPOSE_TERMS.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from antidote_ci.errors import AntidoteError, ConfigurationError, InfrastructureError, PublishConflict

Purpose = Literal["reading", "publishing", "exchanging", "exchanging again", "submitting", "managing"]
"""The purpose of a request to the Hub.

`exchanging` trades a workflow's identity for a token, `exchanging again` does so with the identity in HF_OIDC_ID_TOKEN
during a run. `submitting` concerns Jobs, `managing` webhooks.
"""


@dataclass(frozen=True)
class PurposeTerms:
    """The parts of an error message that depend on the purpose of the request."""

    variable: str
    """The environment variable that holds the token."""
    right: str
    """The right that the token needs."""
    check: str
    """The next step when the Hub rejects the request."""


@dataclass(frozen=True)
class HubErrorMeaning:
    """One row of the table. A `transient` error may disappear when the request is repeated.

    A command repeats the request only if the row is also `retried`. The webhook service retries every transient error.
    """

    what: str
    cause: str
    hint: str
    error: type[AntidoteError] = InfrastructureError
    transient: bool = False
    retried: bool = True


_PUBLISHING = PurposeTerms("HF_WRITE_TOKEN", "write to {it}", "check --publish-to and the model card")
PURPOSE_TERMS: Mapping[Purpose, PurposeTerms] = {
    "reading": PurposeTerms("HF_TOKEN", "read {it}", "check the name, the revision and HF_ENDPOINT"),
    "publishing": _PUBLISHING,
    "exchanging": _PUBLISHING,
    "exchanging again": _PUBLISHING,
    "submitting": PurposeTerms(
        "HF_JOBS_TOKEN",
        "start Jobs for that namespace",
        "check image, flavor, timeout and namespace in [jobs] of the policy",
    ),
    "managing": PurposeTerms(
        "HF_JOBS_TOKEN", "manage webhooks", "check --repository and --url; see `antidote-ci webhook list`"
    ),
}

RETRY_LATER = "run the same command again later"
RERUN = "run the same command again"
TOKENS_URL = "{hub}/settings/tokens"
BILLING = "see {hub}/settings/billing"
CHECK_HUB = "check HF_ENDPOINT and the proxy settings"


def _response(
    cause: str, hint: str, error: type[AntidoteError] = InfrastructureError, *, transient: bool = False
) -> HubErrorMeaning:
    return HubErrorMeaning("{hub} answered {status} about {it}", cause, hint, error, transient)


OTHER_REFUSAL = _response("the Hub refused the request", "{check}; HF_DEBUG=1 shows the request")
OTHER_FAILURE = _response("the Hub, or a server behind it, is down or overloaded", RETRY_LATER, transient=True)
STATUS_MEANINGS: Mapping[int, HubErrorMeaning] = {
    400: _response("the Hub does not accept the request", "{check}"),
    401: _response(
        "no token was sent, or the token is mistyped, expired or revoked",
        f"set {{variable}} to a valid token from {TOKENS_URL}",
    ),
    402: _response("the account or organisation has used up its plan, storage or credit", BILLING),
    403: _response(
        "no token was sent, or its account lacks the right to do this",
        f"see {TOKENS_URL}; set {{variable}} to a token that may {{right}}",
    ),
    404: _response("this address does not exist on the Hub", "{check}"),
    407: _response("a proxy requires a login", "add the user and password of the proxy to HTTPS_PROXY"),
    408: _response("the request took too long to arrive", RETRY_LATER, transient=True),
    412: HubErrorMeaning(
        "{it} is no longer at the revision that was tested",
        "it moved during the run",
        "run again on its new head",
        PublishConflict,
    ),
    416: _response(
        "a partial file in the cache is longer than the file on the Hub",
        f"delete the repository's folder in HF_HOME/hub, then {RERUN}",
    ),
    422: _response("the Hub does not accept a value in the request", "{check}"),
    429: _response(
        "too many requests from this account or address",
        f"set {{variable}} if it is not set; {RERUN} in five minutes, or in an hour after many commits",
        transient=True,
    ),
    501: _response("the server is an older Hub, or not a Hub", CHECK_HUB),
    511: _response("the network requires a login", "log in to the network in a browser"),
}
"""Used if no other row applies. Other statuses of 500 and above are OTHER_FAILURE, all others OTHER_REFUSAL."""
PUBLISH_RACE = _response("another commit is being made at the same time", RERUN, PublishConflict)
"""Status 409 when publishing."""
JOBS_CREDIT = _response(
    "Jobs are paid for in advance, and no credit is left",
    f"{BILLING}, or name the account that pays with jobs.namespace",
)
"""Status 402 when submitting a Job."""

GATED = HubErrorMeaning(
    "{it} is gated",
    "no token was sent, or its account has not accepted the conditions",
    "accept the conditions at {hub}/{it}, then set {variable}",
)
UNKNOWN_REPOSITORY = HubErrorMeaning(
    "{it} is not on {hub}",
    "the name is mistyped, the repository was deleted, or it is private and the token cannot see it",
    "check the name; set {variable} if it is private, or write ./name for a local folder",
)
UNKNOWN_REVISION = HubErrorMeaning(
    "{it} has no such revision",
    "the branch, tag or commit is mistyped, or it was deleted",
    "choose a revision from {hub}/{it}/tree/main",
)
UNKNOWN_FILE = HubErrorMeaning(
    "a file of {it} was listed but does not exist",
    "it was deleted in the meantime, or a mirror is out of date",
    f"{RERUN}; check HF_ENDPOINT",
)
DISABLED = HubErrorMeaning(
    "{it} is disabled", "the Hub or its owner disabled the repository", "read the notice at {hub}/{it}"
)
NOT_A_NAME = HubErrorMeaning(
    "{it!r} is not a model name",
    "a model name has the form organisation/name",
    "write organisation/name, or ./folder for a local checkpoint",
    ConfigurationError,
)

IDENTITY = HubErrorMeaning(
    "the workflow's identity could not be exchanged for a token",
    "the job has no identity, or the settings of the repository on the Hub do not trust this workflow",
    "grant `id-token: write` and see https://huggingface.co/docs/hub/trusted-publishers, or set HF_WRITE_TOKEN instead "
    "of HF_OIDC_RESOURCE",
)
IDENTITY_AGAIN = HubErrorMeaning(
    "the identity in HF_OIDC_ID_TOKEN could not be exchanged for a token again",
    "the first token is no longer valid, and the identity has expired or is no longer trusted",
    f"{RERUN} with a new HF_OIDC_ID_TOKEN, or set HF_WRITE_TOKEN instead of HF_OIDC_RESOURCE if the run takes longer "
    "than the token is valid",
)
EXCHANGES: Mapping[Purpose, HubErrorMeaning] = {"exchanging": IDENTITY, "exchanging again": IDENTITY_AGAIN}
"""Rows for a refused exchange, by purpose."""

OFFLINE = HubErrorMeaning(
    "{it} is not in the local cache",
    "HF_HUB_OFFLINE is set, so no request was sent",
    "unset HF_HUB_OFFLINE, or name a 40-hex revision that was pulled before",
)
NOT_REACHED = HubErrorMeaning(
    "{hub} cannot be reached for {it}",
    "no network, a proxy, or a wrong HF_ENDPOINT",
    f"check the connection, HTTPS_PROXY and NO_PROXY, then {RERUN}",
    transient=True,
)
NO_SUCH_HOST = HubErrorMeaning(
    "{hub} cannot be found for {it}",
    "no network, or a wrong HF_ENDPOINT: this machine cannot resolve the host name",
    "check the connection and HF_ENDPOINT, or name local files instead",
    transient=True,
    retried=False,
)
NOT_IN_TIME = HubErrorMeaning(
    "{hub} did not answer in time about {it}", "the Hub or the network is overloaded", RETRY_LATER, transient=True
)
NOT_TRUSTED = HubErrorMeaning(
    "the certificate of {hub} is not trusted",
    "no certificate authority known to this machine signed it; an intercepting proxy has this effect",
    "set SSL_CERT_FILE to the certificates of your network",
)
NOT_AN_ADDRESS = HubErrorMeaning(
    "{hub} is not a valid address of a Hub",
    "HF_ENDPOINT is mistyped",
    "unset HF_ENDPOINT, or write https://HOST",
    ConfigurationError,
)
NOT_SENT = HubErrorMeaning(
    "the request for {it} cannot be sent",
    "a token or a name contains characters that HTTP does not allow",
    "set {variable} without quotes, spaces and line ends",
    ConfigurationError,
)
NOT_A_HUB = HubErrorMeaning(
    "{hub} does not answer like a Hub", "a wrong HF_ENDPOINT, or a proxy that answers instead of the Hub", CHECK_HUB
)
CUT_SHORT = HubErrorMeaning("a file of {it} arrived incomplete", "the connection broke", RERUN, transient=True)
STORAGE = HubErrorMeaning(
    "{it} could not be transferred",
    "the storage of the Hub, or the connection to it, failed",
    f"{RERUN}; HF_HUB_DISABLE_XET=1 uses another protocol",
    transient=True,
)
STORAGE_REFUSED = HubErrorMeaning(
    "the storage of the Hub refused files for {it}", "they are too large, or the storage is full", BILLING
)
NO_XET = HubErrorMeaning("{hub} has no Xet storage", "it is a mirror or an older Hub", "set HF_HUB_DISABLE_XET=1")
BAD_CARD = HubErrorMeaning(
    "the Hub refuses the model card for {it}",
    "its front matter is not valid",
    "correct the front matter of the source's README.md, then run again",
    ConfigurationError,
)
NOT_WRITTEN = HubErrorMeaning(
    "{it} could not be written to this disk",
    "no space is left, or the cache folder is read-only or belongs to another user",
    "free some space, or set HF_HOME to a writable folder on a larger disk",
)
NOT_TRANSFERRED = HubErrorMeaning("{it} could not be transferred", "an error of this machine", RERUN)
