"""Under which name a token acts, and where it may make repositories."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from antidote_ci.errors import InfrastructureError
from antidote_ci.hub.client import address

if TYPE_CHECKING:
    from huggingface_hub import HfApi

FORBIDDEN = 403
WORKFLOW = "[OIDC]"
"""Under which name the Hub shows what a workflow's identity did."""


@dataclass(frozen=True)
class Identity:
    """An account of the Hub."""

    name: str
    owners: tuple[str, ...]
    """Itself and its organisations: where it may make repositories. A workflow's identity makes none."""


def identity(client: "HfApi") -> Identity:
    """Whose token it is. Raises InfrastructureError for one that can only read."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        said = client.whoami(cache=True)
    except HfHubHTTPError as error:
        if error.response.status_code != FORBIDDEN:
            raise
        return Identity(WORKFLOW, ())
    if not isinstance(said, dict) or not isinstance(name := said.get("name"), str):
        raise InfrastructureError(
            f"{address()} does not say whose token it is", cause="what answers is no Hub", hint="check HF_ENDPOINT"
        )
    if said.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise InfrastructureError(
            f"the token of {name} may only read",
            cause="publishing makes a commit",
            hint="make a token with the right to write, and set it as HF_WRITE_TOKEN",
        )
    return Identity(name, (name, *(str(each["name"]) for each in said.get("orgs", []))))
