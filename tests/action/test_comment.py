"""The comment on a pull request, written to a small server with GitHub's REST interface for comments."""

import json
import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from action import comment
from antidote_ci.records import Report
from antidote_ci.report.summary import render_summary
from tests.action.small_github import GitHub
from tests.report.samples import EVERY_KIND


def test_one_comment_is_kept_current(github: GitHub) -> None:
    github.add("ada", "Nice")
    assert comment.update_comment("Fails.", "org/model", github.environ) is None
    assert comment.update_comment("Fails.", "org/model", github.environ) is None
    assert len(github.comments) == 2
    assert [request.split()[0] for request in github.requests] == ["GET", "POST", "GET"]
    comment.update_comment("Passes.", "org/model", github.environ)
    assert len(github.comments) == 2
    assert github.comments[1]["body"].endswith("\nPasses.")
    # Another model has a comment of its own.
    comment.update_comment("Passes.", "org/other", github.environ)
    assert len(github.comments) == 3


def test_a_comment_of_somebody_else_is_not_edited(github: GitHub) -> None:
    """Whoever could edit it later could change the verdict."""
    comment.update_comment("Fails.", "org/model", github.environ)
    copied = github.comments.pop()["body"]
    github.add("mallory", copied)
    comment.update_comment("Passes.", "org/model", github.environ)
    assert [(each["user"]["login"], each["body"][-7:]) for each in github.comments] == [
        ("mallory", "\nFails."),
        (comment.AUTHOR, "Passes."),
    ]


def test_a_comment_of_a_deleted_account_is_passed_over(github: GitHub) -> None:
    github.add("ada", "Nice")["user"] = None
    assert comment.update_comment("Fails.", "org/model", github.environ) is None
    assert len(github.comments) == 2


def test_a_comment_is_found_on_a_later_page(github: GitHub) -> None:
    for _ in range(comment.PAGE):
        github.add("ada", "Nice")
    comment.update_comment("Fails.", "org/model", github.environ)
    comment.update_comment("Passes.", "org/model", github.environ)
    assert len(github.comments) == comment.PAGE + 1


@pytest.mark.parametrize(
    ("status", "problem"), [(403, "answered 403; give the job"), (302, "answered 302"), (500, "answered 500")]
)
def test_a_refusal_is_explained_and_no_redirect_is_followed(github: GitHub, status: int, problem: str) -> None:
    github.answer = status
    assert problem in str(comment.update_comment("Fails.", "org/model", github.environ))
    assert len(github.requests) == 1


def test_what_is_missing_is_explained(github: GitHub, tmp_path: Path) -> None:
    environ = github.environ
    assert "GITHUB_TOKEN is not set" in str(comment.update_comment("x", "m", environ | {"GITHUB_TOKEN": ""}))
    assert "GITHUB_API_URL" in str(comment.update_comment("x", "m", environ | {"GITHUB_API_URL": "file:///etc"}))
    assert comment.update_comment("x", "m", environ | {"GITHUB_REF": "refs/heads/main"}) is None
    github.address = "http://127.0.0.1:9"
    assert "cannot be reached" in str(comment.update_comment("x", "m", github.environ))
    assert github.requests == []


@pytest.mark.parametrize(
    ("event", "number"),
    [({"pull_request": {"number": 12}}, 12), ({"pull_request": {"number": "1/../2"}}, None), ([], None), ({}, None)],
)
def test_the_pull_request_of_an_event(tmp_path: Path, event: object, number: int | None) -> None:
    (tmp_path / "event.json").write_text(json.dumps(event))
    environ = {"GITHUB_REF": "refs/heads/main", "GITHUB_EVENT_PATH": str(tmp_path / "event.json")}
    assert comment.find_pull_request(environ) == number


@pytest.mark.parametrize("report", EVERY_KIND)
def test_the_comment_is_the_summary_after_an_invisible_line(github: GitHub, report: Report) -> None:
    summary = render_summary(report)
    comment.update_comment(summary, "org/model", github.environ)
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    marker, *rest = reader.parse(github.comments[0]["body"])
    assert marker.type == "html_block"
    assert re.fullmatch(r"<!-- antidote-ci:verdict [0-9a-f]{16} -->\n", marker.content)
    assert [(token.type, token.content) for token in rest] == [
        (token.type, token.content) for token in reader.parse(summary)
    ]
