"""The two hashes by which the Hub names a file: sha256 in large-file storage, git's own id otherwise."""

import hashlib
from pathlib import Path

from antidote_ci.errors import InfrastructureError

CHUNK = 1 << 20
SHA256_DIGITS = 64


class DigestMismatch(InfrastructureError, ConnectionError):
    """A file is not what the Hub says it is. As after a broken connection, another transfer may mend it."""


def hash_like(path: Path, known: str) -> str:
    """The file's hash of the kind of `known`: sha256 (64 hex digits), else the id that git gives its content.

    https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
    """
    if len(known) == SHA256_DIGITS:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while data := file.read(CHUNK):
            digest.update(data)
    return digest.hexdigest()


def has_digest(path: Path, known: str) -> bool:
    """Whether the content of `path` has the hash `known`."""
    return hash_like(path, known) == known
