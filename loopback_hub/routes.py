"""The table of routes: method, path, access check and handler."""

import re
from collections.abc import Callable

from loopback_hub import (
    accounts,
    discussions,
    jobs,
    oidc,
    pages,
    reading,
    repositories,
    webhooks,
    writing,
)
from loopback_hub.accounts import require_commenter, require_file_reader, require_reader, require_writer
from loopback_hub.discussion_state import MergeConflict, UnknownDiscussion
from loopback_hub.messages import HttpError, HttpRequest, HttpResponse
from loopback_hub.store import (
    AlreadyExists,
    HubStore,
    MovedRepository,
    StaleParent,
    UnknownEntry,
    UnknownRepository,
    UnknownRevision,
)

NAME = r"(?P<name>(?:datasets/)?[^/]+(?:/[^/]+)?)"
REVISION = r"(?P<revision>refs/pr/\d+|[^/]+)"
REPOSITORY = rf"/api/(?:models/|(?=datasets/)){NAME}"
DISCUSSION = rf"{REPOSITORY}/discussions/(?P<number>\d{{1,9}})"
WEBHOOKS = "/api/settings/webhooks"
WEBHOOK = rf"{WEBHOOKS}/(?P<webhook_id>[0-9a-f]+)"
JOBS = r"/api/jobs/(?P<namespace>[A-Za-z0-9][\w.-]*)"
JOB = rf"{JOBS}/(?P<job_id>[0-9a-f]{{24}})"
LARGE = rf"/{NAME}\.git/info/lfs/objects"

Handler = Callable[..., HttpResponse]
AccessCheck = Callable[[HubStore, HttpRequest, str], object]
Route = tuple[str, re.Pattern[str], Handler]


def _allow_anyone(_store: HubStore, _request: HttpRequest, _name: str) -> None:
    """Allow every request; the handler may check access itself."""


def _with_check(check: AccessCheck, answer: Handler) -> Handler:
    """Return a handler that runs `check` before `answer` and maps their exceptions to HTTP errors."""

    def respond(store: HubStore, request: HttpRequest, **parts: str) -> HttpResponse:
        try:
            check(store, request, parts.get("name", ""))
            return answer(store, request, **parts)
        except MovedRepository as moved:
            return HttpResponse(307, {"Location": request.path.replace(moved.before, moved.after, 1)}, b"")
        except UnknownRepository:
            # Like the Hub, do not reveal to anonymous users whether a repository exists.
            status = 404 if request.token else 401
            raise HttpError(status, "Repository not found", "RepoNotFound") from None
        except UnknownRevision as error:
            raise HttpError(404, f"Invalid rev id: {error}", "RevisionNotFound") from None
        except UnknownEntry as error:
            raise HttpError(404, str(error), "EntryNotFound") from None
        except UnknownDiscussion as error:
            raise HttpError(404, str(error)) from None
        except (AlreadyExists, MergeConflict) as error:
            raise HttpError(409, str(error)) from None
        except StaleParent as error:
            raise HttpError(412, str(error)) from None

    return respond


