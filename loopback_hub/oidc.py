"""Trusted publishing: a GitHub workflow exchanges its identity token for a Hub token that expires.

This module implements GitHub's endpoint for the identity token and the Hub's endpoint for the exchange.
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
from loopback_hub.discussions import WORKFLOW
from loopback_hub.messages import HttpError, HttpRequest, HttpResponse, json_response
from loopback_hub.records import Credential, TrustedPublisher
from loopback_hub.store import HubStore

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - a kind of token
ID_SECONDS = 300


def job_environment(store: HubStore, endpoint: str, publisher: TrustedPublisher) -> dict[str, str]:
    """Return the environment variables that GitHub sets for a job with the right `id-token: write`."""
    return {
        "GITHUB_ACTIONS": "true",
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{endpoint}/oidc/{publisher.workflow}",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": _sign(store, publisher.workflow),
        "HF_OIDC_RESOURCE": publisher.repository,
    }


def issue_identity(store: HubStore, request: HttpRequest, workflow: str) -> HttpResponse:
    """Return the signed identity token of a job for the requested audience."""
    if not hmac.compare_digest((request.token or "").encode(), _sign(store, workflow).encode()):
        raise HttpError(401, "invalid request token")
    claims = {
        "repository": workflow,
        "aud": request.query.get("audience", ""),
        "exp": int(time.time()) + ID_SECONDS,
    }
    content = f"{_encode({'alg': 'HS256', 'typ': 'JWT'})}.{_encode(claims)}"
    return json_response({"value": f"{content}.{_sign(store, content)}"})


def exchange_token(store: HubStore, request: HttpRequest) -> HttpResponse:
    """Exchange an identity token for a Hub token that may write to the trusted repository."""
    sent = request.json()
    if (sent.get("grant_type"), sent.get("subject_token_type")) != (EXCHANGE, ID_TOKEN):
        raise _exchange_error("unsupported_grant_type", "only an identity token can be exchanged")
    claims = _verify_claims(store, str(sent.get("subject_token")))
    if claims.get("aud") != request.base:
        raise _exchange_error("invalid_grant", "the identity token has another audience")
    publisher = TrustedPublisher(str(sent.get("resource")), str(claims["repository"]))
    if publisher not in store.accounts().publishers:
        message = f"{publisher.repository} does not trust the workflows of {publisher.workflow}"
        raise _exchange_error("invalid_grant", message)
    token = f"hf_jwt_{secrets.token_urlsafe(24)}"
    expires = time.time() + store.token_seconds
    add_credential(
        store,
        Credential(WORKFLOW, hash_token(token), "fine-grained", repositories=[publisher.repository], expires=expires),
    )
    return json_response({"access_token": token, "token_type": "bearer", "expires_in": store.token_seconds})


def _verify_claims(store: HubStore, token: str) -> dict[str, object]:
    """Return the claims. Raises HttpError if the signature is wrong or the token has expired."""
    content, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature.encode(), _sign(store, content).encode()):
        raise _exchange_error("invalid_grant", "the signature is wrong")
    claims = cast(dict[str, object], json.loads(base64.urlsafe_b64decode(content.partition(".")[2] + "==")))
    if int(str(claims["exp"])) < time.time():
        raise _exchange_error("invalid_grant", "the identity has expired")
    return claims


def _exchange_error(code: str, description: str) -> HttpError:
    """https://www.rfc-editor.org/rfc/rfc6749#section-5.2"""
    return HttpError(400, f"{code}: {description}", body={"error": code, "error_description": description})


def _encode(part: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def _sign(store: HubStore, content: str) -> str:
    signature = hmac.digest(store.key, content.encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
