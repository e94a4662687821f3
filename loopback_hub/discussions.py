"""Discussions and pull requests, as the client reads and changes them."""

from html import escape

from loopback_hub import conversations, proposals
from loopback_hub.accounts import known_caller, may_write
from loopback_hub.messages import Refused, Request, Response, as_json
from loopback_hub.records import MAIN, Comment, Discussion, Event, Pushed, Repository, Status, StatusChange
from loopback_hub.store import Store

LONGEST_COMMENT = 65_536
SHOWN_AS: dict[str, tuple[Status, ...]] = {"open": ("open", "draft"), "closed": ("closed", "merged")}
"""What the Hub's two lists hold."""


def listed(store: Store, request: Request, name: str) -> Response:
    """A page of them, newest first, by type, status and author."""
    repository = store.repository(name)
    kind, status, author = (request.query.get(key) for key in ("type", "status", "author"))
    found = [
        _summary(repository, discussion)
        for discussion in reversed(repository.discussions)
        if kind in (None, "all", "pull_request" if discussion.base else "discussion")
        and discussion.status in SHOWN_AS.get(str(status), (discussion.status,))
        and author in (None, discussion.author)
    ]
    start = request.number("p") * store.page_size
    shown = found[start : start + store.page_size]
    return as_json({"discussions": shown, "count": len(found), "start": start})


def detail(store: Store, _request: Request, name: str, number: str) -> Response:
    repository = store.repository(name)
    discussion = conversations.find(repository, int(number))
    answer = {**_summary(repository, discussion), "events": [_event(event) for event in discussion.events]}
    if discussion.base:
        answer["changes"] = {"base": f"refs/heads/{MAIN}", "mergeCommitId": discussion.merged}
        merged = discussion.status == "merged"
        answer["filesWithConflicts"] = [] if merged else proposals.conflicts(store, name, discussion)
    return as_json(answer)


def create(store: Store, request: Request, name: str) -> Response:
    """A discussion, or a draft of a pull request."""
    sent = request.json()
    author = known_caller(store, request).account
    title, body = _title(sent.get("title")), _content(sent.get("description"))
    if sent.get("pullRequest"):
        opened = proposals.draft(store, name, author, title, body)
    else:
        opened = conversations.open_discussion(store, name, author, title, body)
    return as_json({"num": opened.number, "url": f"{request.base}/{name}/discussions/{opened.number}"})


def comment(store: Store, request: Request, name: str, number: str) -> Response:
    content = _content(request.json().get("comment"))
    said = conversations.comment(store, name, int(number), known_caller(store, request).account, content)
    return as_json({"newMessage": _event(said)})


def edit_comment(store: Store, request: Request, name: str, number: str, comment_id: str) -> Response:
    """By whoever wrote it, and the repository's writers."""
    repository, credential = store.repository(name), known_caller(store, request)
    discussion = conversations.find(repository, int(number))
    author = conversations.find_comment(discussion, comment_id).author
    if author != credential.account and not may_write(credential, repository):
        raise Refused(403, "Forbidden: the comment is someone else's")
    content = _content(request.json().get("content"))
    edited = conversations.edit(store, name, discussion.number, comment_id, credential.account, content)
    return as_json({"updatedComment": _event(edited)})


def change_status(store: Store, request: Request, name: str, number: str) -> Response:
    """Open or closed, with a word about it."""
    sent = request.json()
    status = sent.get("status")
    if status not in ("open", "closed"):
        raise Refused(400, f"a discussion cannot be made {status}")
    with store.writing:
        discussion = _own(store, request, name, number)
        if discussion.status == "merged":
            raise Refused(409, f"pull request {number} is merged")
        author = known_caller(store, request).account
        if sent.get("comment"):
            conversations.comment(store, name, discussion.number, author, _content(sent["comment"]))
        changed = conversations.change_status(store, name, discussion.number, author, status)
    return as_json({"newStatus": _event(changed)})


def rename(store: Store, request: Request, name: str, number: str) -> Response:
    title = _title(request.json().get("title"))
    discussion = _own(store, request, name, number)
    renamed = conversations.rename(store, name, discussion.number, known_caller(store, request).account, title)
    return as_json({"newTitle": _event(renamed)})


def merge(store: Store, request: Request, name: str, number: str) -> Response:
    """Onto main, with a word about it."""
    said = request.json().get("comment")
    author = known_caller(store, request).account
    with store.writing:
        merged = proposals.merge(store, name, int(number), author)
        if said:
            conversations.comment(store, name, int(number), author, _content(said))
    return as_json({"mergeCommitId": merged.revision})


def _own(store: Store, request: Request, name: str, number: str) -> Discussion:
    """The discussion, which its author and the repository's writers may change."""
    repository = store.repository(name)
    discussion = conversations.find(repository, int(number))
    credential = known_caller(store, request)
    if credential.account != discussion.author and not may_write(credential, repository):
        raise Refused(403, "Forbidden: only its author and the repository's writers may do this")
    return discussion


def _title(text: object) -> str:
    if not isinstance(text, str) or not 3 <= len(text.strip()) <= 200:
        raise Refused(400, "a title has 3 to 200 characters")
    return text.strip()


def _content(text: object) -> str:
    if not isinstance(text, str) or not 0 < len(text) <= LONGEST_COMMENT:
        raise Refused(400, f"a comment has 1 to {LONGEST_COMMENT} characters")
    return text


def _summary(repository: Repository, discussion: Discussion) -> dict[str, object]:
    return {
        "num": discussion.number,
        "title": discussion.title,
        "status": discussion.status,
        "isPullRequest": discussion.base is not None,
        "createdAt": discussion.created,
        "author": {"name": discussion.author},
        "repo": {"name": repository.short_name, "type": repository.kind},
    }


def _event(event: Event) -> dict[str, object]:
    match event:
        case Comment():
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
        case Pushed():
            data = {"subject": event.title, "oid": event.revision}
        case StatusChange():
            data = {"status": event.status}
        case _:
            data = {"from": event.before, "to": event.after}
    author = {"name": event.author}
    return {"id": event.id, "type": event.type, "createdAt": event.created, "author": author, "data": data}
