"""Private names of huggingface_hub (2.4) without a public equivalent. tests/hub/test_client.py checks each name."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The type of WebhookInfo.job, which the package does not export.
    from huggingface_hub._jobs_api import JobSpec as JobSpec


def forget_exchanged(token: str) -> None:
    """Remove `token` from the client's cache, so that the client exchanges the workflow's identity again.

    The client caches the token until the expiry that the Hub announced, and has no public function to remove it.
    """
    from huggingface_hub.utils import _auth

    with _auth._OIDC_TOKEN_LOCK:
        cached = _auth._OIDC_TOKEN_CACHE
        if cached is not None and cached["token"] == token:
            _auth._OIDC_TOKEN_CACHE = None
