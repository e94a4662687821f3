"""What webhooks are told: version 3 of the Hub's payload. https://huggingface.co/docs/hub/webhooks"""

from loopback_hub.accounts import ANYONE, may_read
from loopback_hub.records import MAIN, CommentEvent, Discussion, Repository, RepositoryEvent
from loopback_hub.registered import Accounts, StoredWebhook


def is_watched_by(announcement: RepositoryEvent, webhook: StoredWebhook, known: Accounts) -> bool:
    """Whether a webhook watches the repository, and its owner may see it."""
    repository = announcement.repository
    watched = {("user", repository.namespace), ("org", repository.namespace), (repository.kind, repository.short_name)}
    owners = [ANYONE] if known == Accounts() else [who for who in known.credentials if who.account == webhook.owner]
    return (
        not webhook.disabled
        and announcement.scope.partition(".")[0] in webhook.domains
        and not watched.isdisjoint(webhook.watched)
        and any(may_read(owner, repository) for owner in owners)
    )


def build_payload(announcement: RepositoryEvent, webhook: StoredWebhook, endpoint: str) -> dict[str, object]:
    repository, discussion, comment = announcement.repository, announcement.discussion, announcement.comment
    told: dict[str, object] = {
        "event": {"action": announcement.action, "scope": announcement.scope},
        "repo": _repository(repository, endpoint),
        "webhook": {"id": webhook.id, "version": 3},
    }
    if announcement.refs:
        told["updatedRefs"] = [{"ref": ref.ref, "oldSha": ref.before, "newSha": ref.after} for ref in announcement.refs]
    if discussion:
        told["discussion"] = _discussion(repository, discussion, endpoint)
    if discussion and comment:
        told["comment"] = _comment(repository, discussion, comment, endpoint)
    if announcement.moved_to:
        name = announcement.moved_to.removeprefix("datasets/")
        told["movedTo"] = {"name": name, "owner": {"id": name.partition("/")[0]}}
    return told


def _repository(repository: Repository, endpoint: str) -> dict[str, object]:
    return {
        "type": repository.kind,
        "name": repository.short_name,
        "id": repository.id,
        "private": repository.private,
        "url": {
            "web": f"{endpoint}/{repository.id}",
            "api": f"{endpoint}/api/{repository.kind}s/{repository.short_name}",
        },
        "headSha": repository.refs.get(MAIN),
        "owner": {"id": repository.namespace},
        "tags": [],
    }


def _discussion(repository: Repository, discussion: Discussion, endpoint: str) -> dict[str, object]:
    place = f"discussions/{discussion.number}"
    told: dict[str, object] = {
        "id": f"{repository.id}/{discussion.number}",
        "num": discussion.number,
        "title": discussion.title,
        "status": discussion.status,
        "author": {"id": discussion.author},
        "isPullRequest": discussion.base is not None,
        "url": {
            "web": f"{endpoint}/{repository.id}/{place}",
            "api": f"{endpoint}/api/{repository.kind}s/{repository.short_name}/{place}",
        },
    }
    if discussion.base:
        told["changes"] = {"base": f"refs/heads/{MAIN}", "mergeCommitId": discussion.merged}
    return told


def _comment(repository: Repository, discussion: Discussion, comment: CommentEvent, endpoint: str) -> dict[str, object]:
    return {
        "id": comment.id,
        "author": {"id": comment.author},
        "content": comment.content,
        "hidden": False,
        "url": {"web": f"{endpoint}/{repository.id}/discussions/{discussion.number}#{comment.id}"},
    }
