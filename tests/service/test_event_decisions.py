"""Which events request a run, and which repositories an allow list contains."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.service.events import decide_event, is_allowed_repository, parse_allow_list
from antidote_ci.service.records import IgnoredEvent, RefUpdate, RunRequest, WebhookEvent

NEW, LATER = "a" * 40, "b" * 40
POLICY = "c" * 64
MAIN = RefUpdate("refs/heads/main", NEW)
ALLOWED = ("org/model", "team/*")


def event(
    *updates: RefUpdate, scope: str = "repo.content", kind: str = "model", repository: str = "org/model"
) -> WebhookEvent:
    return WebhookEvent(scope, kind, repository, updates or (MAIN,))


def reason(event: WebhookEvent) -> str:
    """Why an event is ignored."""
    decision = decide_event(event, ALLOWED, POLICY)
    assert isinstance(decision, IgnoredEvent)
    return decision.reason


def test_push_to_main_requests_a_run() -> None:
    request = decide_event(event(), ALLOWED, POLICY)
    assert request == RunRequest("org/model", NEW, POLICY)
    assert isinstance(request, RunRequest)
    assert request.id == f"org/model@{NEW}@{POLICY[:16]}"
    assert decide_event(event(repository="team/any"), ALLOWED, POLICY) == RunRequest("team/any", NEW, POLICY)


@pytest.mark.parametrize("scope", ["repo.content.lfs", "repo.content.a.b"])
def test_narrower_content_scopes_request_a_run(scope: str) -> None:
    assert isinstance(decide_event(event(scope=scope), ALLOWED, POLICY), RunRequest)


@pytest.mark.parametrize("scope", ["repo", "repo.config", "discussion", "discussion.comment", "repo.contents"])
def test_other_scopes_are_ignored(scope: str) -> None:
    assert scope in reason(event(scope=scope))


@pytest.mark.parametrize("kind", ["dataset", "space", "bucket", "kernel"])
def test_other_kinds_of_repositories_are_ignored(kind: str) -> None:
    assert kind in reason(event(kind=kind))


@pytest.mark.parametrize(
    "ref",
    [
        "refs/pr/1",
        "refs/tags/main",
        "refs/heads/dev",
        "refs/heads/main2",
        "refs/heads/Main",
        "main",
        "refs/convert/parquet",
        "refs/heads/main/",
        "",
    ],
)
def test_other_references_are_ignored(ref: str) -> None:
    assert "did not move" in reason(event(RefUpdate(ref, NEW)))


def test_deleted_main_branch_is_ignored() -> None:
    assert "was deleted" in reason(event(RefUpdate("refs/heads/main", None)))


def test_last_update_of_main_counts() -> None:
    others = RefUpdate("refs/pr/3", LATER), RefUpdate("refs/tags/v1", LATER)
    assert decide_event(event(others[0], MAIN, others[1]), ALLOWED, POLICY) == RunRequest("org/model", NEW, POLICY)
    twice = event(MAIN, RefUpdate("refs/heads/main", LATER))
    assert decide_event(twice, ALLOWED, POLICY) == RunRequest("org/model", LATER, POLICY)


@pytest.mark.parametrize(
    "repository", ["org/other", "org/model2", "org/mode", "other/model", "teams/any", "team", "model", "org"]
)
def test_repositories_outside_the_allow_list_are_ignored(repository: str) -> None:
    assert "not on the allow list" in reason(event(repository=repository))


@given(st.sampled_from(["org/model", "team/any-thing"]), st.lists(st.booleans(), min_size=14, max_size=14))
def test_allow_list_ignores_case(name: str, upper: list[bool]) -> None:
    spelt = "".join(letter.upper() if is_upper else letter for letter, is_upper in zip(name, upper, strict=False))
    assert is_allowed_repository(spelt, ALLOWED)
    assert is_allowed_repository(name, [entry.upper() for entry in ALLOWED])


def test_allow_list_separators() -> None:
    assert parse_allow_list(["org/model", "a/*, b/c", "b/c\nd/e"]) == ("org/model", "a/*", "b/c", "d/e")


@pytest.mark.parametrize(
    "name", ["*", "*/*", "*/model", "org", "org/", "org/mod*", "org/**", "../x", "org/../x", "org/a/b", "o rg/", "-o/*"]
)
def test_invalid_allow_list_entry(name: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a repository name"):
        parse_allow_list(["org/model", name])


@pytest.mark.parametrize("empty", [[], [""], [" , "]])
def test_empty_allow_list(empty: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="no repository is allowed") as raised:
        parse_allow_list(empty)
    assert "--repository" in str(raised.value.hint)
