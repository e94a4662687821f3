"""What an order asks for, once its repository was looked at: the payload was a hint, this is what is there."""

import os
from dataclasses import replace

from antidote_ci import records
from antidote_ci.checkpoint.swap import MANIFEST
from antidote_ci.hub import ownership, trees
from antidote_ci.hub.access import Access, reading
from antidote_ci.hub.trees import Tree
from antidote_ci.pipeline import publishing
from antidote_ci.records import Manifest
from antidote_ci.repair.manifest import is_sealed
from antidote_ci.service.records import Newer, Order, Outcome, Task


def look(order: Order) -> Task | Newer | Outcome:
    """Read the head again, and tell apart what was pushed: new work, a repair of ours, or a claim to be one.

    Nothing that a repository says of itself keeps it from being measured. Raises InfrastructureError when the Hub
    cannot be asked, ConfigurationError for a token that is none.
    """
    access = reading(os.environ)
    head = ownership.main(access, order.repository)
    if head is None:
        return Outcome("gone", f"{order.repository} is not there, or HF_TOKEN may not see it")
    if head.revision != order.revision:
        return Newer(replace(order, revision=head.revision))
    manifest = _manifest(access, order, head)
    if manifest is None:
        return Task(order, "run")
    repaired = {each.path: each.sha256_out for each in manifest.files}
    tested = manifest.source.revision or ""
    result = publishing.result(manifest.source, order.policy, manifest.files)
    ours = ownership.ourselves(os.environ)
    said = ownership.said(ours, order.repository) if ours is not None else []
    if (result, tested, order.policy) not in [(each.result, each.source, each.policy) for each in said]:
        return Task(order, "evaluate" if ownership.holds(head, repaired) else "run")
    if ownership.is_merged(access, head, order.repository, tested, repaired):
        return Outcome("own", f"{order.repository} is at a repair of ours, which passed this policy")
    return Task(order, "run")


def _manifest(access: Access, order: Order, head: Tree) -> Manifest | None:
    """What lies there as a manifest under the same policy, unharmed. Anyone can make one."""
    try:
        manifest = records.load(Manifest, trees.read(access, order.repository, head, MANIFEST) or b"")
        return manifest if is_sealed(manifest) and manifest.policy_sha256 == order.policy else None
    # A text may be read that cannot be written again.
    except ValueError:
        return None
