"""Pull requests as the client reads them."""

from antidote_ci.demo.hub.messages import Refused, Request, Response, as_json
from antidote_ci.demo.hub.reading import USER
from antidote_ci.demo.hub.records import MAIN, PullRequest
from antidote_ci.demo.hub.store import Store


def listed(store: Store, request: Request, name: str) -> Response:
    """All of them on one page, newest first."""
    kind, status = request.query.get("type", "all"), request.query.get("status", "all")
    found = [
        _summary(name, pull)
        for pull in reversed(store.repository(name).pull_requests)
        if kind in ("all", "pull_request") and status in ("all", pull.status)
    ]
    return as_json({"discussions": found, "count": len(found), "start": 0})


def detail(store: Store, _request: Request, name: str, number: str) -> Response:
    pull = find(store, name, int(number))
    commit = store.commit(name, pull.ref)
    made = {"createdAt": pull.created, "author": {"name": USER}}
    latest = {"raw": pull.body, "updatedAt": pull.created, "author": {"name": USER}}
    return as_json(
        {
            **_summary(name, pull),
            "changes": {"base": f"refs/heads/{MAIN}"},
            "filesWithConflicts": [],
            "events": [
                {
                    **made,
                    "id": f"{pull.number:024x}",
                    "type": "comment",
                    "data": {"edited": False, "hidden": False, "latest": latest},
                },
                {
                    **made,
                    "id": commit.revision[:24],
                    "type": "commit",
                    "data": {"subject": commit.title, "oid": commit.revision},
                },
            ],
        }
    )


def find(store: Store, name: str, number: int) -> PullRequest:
    """The pull request of this number; the answer 404 when there is none."""
    for pull in store.repository(name).pull_requests:
        if pull.number == number:
            return pull
    raise Refused(404, f"{name} has no discussion {number}")


def _summary(name: str, pull: PullRequest) -> dict[str, object]:
    return {
        "num": pull.number,
        "title": pull.title,
        "status": pull.status,
        "isPullRequest": True,
        "createdAt": pull.created,
        "author": {"name": USER},
        "repo": {"name": name, "type": "model"},
    }
