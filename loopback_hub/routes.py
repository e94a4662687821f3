"""Which function answers which request, and who may ask. Each lies beside this file, and knows nothing of sockets."""

import re
from collections.abc import Callable

from loopback_hub import (
    admissions,
    commits,
    discussions,
    identity,
    jobs,
    large,
    oidc,
    pages,
    reading,
    repositories,
    trees,
    webhooks,
    writing,
)
from loopback_hub.accounts import opener, reader, speaker, writer
from loopback_hub.conversations import UnknownDiscussion
from loopback_hub.messages import Refused, Request, Response
from loopback_hub.proposals import Unmergeable
from loopback_hub.store import Exists, MovedRepository, Stale, Store, UnknownEntry, UnknownRepository, UnknownRevision

NAME = r"(?P<name>(?:datasets/)?[^/]+/[^/]+)"
REVISION = r"(?P<revision>refs/pr/\d+|[^/]+)"
FOUND = rf"/api/(?:models/|(?=datasets/)){NAME}"
TALK = rf"{FOUND}/discussions/(?P<number>\d{{1,9}})"
HOOKS = "/api/settings/webhooks"
HOOK = rf"{HOOKS}/(?P<webhook_id>[0-9a-f]+)"
JOBS = r"/api/jobs/(?P<namespace>[A-Za-z0-9][\w.-]*)"
JOB = rf"{JOBS}/(?P<job_id>[0-9a-f]{{24}})"
LARGE = rf"/{NAME}\.git/info/lfs/objects"

Answer = Callable[..., Response]
Check = Callable[[Store, Request, str], object]
Route = tuple[str, re.Pattern[str], Answer]


def _nobody_asks(_store: Store, _request: Request, _name: str) -> None:
    """Anyone, or the function asks itself."""


def _checked(check: Check, answer: Answer) -> Answer:
    """`answer` for those who pass `check`, and what goes wrong in it in HTTP's words."""

    def respond(store: Store, request: Request, **parts: str) -> Response:
        try:
            check(store, request, parts.get("name", ""))
            return answer(store, request, **parts)
        except MovedRepository as moved:
            return Response(307, {"Location": request.path.replace(moved.before, moved.after, 1)}, b"")
        except UnknownRepository:
            # As the Hub does, a stranger is not told whether a repository exists.
            status = 404 if request.token else 401
            raise Refused(status, "Repository not found", "RepoNotFound") from None
        except UnknownRevision as error:
            raise Refused(404, f"Invalid rev id: {error}", "RevisionNotFound") from None
        except UnknownEntry as error:
            raise Refused(404, str(error), "EntryNotFound") from None
        except UnknownDiscussion as error:
            raise Refused(404, str(error)) from None
        except Exists as error:
            raise Refused(409, str(error)) from None
        except Unmergeable as error:
            raise Refused(409, str(error)) from None
        except Stale as error:
            raise Refused(412, str(error)) from None

    return respond


