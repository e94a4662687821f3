"""The service and `handle-event` understand payloads that others have published."""

import json
from typing import Any

import httpx2
import pytest

from antidote_ci.service.events import PAYLOAD_VARIABLE, REPOSITORY_VARIABLE, decide_event, parse_event, read_job_event
from antidote_ci.service.records import IgnoredEvent, RunRequest
from tests.service.hub_payloads import DOCUMENTED, NEW_COMMIT, PUBLISHED
from tests.service.service_process import HEADER, ServiceProcess

POLICY = "c" * 64
PUSH = DOCUMENTED["commit and tag"]
IGNORED = {
    "pull request opened": "no file of openai-community/gpt2 changed (discussion)",
    "made private": "no file of some-user/some-repo changed (repo.config)",
    "unknown configuration": "no file of some-user/some-repo changed (repo.config.dois)",
    "pull request closed": "Wauplin/leaderboard is a space, not a model",
    "push to a pull request": "Wauplin/gradio-user-history is a space, not a model",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_only_a_commit_on_main_requests_a_run(name: str) -> None:
    payload = PUBLISHED[name]
    allowed = [payload["repo"]["name"]]
    decided = decide_event(parse_event(json.dumps(payload).encode()), allowed, POLICY)
    if name in IGNORED:
        assert decided == IgnoredEvent(IGNORED[name])
    else:
        assert decided == RunRequest("some-user/some-repo", NEW_COMMIT, POLICY)


def test_a_push_to_a_pull_request_of_a_model_requests_nothing() -> None:
    push = PUBLISHED["push to a pull request"]
    model = push | {"repo": push["repo"] | {"type": "model"}}
    decided = decide_event(parse_event(json.dumps(model).encode()), ["Wauplin/*"], POLICY)
    assert decided == IgnoredEvent("the main branch of Wauplin/gradio-user-history did not move")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_job_reads_the_variables_of_the_hub(name: str) -> None:
    """https://huggingface.co/docs/hub/jobs-webhooks names these variables, and no id of the delivery."""
    payload = PUBLISHED[name]
    environment = {PAYLOAD_VARIABLE: json.dumps(payload), REPOSITORY_VARIABLE: payload["repo"]["name"]}
    assert read_job_event(environment | {"WEBHOOK_REPO_TYPE": "model"}).repository == payload["repo"]["name"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_service_answers_at_once(running: ServiceProcess, name: str) -> None:
    """A delivery without an id. The push is of a repository on the allow list, and then known."""
    payload: dict[str, Any] = PUBLISHED[name]
    if payload is PUSH:
        payload = payload | {"repo": payload["repo"] | {"name": "org/published"}}
    answers = [
        httpx2.post(running.url("/webhook"), content=json.dumps(payload).encode(), headers=HEADER, timeout=20)
        for _ in range(2)
    ]
    statuses = [(answer.status_code, answer.json()["status"]) for answer in answers]
    expected = [(202, "accepted"), (202, "duplicate")] if name not in IGNORED else [(200, "ignored")] * 2
    assert statuses == expected
