"""The manifest's own sum: a changed manifest does not pass for the one that was written."""

import hashlib
from dataclasses import replace

from antidote_ci import records
from antidote_ci.records import Manifest


def seal_manifest(manifest: Manifest) -> Manifest:
    """The manifest with its digest: sha256 of its JSON with an empty one. No signature: anyone can seal anew."""
    text = records.to_json(replace(manifest, digest=""))
    return replace(manifest, digest=hashlib.sha256(text.encode()).hexdigest())


def is_sealed(manifest: Manifest) -> bool:
    """Whether the digest is that of what the manifest says."""
    return seal_manifest(manifest) == manifest
