"""Patterns of commits, hashes and repository names."""

import re

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def is_hub_id(name: str) -> bool:
    """Whether `name` has the form ORG/NAME. The path of a local folder can have it, too."""
    return _HUB_ID.fullmatch(name) is not None
