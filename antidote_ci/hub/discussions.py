"""The verdict on a model of somebody else: one discussion per account and model, opened once and kept current."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from antidote_ci.errors import InfrastructureError
from antidote_ci.hub.access import WORKFLOW, HubAccess, read_account
from antidote_ci.hub.client import printable_endpoint
from antidote_ci.hub.commits import CommitMarker, add_marker, parse_marker
from antidote_ci.records import PublishResult

if TYPE_CHECKING:
    from huggingface_hub import Discussion, HfApi


@dataclass(frozen=True)
class ExistingDiscussion:
    """A discussion of this account, with the comment that holds a verdict."""

    number: int
    is_open: bool
    comment: str
    """Id of the comment that ends with the marker."""
    marker: CommitMarker


def publish_discussion(
    access: HubAccess, repository: str, title: str, text: str, marker: CommitMarker
) -> PublishResult:
    """Ensure that one discussion on `repository` states this verdict, unless somebody closed it.

    `title`: 3 to 200 characters. An earlier verdict of this account is replaced by `text`; the same one is left alone.
    """
    account = read_account(access, repository).name
    text = add_marker(text, marker)
    own = access.request(repository, lambda client: _ensure_discussion(client, repository, title, text, account))
    current, notes = own[0], []
    if not current.is_open:
        notes.append(f"Discussion {current.number} was closed, so it is left as it is.")
    elif current.marker.result != marker.result:
        access.request(
            repository,
            lambda client: client.edit_discussion_comment(repository, current.number, current.comment, text),
        )
        notes.append(f"Discussion {current.number} had an earlier verdict, which was replaced.")
    elif current.marker.run != marker.run:
        notes.append(f"Discussion {current.number} states this verdict already.")
    url = f"{printable_endpoint()}/{repository}/discussions/{current.number}"
    return PublishResult("report", url, None, repository, tuple(notes))


def _ensure_discussion(
    client: "HfApi", repository: str, title: str, text: str, account: str
) -> list[ExistingDiscussion]:
    """The own discussions, oldest first: at least one, which is opened if necessary. Later duplicates are closed."""
    own = _list_own(client, repository, account)
    if not own:
        # The answer to an earlier attempt may have been lost.
        opened = [
            item.num for item in _list_by(client, repository, account) if (item.title, item.status) == (title, "open")
        ]
        number = opened[0] if opened else client.create_discussion(repository, title, description=text).num
        if _read_own(client, repository, number) is None:
            # The Hub may remove the marker from an opening text. It keeps that of a comment.
            client.comment_discussion(repository, number, text)
        # A concurrent run may have opened one, too.
        own = _list_own(client, repository, account, number)
    if not own:
        raise InfrastructureError(
            f"the new discussion on {repository} cannot be found",
            cause="it was removed, or its text was changed",
            hint=f"check the discussions of {repository}, then run again",
        )
    for duplicate in own[1:]:
        if duplicate.is_open:
            comment = f"#{own[0].number} has the verdict. This discussion is closed."
            client.change_discussion_status(repository, duplicate.number, "closed", comment=comment)
    return own


def _list_own(client: "HfApi", repository: str, account: str, known: int | None = None) -> list[ExistingDiscussion]:
    """The discussions of this account with a verdict, open or closed, oldest first. `known`: one that it opened now."""
    numbers = {discussion.num for discussion in _list_by(client, repository, account)}
    if known is not None:
        numbers.add(known)
    own = [_read_own(client, repository, number) for number in sorted(numbers)]
    return [discussion for discussion in own if discussion is not None]


def _list_by(client: "HfApi", repository: str, account: str) -> "list[Discussion]":
    """The discussions of this account, newest first."""
    listed = client.get_repo_discussions(
        repository, discussion_type="discussion", author=None if account == WORKFLOW else account
    )
    return [discussion for discussion in listed if discussion.author == account]


def _read_own(client: "HfApi", repository: str, number: int) -> ExistingDiscussion | None:
    """The discussion, if its author has left a comment with a verdict."""
    from huggingface_hub.community import DiscussionComment

    details = client.get_discussion_details(repository, number)
    for event in details.events:
        if isinstance(event, DiscussionComment) and event.author == details.author:
            marker = parse_marker(event.content)
            if marker is not None and marker.kind == "verdict":
                return ExistingDiscussion(number, details.status == "open", event.id, marker)
    return None
