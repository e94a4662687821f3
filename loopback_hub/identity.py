"""What the client asks about itself: who am I, may I read this, may I write there."""

from loopback_hub.accounts import known_caller
from loopback_hub.messages import Request, Response, as_json
from loopback_hub.registered import Credential
from loopback_hub.store import Store

ROLES = {"all": "write", "write": "write", "read": "read", "fine-grained": "fineGrained"}
PERMISSIONS = ["repo.content.read", "repo.write", "discussion.write"]


def whoami(store: Store, request: Request) -> Response:
    credential = known_caller(store, request)
    token: dict[str, object] = {"displayName": credential.account, "role": ROLES[credential.rights]}
    if credential.rights == "fine-grained":
        scopes = [{"entity": _entity(name), "permissions": PERMISSIONS} for name in credential.repositories]
        token["fineGrained"] = {"canReadGatedRepos": True, "global": [], "scoped": scopes}
    return as_json({**_user(credential), "auth": {"type": "access_token", "accessToken": token}})


def allowed(_store: Store, _request: Request, name: str) -> Response:  # noqa: ARG001
    """Whoever gets here may: the route has checked."""
    return as_json({})


def _user(credential: Credential) -> dict[str, object]:
    organisations = [
        {"type": "org", "id": name, "name": name, "fullname": name, "roleInOrg": "write"}
        for name in credential.organisations
    ]
    name = credential.account
    return {"type": "user", "id": name, "name": name, "fullname": name, "isPro": False, "orgs": organisations}


def _entity(name: str) -> dict[str, str]:
    kind = "dataset" if name.startswith("datasets/") else "model"
    return {"_id": name, "type": kind, "name": name.removeprefix("datasets/")}
