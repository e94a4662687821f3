"""Private names of huggingface_hub (2.4) without a public equivalent. tests/hub/test_client.py checks each name."""


def forget_exchanged(token: str) -> None:
    """Remove `token` from the client's cache, so that the client exchanges the workflow's identity again.

    The client caches the token until the expiry that the Hub announced, and has no public function to remove it.
    """
    from huggingface_hub.utils import _auth

    with _auth._OIDC_TOKEN_LOCK:
        cached = _auth._OIDC_TOKEN_CACHE
        if cached is not None and cached["token"] == token:
            _auth._OIDC_TOKEN_CACHE = None