ROUTES: list[Route] = [
    (method, re.compile(path), _with_check(check, answer))
    for method, path, check, answer in (
        ("GET", "/api/whoami-v2", _allow_anyone, accounts.whoami),
        ("POST", "/api/validate-yaml", _allow_anyone, writing.validate_card),
        ("POST", "/api/repos/create", _allow_anyone, repositories.handle_create),
        ("DELETE", "/api/repos/delete", _allow_anyone, repositories.handle_delete),
        ("POST", "/api/repos/move", _allow_anyone, repositories.handle_move),
        ("GET", WEBHOOKS, _allow_anyone, webhooks.list_webhooks),
        ("POST", WEBHOOKS, _allow_anyone, webhooks.create_webhook),
        ("GET", WEBHOOK, _allow_anyone, webhooks.show_webhook),
        ("POST", WEBHOOK, _allow_anyone, webhooks.update_webhook),
        ("DELETE", WEBHOOK, _allow_anyone, webhooks.delete_webhook),
        ("POST", rf"{WEBHOOK}/(?P<action>enable|disable)", _allow_anyone, webhooks.set_enabled),
        ("GET", "/api/jobs/hardware", _allow_anyone, jobs.list_hardware),
        ("POST", JOBS, _allow_anyone, jobs.handle_submit),
        ("GET", JOBS, _allow_anyone, jobs.list_jobs),
        ("GET", JOB, _allow_anyone, jobs.show_job),
        ("GET", rf"{JOB}/logs", _allow_anyone, jobs.stream_logs),
        ("POST", rf"{JOB}/cancel", _allow_anyone, jobs.cancel_job),
        ("POST", "/oauth/token", _allow_anyone, oidc.exchange_token),
        ("GET", "/oidc/(?P<workflow>[^/]+/[^/]+)", _allow_anyone, oidc.issue_identity),
        ("GET", "/api/models", _allow_anyone, reading.list_models),
        ("GET", REPOSITORY, require_reader, reading.show_repository),
        ("GET", rf"{REPOSITORY}/revision/{REVISION}", require_reader, reading.show_repository),
        ("GET", rf"{REPOSITORY}/tree/{REVISION}", require_reader, reading.list_tree),
        ("GET", rf"{REPOSITORY}/tree/{REVISION}/(?P<path>.+)", require_reader, reading.list_tree),
        ("POST", rf"{REPOSITORY}/paths-info/{REVISION}", require_reader, reading.describe_paths),
        ("GET", rf"{REPOSITORY}/auth-check", require_file_reader, accounts.check_access),
        ("GET", rf"{REPOSITORY}/auth-check/write", require_writer, accounts.check_access),
        ("PUT", rf"{REPOSITORY}/settings", require_writer, repositories.update_settings),
        ("GET", rf"{REPOSITORY}/commits/{REVISION}", require_reader, repositories.list_commits),
        ("GET", rf"{REPOSITORY}/refs", require_reader, repositories.list_refs),
        ("POST", rf"{REPOSITORY}/branch/(?P<branch>.+)", require_writer, repositories.handle_create_branch),
        ("DELETE", rf"{REPOSITORY}/branch/(?P<branch>.+)", require_writer, repositories.handle_delete_branch),
        ("GET", rf"{REPOSITORY}/discussions", require_reader, discussions.list_discussions),
        ("POST", rf"{REPOSITORY}/discussions", require_commenter, discussions.create_discussion),
        ("GET", DISCUSSION, require_reader, discussions.show_discussion),
        ("POST", rf"{DISCUSSION}/comment", require_commenter, discussions.create_comment),
        (
            "POST",
            rf"{DISCUSSION}/comment/(?P<comment_id>[0-9a-f]+)/edit",
            require_commenter,
            discussions.update_comment,
        ),
        ("POST", rf"{DISCUSSION}/status", require_commenter, discussions.update_status),
        ("POST", rf"{DISCUSSION}/merge", require_writer, discussions.handle_merge),
        ("POST", rf"{REPOSITORY}/preupload/{REVISION}", require_commenter, writing.list_upload_modes),
        ("POST", rf"{REPOSITORY}/commit/{REVISION}", require_commenter, writing.handle_commit),
        ("GET", rf"{REPOSITORY}/xet-read-token/{REVISION}", require_file_reader, reading.issue_xet_token),
        ("GET", rf"{REPOSITORY}/xet-write-token/{REVISION}", require_commenter, writing.issue_xet_write_token),
        ("POST", rf"{LARGE}/batch", require_commenter, writing.handle_batch),
        ("POST", rf"{LARGE}/verify", require_commenter, writing.handle_verify),
        # The URL is the permission, like the Hub's signed URLs.
        ("PUT", rf"{LARGE}/(?P<sha256>[0-9a-f]{{64}})", _allow_anyone, writing.handle_upload),
        ("GET", rf"/{NAME}/resolve/{REVISION}/(?P<path>.+)", require_file_reader, reading.serve_file),
        # The path under which GitHub serves the files of a public repository.
        ("GET", rf"/{NAME}/(?P<revision>[0-9a-f]{{40}})/(?P<path>.+)", require_file_reader, reading.serve_file),
        ("GET", "/", _allow_anyone, pages.render_index),
        ("GET", rf"/{NAME}", require_reader, pages.render_repository),
        ("GET", rf"/{NAME}/(?:tree|commit)/{REVISION}", require_reader, pages.render_repository),
        ("GET", rf"/{NAME}/discussions/(?P<number>\d{{1,9}})", require_reader, pages.render_discussion),
    )
]
