"""A workflow that publishes without a token of its own: it proves its name, and gets one that expires.

Both ends are here: what GitHub gives to a job that asks for its identity, and what the Hub gives for that.
https://huggingface.co/docs/hub/trusted-publishers, https://www.rfc-editor.org/rfc/rfc8693
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from typing import cast

from loopback_hub.accounts import digest, enrol
from loopback_hub.messages import Refused, Request, Response, as_json
from loopback_hub.registered import Credential, Publisher
from loopback_hub.store import Store

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - a kind of token
ACCOUNT = "[OIDC]"
ID_SECONDS = 300


def environment(store: Store, endpoint: str, publisher: Publisher) -> dict[str, str]:
    """What a job of the workflow finds in its environment, when it may ask for its identity."""
    return {
        "GITHUB_ACTIONS": "true",
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{endpoint}/oidc/{publisher.workflow}",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": _signature(store, publisher.workflow),
        "HF_OIDC_RESOURCE": publisher.repository,
    }


def identify(store: Store, request: Request, workflow: str) -> Response:
    """The job's identity, signed, for whoever it is shown to."""
    if not hmac.compare_digest((request.token or "").encode(), _signature(store, workflow).encode()):
        raise Refused(401, "this job has no identity")
    claims = {
        "repository": workflow,
        "aud": request.query.get("audience", ""),
        "exp": int(time.time()) + ID_SECONDS,
    }
    content = f"{_encoded({'alg': 'HS256', 'typ': 'JWT'})}.{_encoded(claims)}"
    return as_json({"value": f"{content}.{_signature(store, content)}"})


def exchange(store: Store, request: Request) -> Response:
    """A token that may write to the one repository which trusts this workflow."""
    sent = request.json()
    if (sent.get("grant_type"), sent.get("subject_token_type")) != (EXCHANGE, ID_TOKEN):
        raise Refused(400, "unsupported_grant_type")
    claims = _claims(store, str(sent.get("subject_token")))
    if claims.get("aud") != request.base:
        raise Refused(400, "invalid_grant: the identity is meant for another Hub")
    publisher = Publisher(str(sent.get("resource")), str(claims["repository"]))
    if publisher not in store.accounts().publishers:
        raise Refused(403, f"{publisher.repository} does not trust the workflows of {publisher.workflow}")
    token = f"hf_jwt_{secrets.token_urlsafe(24)}"
    expires = time.time() + store.token_seconds
    enrol(
        store, Credential(ACCOUNT, digest(token), "fine-grained", repositories=[publisher.repository], expires=expires)
    )
    return as_json({"access_token": token, "token_type": "bearer", "expires_in": store.token_seconds})


def _claims(store: Store, token: str) -> dict[str, object]:
    """What an identity says, if it is ours and not too old."""
    content, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature.encode(), _signature(store, content).encode()):
        raise Refused(400, "invalid_grant: the identity's signature is wrong")
    claims = cast(dict[str, object], json.loads(base64.urlsafe_b64decode(content.partition(".")[2] + "==")))
    if int(str(claims["exp"])) < time.time():
        raise Refused(400, "invalid_grant: the identity has expired")
    return claims


def _encoded(part: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def _signature(store: Store, content: str) -> str:
    signature = hmac.digest(store.key, content.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
