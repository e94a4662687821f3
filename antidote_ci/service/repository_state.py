"""What an order asks for, once its repository was looked at: the payload was a hint, this is what is there."""

import os
from dataclasses import replace

from antidote_ci import records
from antidote_ci.checkpoint.swap import MANIFEST_FILE
from antidote_ci.hub import commits, ownership
from antidote_ci.hub.access import HubAccess, read_access
from antidote_ci.hub.commits import CommitTree
from antidote_ci.pipeline import publishing
from antidote_ci.records import Manifest
from antidote_ci.repair.manifest import is_sealed
from antidote_ci.service.records import NewerCommit, RunOutcome, RunRequest, RunTask


def inspect_head(order: RunRequest) -> RunTask | NewerCommit | RunOutcome:
    """Read the head again, and tell apart what was pushed: new work, a repair of ours, or a claim to be one.

    Nothing that a repository says of itself keeps it from being measured. Raises InfrastructureError when the Hub
    cannot be asked, ConfigurationError for a token that is none.
    """
    access = read_access(os.environ)
    head = ownership.read_main(access, order.repository)
    if head is None:
        return RunOutcome("gone", f"{order.repository} is not there, or HF_TOKEN may not see it")
    if head.revision != order.revision:
        return NewerCommit(replace(order, revision=head.revision))
    manifest = _read_manifest(access, order, head)
    if manifest is None:
        return RunTask(order, "run")
    repaired = {each.path: each.sha256_out for each in manifest.files}
    tested = manifest.source.revision or ""
    result = publishing.result_digest(manifest.source, order.policy, manifest.files)
    ours = ownership.own_access(os.environ)
    said = ownership.read_own_markers(ours, order.repository) if ours is not None else []
    if (result, tested, order.policy) not in [(each.result, each.source, each.policy) for each in said]:
        return RunTask(order, "evaluate" if ownership.has_weights(head, repaired) else "run")
    if ownership.is_merged_repair(access, head, order.repository, tested, repaired):
        return RunOutcome("own", f"{order.repository} is at a repair of ours, which passed this policy")
    return RunTask(order, "run")


def _read_manifest(access: HubAccess, order: RunRequest, head: CommitTree) -> Manifest | None:
    """What lies there as a manifest under the same policy, unharmed. Anyone can make one."""
    try:
        manifest = records.from_json(Manifest, commits.read_file(access, order.repository, head, MANIFEST_FILE) or b"")
        return manifest if is_sealed(manifest) and manifest.policy_sha256 == order.policy else None
    # A text may be read that cannot be written again.
    except ValueError:
        return None
