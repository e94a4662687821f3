"""Which events ask for work."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.service.filters import decide_event, is_allowed_repository, parse_allow_list
from antidote_ci.service.records import IgnoredEvent, RefUpdate, RunRequest, WebhookEvent

NEW, LATER = "a" * 40, "b" * 40
POLICY = "c" * 64
MAIN = RefUpdate("refs/heads/main", NEW)
ALLOWED = ("org/model", "team/*")


def event(
    *updates: RefUpdate, scope: str = "repo.content", kind: str = "model", repository: str = "org/model"
) -> WebhookEvent:
    return WebhookEvent(scope, kind, repository, updates or (MAIN,))


def reason(said: WebhookEvent) -> str:
    decided = decide_event(said, ALLOWED, POLICY)
    assert isinstance(decided, IgnoredEvent)
    return decided.reason


def test_a_push_to_main() -> None:
    order = decide_event(event(), ALLOWED, POLICY)
    assert order == RunRequest("org/model", NEW, POLICY)
    assert isinstance(order, RunRequest)
    assert order.id == f"org/model@{NEW}@{POLICY[:16]}"
    assert decide_event(event(repository="team/any"), ALLOWED, POLICY) == RunRequest("team/any", NEW, POLICY)


@pytest.mark.parametrize("scope", ["repo.content.lfs", "repo.content.a.b"])
def test_a_narrower_scope_counts_as_the_broader(scope: str) -> None:
    assert isinstance(decide_event(event(scope=scope), ALLOWED, POLICY), RunRequest)


@pytest.mark.parametrize("scope", ["repo", "repo.config", "discussion", "discussion.comment", "repo.contents"])
def test_other_scopes(scope: str) -> None:
    assert scope in reason(event(scope=scope))


@pytest.mark.parametrize("kind", ["dataset", "space", "bucket", "kernel"])
def test_other_kinds(kind: str) -> None:
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
def test_other_references(ref: str) -> None:
    assert "did not move" in reason(event(RefUpdate(ref, NEW)))


def test_a_main_that_is_gone() -> None:
    assert "is gone" in reason(event(RefUpdate("refs/heads/main", None)))


def test_main_among_others_and_twice() -> None:
    others = RefUpdate("refs/pr/3", LATER), RefUpdate("refs/tags/v1", LATER)
    assert decide_event(event(others[0], MAIN, others[1]), ALLOWED, POLICY) == RunRequest("org/model", NEW, POLICY)
    twice = event(MAIN, RefUpdate("refs/heads/main", LATER))
    assert decide_event(twice, ALLOWED, POLICY) == RunRequest("org/model", LATER, POLICY)


@pytest.mark.parametrize(
    "repository", ["org/other", "org/model2", "org/mode", "other/model", "teams/any", "team", "model", "org"]
)
def test_what_is_not_on_the_list(repository: str) -> None:
    assert "not on the list" in reason(event(repository=repository))


@given(st.sampled_from(["org/model", "team/any-thing"]), st.lists(st.booleans(), min_size=14, max_size=14))
def test_the_hub_has_no_names_that_differ_in_case_alone(name: str, upper: list[bool]) -> None:
    spelt = "".join(letter.upper() if big else letter for letter, big in zip(name, upper, strict=False))
    assert is_allowed_repository(spelt, ALLOWED)
    assert is_allowed_repository(name, [each.upper() for each in ALLOWED])


def test_a_list_as_people_write_it() -> None:
    assert parse_allow_list(["org/model", "a/*, b/c", "b/c\nd/e"]) == ("org/model", "a/*", "b/c", "d/e")


@pytest.mark.parametrize(
    "name", ["*", "*/*", "*/model", "org", "org/", "org/mod*", "org/**", "../x", "org/../x", "org/a/b", "o rg/", "-o/*"]
)
def test_a_list_that_means_nothing(name: str) -> None:
    with pytest.raises(ConfigurationError, match="names no repository"):
        parse_allow_list(["org/model", name])


@pytest.mark.parametrize("empty", [[], [""], [" , "]])
def test_a_list_that_allows_nothing(empty: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="no repository may be worked on") as raised:
        parse_allow_list(empty)
    assert "--repository" in str(raised.value.hint)
