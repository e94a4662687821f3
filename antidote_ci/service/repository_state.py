"""Read the head of a repository and decide what to run. The event is a hint, the Hub's answer counts."""

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from antidote_ci import records
from antidote_ci.checkpoint.swap import MANIFEST_FILE
from antidote_ci.errors import AntidoteError, InfrastructureError
from antidote_ci.hub import commits, ownership
from antidote_ci.hub.access import HubAccess, read_access
from antidote_ci.hub.commits import CommitTree
from antidote_ci.pipeline import publishing
from antidote_ci.records import Manifest
from antidote_ci.repair.manifest import is_sealed
from antidote_ci.report.text import flatten
from antidote_ci.service.events import decide_event, is_allowed_repository
from antidote_ci.service.records import IgnoredEvent, NewerCommit, RunOutcome, RunRequest, RunTask, WebhookEvent

logger = logging.getLogger(__name__)


def read_heads(allowed: Sequence[str], policy: str) -> Iterator[RunRequest]:
    """A request for the head of each model on the allow list.

    The Hub does not promise to deliver an event again, so a push may never be announced. A name that cannot be read is
    logged and left out. Raises InfrastructureError when the Hub cannot be reached.
    """
    access = read_access(os.environ)
    for name in allowed:
        try:
            heads = commits.list_main_heads(access, name)
        except AntidoteError as error:
            if isinstance(error, InfrastructureError) and error.passing:
                raise
            logger.warning("the head of %s cannot be read: %s", flatten(name), error.describe())
            continue
        for repository, revision in heads.items():
            # A renamed repository has a name that may not be on the list.
            if is_allowed_repository(repository, allowed):
                yield RunRequest(repository, revision, policy)


def inspect_head(request: RunRequest) -> RunTask | NewerCommit | RunOutcome:
    """Read the head again, and tell new work from a repair of ours and from a false claim to be one.

    Nothing that a repository says about itself prevents its measurement. Raises InfrastructureError when the Hub cannot
    be reached, ConfigurationError for an invalid token.
    """
    access = read_access(os.environ)
    head = ownership.read_main(access, request.repository)
    if head is None:
        return RunOutcome("gone", f"{request.repository} does not exist, or HF_TOKEN may not read it")
    if head.revision != request.revision:
        return NewerCommit(replace(request, revision=head.revision))
    manifest = _read_manifest(access, request, head)
    if manifest is None:
        return RunTask(request, "run")
    repaired = {file.path: file.sha256_out for file in manifest.files}
    tested = manifest.source.revision or ""
    result = publishing.result_digest(manifest.source, request.policy, manifest.files)
    own_access = ownership.own_access(os.environ)
    markers = ownership.read_own_markers(own_access, request.repository) if own_access is not None else []
    if (result, tested, request.policy) not in [(marker.result, marker.source, marker.policy) for marker in markers]:
        return RunTask(request, "evaluate" if ownership.has_weights(head, repaired) else "run")
    if ownership.is_merged_repair(access, head, request.repository, tested, repaired):
        return RunOutcome("own", f"{request.repository} is at a repair of ours, which passed this policy")
    return RunTask(request, "run")


def decide_task(event: WebhookEvent, allowed: Sequence[str], policy: str) -> RunTask | IgnoredEvent | RunOutcome:
    """The work for an event. When the main branch has moved on, it is the work for the newer commit.

    `policy` is the sha256 of the policy. Raises as `inspect_head`.
    """
    request = decide_event(event, allowed, policy)
    if isinstance(request, IgnoredEvent):
        return request
    while isinstance(task := inspect_head(request), NewerCommit):
        request = task.request
    return task


def _read_manifest(access: HubAccess, request: RunRequest, head: CommitTree) -> Manifest | None:
    """The repair manifest of a commit, if it is intact and of the same policy. Anyone can create such a file."""
    try:
        text = commits.read_file(access, request.repository, head, MANIFEST_FILE)
        manifest = records.from_json(Manifest, text or b"")
        return manifest if is_sealed(manifest) and manifest.policy_sha256 == request.policy else None
    # Serialising again may fail for text that could be parsed.
    except ValueError:
        return None