ROUTES: list[Route] = [
    (method, re.compile(path), _checked(check, answer))
    for method, path, check, answer in (
        ("GET", "/api/whoami-v2", _nobody_asks, identity.whoami),
        ("POST", "/api/validate-yaml", _nobody_asks, writing.validate_card),
        ("POST", "/api/repos/create", _nobody_asks, repositories.create),
        ("DELETE", "/api/repos/delete", _nobody_asks, repositories.delete),
        ("POST", "/api/repos/move", _nobody_asks, repositories.move),
        ("GET", HOOKS, _nobody_asks, webhooks.listed),
        ("POST", HOOKS, _nobody_asks, webhooks.create),
        ("GET", HOOK, _nobody_asks, webhooks.detail),
        ("POST", HOOK, _nobody_asks, webhooks.update),
        ("DELETE", HOOK, _nobody_asks, webhooks.delete),
        ("POST", rf"{HOOK}/(?P<action>enable|disable)", _nobody_asks, webhooks.switch),
        ("GET", "/api/jobs/hardware", _nobody_asks, jobs.hardware),
        ("POST", JOBS, _nobody_asks, jobs.submit),
        ("GET", JOBS, _nobody_asks, jobs.listed),
        ("GET", JOB, _nobody_asks, jobs.detail),
        ("GET", rf"{JOB}/logs", _nobody_asks, jobs.logs),
        ("POST", rf"{JOB}/cancel", _nobody_asks, jobs.cancel),
        ("POST", "/oauth/token", _nobody_asks, oidc.exchange),
        ("GET", "/oidc/(?P<workflow>[^/]+/[^/]+)", _nobody_asks, oidc.identify),
        ("GET", FOUND, reader, reading.info),
        ("GET", rf"{FOUND}/revision/{REVISION}", reader, reading.info),
        ("GET", rf"{FOUND}/tree/{REVISION}", reader, trees.tree),
        ("GET", rf"{FOUND}/tree/{REVISION}/(?P<path>.+)", reader, trees.tree),
        ("POST", rf"{FOUND}/paths-info/{REVISION}", reader, trees.paths_info),
        ("GET", rf"{FOUND}/auth-check", opener, identity.allowed),
        ("GET", rf"{FOUND}/auth-check/write", writer, identity.allowed),
        ("PUT", rf"{FOUND}/settings", writer, repositories.settings),
        ("POST", rf"{FOUND}/user-access-request/grant", writer, admissions.grant),
        ("POST", rf"{FOUND}/user-access-request/handle", writer, admissions.handle),
        ("GET", rf"{FOUND}/user-access-request/(?P<standing>[a-z]+)", writer, admissions.listed),
        ("POST", rf"/{NAME}/ask-access", reader, admissions.ask),
        ("GET", rf"{FOUND}/refs", reader, commits.refs),
        ("GET", rf"{FOUND}/commits/{REVISION}", reader, commits.log),
        ("POST", rf"{FOUND}/branch/(?P<branch>.+)", writer, commits.create_branch),
        ("DELETE", rf"{FOUND}/branch/(?P<branch>.+)", writer, commits.delete_branch),
        ("POST", rf"{FOUND}/tag/{REVISION}", writer, commits.create_tag),
        ("DELETE", rf"{FOUND}/tag/(?P<tag>.+)", writer, commits.delete_tag),
        ("GET", rf"{FOUND}/discussions", reader, discussions.listed),
        ("POST", rf"{FOUND}/discussions", speaker, discussions.create),
        ("GET", TALK, reader, discussions.detail),
        ("POST", rf"{TALK}/comment", speaker, discussions.comment),
        ("POST", rf"{TALK}/comment/(?P<comment_id>[0-9a-f]+)/edit", speaker, discussions.edit_comment),
        ("POST", rf"{TALK}/status", speaker, discussions.change_status),
        ("POST", rf"{TALK}/title", speaker, discussions.rename),
        ("POST", rf"{TALK}/merge", writer, discussions.merge),
        ("POST", rf"{FOUND}/preupload/{REVISION}", speaker, writing.preupload),
        ("POST", rf"{FOUND}/commit/{REVISION}", speaker, writing.commit),
        ("POST", rf"{LARGE}/batch", speaker, large.batch),
        ("POST", rf"{LARGE}/verify", speaker, large.verify),
        # The address is the permission, as with the Hub's signed ones.
        ("PUT", rf"{LARGE}/(?P<sha256>[0-9a-f]{{64}})", _nobody_asks, large.upload),
        ("GET", rf"/{NAME}/resolve/{REVISION}/(?P<path>.+)", opener, reading.file),
        # As GitHub serves the files of a public repository.
        ("GET", rf"/{NAME}/(?P<revision>[0-9a-f]{{40}})/(?P<path>.+)", opener, reading.file),
        ("GET", "/", _nobody_asks, pages.index),
        ("GET", rf"/{NAME}", reader, pages.repository),
        ("GET", rf"/{NAME}/(?:tree|commit)/{REVISION}", reader, pages.repository),
        ("GET", rf"/{NAME}/discussions/(?P<number>\d{{1,9}})", reader, pages.discussion),
    )
]
