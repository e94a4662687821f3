"""What the client asks about itself: who am I, may I read this, may I write there."""

from loopback_hub.accounts import require_credential
from loopback_hub.messages import HttpRequest, HttpResponse, json_response
from loopback_hub.registered import Credential
from loopback_hub.store import HubStore

ROLES = {"all": "write", "write": "write", "read": "read", "fine-grained": "fineGrained"}
PERMISSIONS = ["repo.content.read", "repo.write", "discussion.write"]


def whoami(store: HubStore, request: HttpRequest) -> HttpResponse:
    credential = require_credential(store, request)
    token: dict[str, object] = {"displayName": credential.account, "role": ROLES[credential.rights]}
    if credential.rights == "fine-grained":
        scopes = [{"entity": _entity_json(name), "permissions": PERMISSIONS} for name in credential.repositories]
        token["fineGrained"] = {"canReadGatedRepos": True, "global": [], "scoped": scopes}
    return json_response({**_user_json(credential), "auth": {"type": "access_token", "accessToken": token}})


def check_access(_store: HubStore, _request: HttpRequest, name: str) -> HttpResponse:  # noqa: ARG001
    """Whoever gets here may: the route has checked."""
    return json_response({})


def _user_json(credential: Credential) -> dict[str, object]:
    organisations = [
        {"type": "org", "id": name, "name": name, "fullname": name, "roleInOrg": "write"}
        for name in credential.organisations
    ]
    name = credential.account
    return {"type": "user", "id": name, "name": name, "fullname": name, "isPro": False, "orgs": organisations}


def _entity_json(name: str) -> dict[str, str]:
    kind = "dataset" if name.startswith("datasets/") else "model"
    return {"_id": name, "type": kind, "name": name.removeprefix("datasets/")}
