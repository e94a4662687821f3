"""The manifest of a repair: its digest, and the reader that rejects a manifest edited afterwards."""

import hashlib
from dataclasses import replace
from pathlib import Path

from antidote_ci import records
from antidote_ci.checkpoint.files import list_files
from antidote_ci.checkpoint.swap import MANIFEST_FILE
from antidote_ci.errors import ConfigurationError
from antidote_ci.records import Manifest

MAX_MANIFEST_BYTES = 64 << 20


def seal_manifest(manifest: Manifest) -> Manifest:
    """Return the manifest with its digest: the sha256 of its JSON with an empty digest.

    The digest detects accidental edits. It does not authenticate the manifest, because anyone can compute a new digest.
    """
    text = records.to_json(replace(manifest, digest=""))
    return replace(manifest, digest=hashlib.sha256(text.encode()).hexdigest())


def is_sealed(manifest: Manifest) -> bool:
    """Return whether the digest of the manifest is correct."""
    return seal_manifest(manifest) == manifest


def load_manifest(repaired: Path, name: str | None = None) -> Manifest | None:
    """Read the manifest of a repaired checkpoint; return None when this version of antidote-ci did not write it.

    Raises ConfigurationError, which names the checkpoint `name`, when there is no manifest.
    """
    if MANIFEST_FILE not in list_files(repaired):
        raise ConfigurationError(
            f"{name or repaired} has no {MANIFEST_FILE}",
            cause="it is not the result of a repair by antidote-ci",
            hint="name the --out folder of a run, or a repository or pull request that holds its result",
        )
    path = repaired / MANIFEST_FILE
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        return None
    text = path.read_bytes()
    try:
        manifest = records.from_json(Manifest, text)
    except ValueError:
        return None
    # Serialising again detects duplicate keys and keys that only another reader would see.
    return manifest if records.to_json(manifest).encode() == text and is_sealed(manifest) else None
