"""Under which name a token acts, and where it may make repositories."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from antidote_ci.errors import InfrastructureError
from antidote_ci.hub.client import printable_endpoint

if TYPE_CHECKING:
    from huggingface_hub import HfApi

UNAUTHORIZED, FORBIDDEN = 401, 403
WORKFLOW = "[OIDC]"
"""Under which name the Hub shows what a workflow's identity did."""


@dataclass(frozen=True)
class HubAccount:
    """An account of the Hub."""

    name: str
    owners: tuple[str, ...]
    """Itself and its organisations: where it may make repositories. A workflow's identity makes none."""


def read_account(client: "HfApi") -> HubAccount:
    """Whose token it is. Raises InfrastructureError for one that can only read."""
    said = _read_whoami(client)
    if said is None:
        return HubAccount(WORKFLOW, ())
    name = str(said["name"])
    if said.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise InfrastructureError(
            f"the token of {name} may only read",
            cause="publishing makes a commit",
            hint="make a token with the right to write, and set it as HF_WRITE_TOKEN",
        )
    return HubAccount(name, (name, *(str(each["name"]) for each in said.get("orgs", []))))


def read_name(client: "HfApi") -> str:
    """Under which name it speaks, whatever else it may do."""
    said = _read_whoami(client)
    return WORKFLOW if said is None else str(said["name"])


def require_hub(client: "HfApi") -> None:
    """Raise InfrastructureError unless what answers is a Hub: one turns away whoever does not say who asks."""
    from huggingface_hub.utils._http import get_session, hf_raise_for_status

    response = get_session().get(f"{client.endpoint}/api/whoami-v2")
    if response.status_code != UNAUTHORIZED:
        hf_raise_for_status(response)
        raise InfrastructureError(
            f"{printable_endpoint()} does not ask who is asking",
            cause="what answers is no Hub",
            hint="check HF_ENDPOINT",
        )


def _read_whoami(client: "HfApi") -> dict[str, Any] | None:
    """What the Hub says of the token; None of a workflow's identity."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        said = client.whoami(cache=True)
    except HfHubHTTPError as error:
        if error.response.status_code != FORBIDDEN:
            raise
        return None
    if not isinstance(said, dict) or not isinstance(said.get("name"), str):
        raise InfrastructureError(
            f"{printable_endpoint()} does not say whose token it is",
            cause="what answers is no Hub",
            hint="check HF_ENDPOINT",
        )
    return said
