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

from loopback_hub.accounts import add_credential, hash_token
from loopback_hub.messages import HttpError, HttpRequest, HttpResponse, json_response
from loopback_hub.registered import Credential, TrustedPublisher
from loopback_hub.store import HubStore

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - a kind of token
ACCOUNT = "[OIDC]"
ID_SECONDS = 300


def job_environment(store: HubStore, endpoint: str, publisher: TrustedPublisher) -> dict[str, str]:
    """What a job of the workflow finds in its environment, when it may ask for its identity."""
    return {
        "GITHUB_ACTIONS": "true",
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{endpoint}/oidc/{publisher.workflow}",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": _sign(store, publisher.workflow),
        "HF_OIDC_RESOURCE": publisher.repository,
    }


def issue_identity(store: HubStore, request: HttpRequest, workflow: str) -> HttpResponse:
    """The job's identity, signed, for whoever it is shown to."""
    if not hmac.compare_digest((request.token or "").encode(), _sign(store, workflow).encode()):
        raise HttpError(401, "this job has no identity")
    claims = {
        "repository": workflow,
        "aud": request.query.get("audience", ""),
        "exp": int(time.time()) + ID_SECONDS,
    }
    content = f"{_encode({'alg': 'HS256', 'typ': 'JWT'})}.{_encode(claims)}"
    return json_response({"value": f"{content}.{_sign(store, content)}"})


def exchange_token(store: HubStore, request: HttpRequest) -> HttpResponse:
    """A token that may write to the one repository which trusts this workflow."""
    sent = request.json()
    if (sent.get("grant_type"), sent.get("subject_token_type")) != (EXCHANGE, ID_TOKEN):
        raise HttpError(400, "unsupported_grant_type")
    claims = _verify_claims(store, str(sent.get("subject_token")))
    if claims.get("aud") != request.base:
        raise HttpError(400, "invalid_grant: the identity is meant for another Hub")
    publisher = TrustedPublisher(str(sent.get("resource")), str(claims["repository"]))
    if publisher not in store.accounts().publishers:
        raise HttpError(403, f"{publisher.repository} does not trust the workflows of {publisher.workflow}")
    token = f"hf_jwt_{secrets.token_urlsafe(24)}"
    expires = time.time() + store.token_seconds
    add_credential(
        store,
        Credential(ACCOUNT, hash_token(token), "fine-grained", repositories=[publisher.repository], expires=expires),
    )
    return json_response({"access_token": token, "token_type": "bearer", "expires_in": store.token_seconds})


def _verify_claims(store: HubStore, token: str) -> dict[str, object]:
    """What an identity says, if it is ours and not too old."""
    content, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature.encode(), _sign(store, content).encode()):
        raise HttpError(400, "invalid_grant: the identity's signature is wrong")
    claims = cast(dict[str, object], json.loads(base64.urlsafe_b64decode(content.partition(".")[2] + "==")))
    if int(str(claims["exp"])) < time.time():
        raise HttpError(400, "invalid_grant: the identity has expired")
    return claims


def _encode(part: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def _sign(store: HubStore, content: str) -> str:
    signature = hmac.digest(store.key, content.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
