"""Who may give orders: the secret that the Hub sends along. Pure.

It is shared and not a signature: whoever reads a delivery on its way can send another. Hence https alone.
"""

import hashlib
import hmac

from antidote_ci.errors import ConfigurationError

WEBHOOK_VARIABLE = "ANTIDOTE_WEBHOOK_SECRET"
WEBHOOK_HEADER = "X-Webhook-Secret"
MIN_SECRET_LENGTH = 32


def require_strong(secret: str | None) -> str:
    """The secret without white space around it. Raises ConfigurationError for one that is missing or can be guessed."""
    secret = (secret or "").strip()
    hint = f"make one: export {WEBHOOK_VARIABLE}=$(openssl rand -hex 32)"
    if not secret:
        raise ConfigurationError(
            f"{WEBHOOK_VARIABLE} is not set", cause="without it anyone could order work, and spend it", hint=hint
        )
    if len(secret) < MIN_SECRET_LENGTH:
        raise ConfigurationError(
            f"{WEBHOOK_VARIABLE} has {len(secret)} characters, fewer than {MIN_SECRET_LENGTH}",
            cause="it could be guessed",
            hint=hint,
        )
    if not (secret.isascii() and secret.isprintable() and " " not in secret):
        raise ConfigurationError(
            f"{WEBHOOK_VARIABLE} has characters that a header does not carry",
            cause=f"the Hub sends it as {WEBHOOK_HEADER}",
            hint=hint,
        )
    return secret


def is_correct_secret(given: str | None, secret: str) -> bool:
    """Whether a delivery's secret is ours. The time it takes says nothing of how much of it was right."""
    return given is not None and hmac.compare_digest(_hash_text(given), _hash_text(secret))


def _hash_text(text: str) -> bytes:
    """Of equal length for every text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
