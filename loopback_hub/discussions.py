"""Endpoints for discussions and pull requests."""

from html import escape

from loopback_hub import discussion_state
from loopback_hub.accounts import may_write, require_credential
from loopback_hub.messages import HttpError, HttpRequest, HttpResponse, json_response
from loopback_hub.records import (
    CommentEvent,
    Discussion,
    DiscussionEvent,
    DiscussionStatus,
    PushEvent,
    Repository,
    StatusEvent,
)
from loopback_hub.store import HubStore

WORKFLOW = "[OIDC]"
"""The account of every workflow."""
LONGEST_COMMENT = 65_536
SHOWN_AS: dict[str, tuple[DiscussionStatus, ...]] = {"open": ("open", "draft"), "closed": ("closed", "merged")}
"""Filter value -> the statuses that it includes."""


def list_discussions(store: HubStore, request: HttpRequest, name: str) -> HttpResponse:
    """List discussions, newest first, filtered by type, status and author."""
    repository = store.repository(name)
    kind, status, author = (request.query.get(key) for key in ("type", "status", "author"))
    if author == WORKFLOW and not store.strictness.lists_workflows:
        author = "nobody"
    summaries = [
        _summary_json(repository, discussion)
        for discussion in reversed(repository.discussions)
        if kind in (None, "all", "pull_request" if discussion.base else "discussion")
        and discussion.status in SHOWN_AS.get(str(status), (discussion.status,))
        and author in (None, discussion.author)
    ]
    start = request.query_number("p") * store.page_size
    page = summaries[start : start + store.page_size]
    return json_response({"discussions": page, "count": len(summaries), "start": start})


def show_discussion(store: HubStore, _request: HttpRequest, name: str, number: str) -> HttpResponse:
    repository = store.repository(name)
    discussion = discussion_state.find_discussion(repository, int(number))
    answer = {**_summary_json(repository, discussion), "events": [_event_json(event) for event in discussion.events]}
    if discussion.base:
        answer["changes"] = {"base": f"refs/heads/{discussion.branch}", "mergeCommitId": discussion.merged}
        is_mergeable = discussion.status != "merged" and discussion.branch in repository.refs
        conflicts = discussion_state.find_conflicts(store, name, discussion) if is_mergeable else []
        answer["filesWithConflicts"] = conflicts
    return json_response(answer)


def create_discussion(store: HubStore, request: HttpRequest, name: str) -> HttpResponse:
    """Open a discussion or a draft pull request."""
    sent = request.json()
    author = require_credential(store, request).account
    title, body = _require_title(sent.get("title")), _require_content(sent.get("description"))
    if sent.get("pullRequest"):
        opened = discussion_state.open_draft(store, name, author, title, body)
    else:
        opened = discussion_state.open_discussion(store, name, author, title, body)
    return json_response({"num": opened.number, "url": f"{request.base}/{name}/discussions/{opened.number}"})


def create_comment(store: HubStore, request: HttpRequest, name: str, number: str) -> HttpResponse:
    content = _require_content(request.json().get("comment"))
    author = require_credential(store, request).account
    comment = discussion_state.add_comment(store, name, int(number), author, content)
    return json_response({"newMessage": _event_json(comment)})


def update_comment(store: HubStore, request: HttpRequest, name: str, number: str, comment_id: str) -> HttpResponse:
    """Edit a comment. Requires its author or a writer of the repository."""
    repository, credential = store.repository(name), require_credential(store, request)
    discussion = discussion_state.find_discussion(repository, int(number))
    author = discussion_state.find_comment(discussion, comment_id).author
    if author != credential.account and not may_write(credential, repository):
        raise HttpError(403, "Forbidden: the comment belongs to another account")
    content = _require_content(request.json().get("content"))
    edited = discussion_state.edit_comment(store, name, discussion.number, comment_id, credential.account, content)
    return json_response({"updatedComment": _event_json(edited)})


def update_status(store: HubStore, request: HttpRequest, name: str, number: str) -> HttpResponse:
    """Open or close a discussion, with an optional comment."""
    sent = request.json()
    status = sent.get("status")
    if status not in ("open", "closed"):
        raise HttpError(400, f"invalid status: {status}")
    with store.writing:
        discussion = _require_author(store, request, name, number)
        if discussion.status == "merged":
            raise HttpError(409, f"pull request {number} is merged")
        author = require_credential(store, request).account
        if sent.get("comment"):
            discussion_state.add_comment(store, name, discussion.number, author, _require_content(sent["comment"]))
        changed = discussion_state.change_status(store, name, discussion.number, author, status)
    return json_response({"newStatus": _event_json(changed)})


def handle_merge(store: HubStore, request: HttpRequest, name: str, number: str) -> HttpResponse:
    """Merge a pull request, with an optional comment."""
    comment = request.json().get("comment")
    author = require_credential(store, request).account
    with store.writing:
        merged = discussion_state.merge_pull_request(store, name, int(number), author)
        if comment:
            discussion_state.add_comment(store, name, int(number), author, _require_content(comment))
    return json_response({"mergeCommitId": merged.revision})


def _require_author(store: HubStore, request: HttpRequest, name: str, number: str) -> Discussion:
    """Return the discussion. Requires its author or a writer of the repository."""
    repository = store.repository(name)
    discussion = discussion_state.find_discussion(repository, int(number))
    credential = require_credential(store, request)
    if credential.account != discussion.author and not may_write(credential, repository):
        raise HttpError(403, "Forbidden: only its author and the repository's writers may do this")
    return discussion


def _require_title(text: object) -> str:
    if not isinstance(text, str) or not 3 <= len(text.strip()) <= 200:
        raise HttpError(400, "a title must have 3 to 200 characters")
    return text.strip()


def _require_content(text: object) -> str:
    if not isinstance(text, str) or not 0 < len(text) <= LONGEST_COMMENT:
        raise HttpError(400, f"a comment must have 1 to {LONGEST_COMMENT} characters")
    return text


def _summary_json(repository: Repository, discussion: Discussion) -> dict[str, object]:
    return {
        "num": discussion.number,
        "title": discussion.title,
        "status": discussion.status,
        "isPullRequest": discussion.base is not None,
        "createdAt": discussion.created,
        "author": {"name": discussion.author},
        "repo": {"name": repository.short_name, "type": repository.kind},
    }


def _event_json(event: DiscussionEvent) -> dict[str, object]:
    match event:
        case CommentEvent():
            latest = {
                "raw": event.content,
                "html": f"<p>{escape(event.content)}</p>",
                "updatedAt": event.updated,
                "author": {"name": event.editor},
            }
            data = {
                "edited": bool(event.earlier),
                "hidden": False,
                "latest": latest,
                "history": [{"raw": text} for text in event.earlier],
            }
        case PushEvent():
            data = {"subject": event.title, "oid": event.revision}
        case StatusEvent():
            data = {"status": event.status}
    author = {"name": event.author}
    return {"id": event.id, "type": event.type, "createdAt": event.created, "author": author, "data": data}
