"""How the Hub and GitHub write what they name. Pure."""

import re

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form ORG/NAME. A local folder may have it too."""
    return _HUB_ID.fullmatch(name) is not None
