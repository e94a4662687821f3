"""One comment on the pull request of the workflow, kept current. The token of the job writes it.

https://docs.github.com/en/rest/issues/comments
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

AUTHOR = "github-actions[bot]"
"""The author of what a job's token writes. Only its comments are edited: anyone can write a comment with our marker."""
PAGE, MAX_PAGES = 100, 30
TIMEOUT = 30
MAX_ANSWER = 32 << 20
API = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[\w.-]+)*/?", re.ASCII)
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+", re.ASCII)
PULL_REQUEST = re.compile(r"refs/pull/([0-9]{1,9})/(?:merge|head)")


class _NoRedirects(HTTPRedirectHandler):
    """A redirect would send the token to another address."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


def find_pull_request(environ: Mapping[str, str]) -> int | None:
    """The number of the pull request that the workflow runs for, if there is one."""
    if match := PULL_REQUEST.fullmatch(environ.get("GITHUB_REF", "")):
        return int(match[1])
    try:  # an event pull_request_target has the ref of the base
        event = json.loads(Path(environ["GITHUB_EVENT_PATH"]).read_bytes())
        number = event["pull_request"]["number"]
    except (KeyError, TypeError, OSError, ValueError):
        return None
    return number if isinstance(number, int) and number > 0 else None


def update_comment(text: str, model: str, environ: Mapping[str, str]) -> str | None:
    """Write `text` as the comment about `model`, in place of an earlier one. Returns why that failed, or None."""
    number, token = find_pull_request(environ), environ.get("GITHUB_TOKEN", "").strip()
    api, repository = environ.get("GITHUB_API_URL", ""), environ.get("GITHUB_REPOSITORY", "")
    if number is None:
        return None
    if not token:
        return "GITHUB_TOKEN is not set: add `env: GITHUB_TOKEN: ${{ github.token }}` to the step"
    if not API.fullmatch(api) or not REPOSITORY.fullmatch(repository):
        return "GITHUB_API_URL or GITHUB_REPOSITORY is not set"
    address = f"{api.rstrip('/')}/repos/{repository}/issues"
    marker = build_marker(model)
    body = f"{marker}\n{text}"
    try:
        for comment in _list_comments(f"{address}/{number}/comments", token):
            # GitHub names no user for the comment of an account that was deleted.
            if (comment["user"] or {}).get("login") == AUTHOR and comment["body"].startswith(marker):
                if comment["body"] != body:
                    _send("PATCH", f"{address}/comments/{int(comment['id'])}", token, body)
                return None
        _send("POST", f"{address}/{number}/comments", token, body)
    except HTTPError as error:
        hint = "; give the job `pull-requests: write`" if error.code in (403, 404) else ""
        return f"GitHub answered {error.code}{hint}"
    except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"GitHub cannot be reached, or its answer has another form ({type(error).__name__})"
    return None


def build_marker(model: str) -> str:
    """The first line of the comment about a model, which a rendered page does not show."""
    digest = hashlib.sha256(model.encode("utf-8", "replace")).hexdigest()
    return f"<!-- antidote-ci:verdict {digest[:16]} -->"


def _list_comments(address: str, token: str) -> Iterator[dict[str, Any]]:
    for page in range(1, MAX_PAGES + 1):
        comments = _send("GET", f"{address}?per_page={PAGE}&page={page}", token)
        yield from comments
        if len(comments) < PAGE:
            return


def _send(method: str, address: str, token: str, body: str | None = None) -> Any:  # noqa: ANN401 - JSON
    data = None if body is None else json.dumps({"body": body}).encode()
    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "Content-Type": "application/json",
        "User-Agent": "antidote-ci",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    request = Request(address, data, headers, method=method)  # noqa: S310 - the scheme is checked
    with build_opener(_NoRedirects).open(request, timeout=TIMEOUT) as response:
        return json.loads(response.read(MAX_ANSWER))
