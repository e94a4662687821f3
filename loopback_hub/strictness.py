"""Variants of behaviour that the Hub does not document: each makes this Hub stricter in one way."""

import os
from dataclasses import dataclass

VARIABLE = "LOOPBACK_HUB_VARIANT"
"""The name of the variant of every Hub of this process that is given no other: a key of VARIANTS."""


@dataclass(frozen=True)
class Strictness:
    """How strict this Hub is. The defaults are what we expect of the real one."""

    token_seconds: int = 3600
    """For how long the token of a workflow is valid, in seconds."""
    workflow_whoami: int = 200
    """The status of `whoami` for the token of a workflow."""
    lists_workflows: bool = True
    """Whether a list of discussions by author finds those of a workflow."""
    keeps_opening_comments: bool = True
    """Whether the first comment of a discussion keeps its HTML comments: of a pull request those of the commit."""
    redelivers: bool = True
    """Whether a failed delivery is repeated, and has an id by which it is recognised."""
    organisation_role: str = "write"
    """The role of new accounts in their organisations: read, contributor, write or admin."""
    log_lines: int | None = None
    """How many of the last lines of a log are sent; None for all."""
    has_xet: bool = False
    """Whether large files are transferred by Xet, as on the real Hub, and not by git-lfs."""


VARIANTS = {
    "oidc-expiry": Strictness(token_seconds=1),
    "whoami-401": Strictness(workflow_whoami=401),
    "whoami-403": Strictness(workflow_whoami=403),
    "whoami-404": Strictness(workflow_whoami=404),
    "workflows-not-listed": Strictness(lists_workflows=False),
    "opening-comment-cleaned": Strictness(keeps_opening_comments=False),
    "delivered-once": Strictness(redelivers=False),
    "role-read": Strictness(organisation_role="read"),
    "role-contributor": Strictness(organisation_role="contributor"),
    "log-tail": Strictness(log_lines=10),
    "xet": Strictness(has_xet=True),
}


def read_strictness() -> Strictness:
    """The variant that the environment names. Raises KeyError for an unknown one."""
    name = os.environ.get(VARIABLE)
    return VARIANTS[name] if name else Strictness()
