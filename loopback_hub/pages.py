"""Web pages: the list of repositories, a repository, a discussion.

Names, titles, bodies and paths are untrusted. The templates escape everything.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote

from antidote_ci.report.text import pluralize
from loopback_hub.accounts import may_read, optional_credential
from loopback_hub.discussion_state import find_discussion
from loopback_hub.messages import HttpRequest, HttpResponse, html_response
from loopback_hub.records import MAIN, Commit
from loopback_hub.store import HubStore

if TYPE_CHECKING:
    from jinja2 import Environment

REPORT = "antidote/report.html"


@dataclass(frozen=True)
class FileRow:
    """A row of a file list. `state` is added, changed, removed, or empty outside a pull request."""

    path: str
    size: int
    state: str
    address: str


def render_index(store: HubStore, request: HttpRequest) -> HttpResponse:
    """List the repositories that the caller may see."""
    credential = optional_credential(store, request)
    names = [name for name in store.names() if may_read(credential, store.repository(name))]
    return _render_page("index.html", title="Repositories", names=[(name, _repository_address(name)) for name in names])


def render_repository(store: HubStore, _request: HttpRequest, name: str, revision: str = MAIN) -> HttpResponse:
    """Show the files at a revision and the discussions."""
    commit = store.commit(name, revision)
    repository = store.repository(name)
    discussions = [(item, _discussion_address(name, item.number)) for item in reversed(repository.discussions)]
    files = [_file_row(name, commit, path, "") for path in commit.files]
    return _render_page(
        "repository.html",
        title=name,
        repository=repository,
        revision=revision,
        commit=commit,
        files=files,
        discussions=discussions,
    )


def render_discussion(store: HubStore, _request: HttpRequest, name: str, number: str) -> HttpResponse:
    """Show a discussion; for a pull request also its changed files and a link to the report."""
    discussion = find_discussion(store.repository(name), int(number))
    changes, report, head = [], None, None
    if discussion.base:
        commit, base = store.commit(name, discussion.ref), store.commit(name, discussion.base)
        changes, head = _changed_rows(name, commit, base), commit.revision
        report = _file_address(name, commit.revision, REPORT) if REPORT in commit.files else None
    return _render_page(
        "discussion.html",
        title=discussion.title,
        name=name,
        address=_repository_address(name),
        discussion=discussion,
        head=head,
        changes=changes,
        report=report,
    )


def _changed_rows(name: str, commit: Commit, base: Commit) -> list[FileRow]:
    rows = []
    for path in sorted(commit.files.keys() | base.files.keys()):
        if path not in commit.files:
            rows.append(_file_row(name, base, path, "removed"))
        elif path not in base.files:
            rows.append(_file_row(name, commit, path, "added"))
        elif commit.files[path] != base.files[path]:
            rows.append(_file_row(name, commit, path, "changed"))
    return rows


def _file_row(name: str, commit: Commit, path: str, state: str) -> FileRow:
    address = _file_address(name, commit.revision, path)
    return FileRow(path, commit.files[path].size, state, address)


def _repository_address(name: str) -> str:
    return f"/{quote(name)}"


def _discussion_address(name: str, number: int) -> str:
    return f"/{quote(name)}/discussions/{number}"


def _file_address(name: str, revision: str, path: str) -> str:
    return f"/{quote(name)}/resolve/{revision}/{quote(path)}"


def _format_size(size: int) -> str:
    """Format 1234567 as 1.2 MB."""
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return pluralize(size, "byte")


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader("loopback_hub"), autoescape=True, undefined=StrictUndefined)
    environment.filters["size"] = _format_size
    return environment


def _render_page(template: str, **values: object) -> HttpResponse:
    return html_response(_environment().get_template(template).render(values))
