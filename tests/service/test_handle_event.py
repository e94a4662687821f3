"""`antidote-ci handle-event` as a webhook Job starts it, against a loopback Hub."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from typer.testing import Result

from antidote_ci.errors import ConfigurationError
from antidote_ci.service.events import read_job_event
from antidote_ci.service.records import IgnoredEvent, RunOutcome, RunTask
from antidote_ci.service.repository_state import decide_task
from loopback_hub import LoopbackHub
from tests.service.command_line import invoke
from tests.service.test_events import OLD, payload

MODEL, TOKEN = "org/model", "hf_loopbackToken"
ALLOWED = ("org/*",)


@pytest.fixture
def hub(tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as running:
        running.add(MODEL, tiny_llama)
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("ANTIDOTE_HUB_RETRY_SECONDS", "0")
        for name in ("HF_TOKEN", "HF_WRITE_TOKEN", "HF_JOBS_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield running


def job_environment(revision: str, **changed: object) -> dict[str, str]:
    """The environment of a Job that the Hub starts for a push to the main branch."""
    event = payload(updatedRefs=[{"ref": "refs/heads/main", "oldSha": OLD, "newSha": revision}])
    event |= changed
    return {
        "WEBHOOK_PAYLOAD": json.dumps(event),
        "WEBHOOK_REPO_ID": event["repo"]["name"],
        "WEBHOOK_REPO_TYPE": "model",
        "WEBHOOK_ID": "1",
    }


def head(hub: LoopbackHub) -> str:
    return str(HfApi(endpoint=hub.endpoint, token=TOKEN).model_info(MODEL).sha)


def handle(*arguments: str, **environment: str) -> Result:
    return invoke("handle-event", *arguments, **environment)


def decide(environment: dict[str, str], policy: str = "0" * 64) -> RunTask | IgnoredEvent | RunOutcome:
    return decide_task(read_job_event(environment), ALLOWED, policy)


def test_new_commit_is_run(hub: LoopbackHub) -> None:
    task = decide(job_environment(head(hub)))
    assert isinstance(task, RunTask)
    assert (task.command, task.request.repository, task.request.revision) == ("run", MODEL, head(hub))


def test_newer_head_is_run_instead(hub: LoopbackHub) -> None:
    before = head(hub)
    client = HfApi(endpoint=hub.endpoint, token=TOKEN)
    client.create_commit(MODEL, [CommitOperationAdd("a.txt", b"1")], commit_message="Newer")
    task = decide(job_environment(before))
    assert isinstance(task, RunTask)
    assert task.request.revision == head(hub) != before


def test_missing_event(hub: LoopbackHub) -> None:
    done = handle("--repository=org/*")
    assert done.exit_code == 2
    assert "WEBHOOK_PAYLOAD is not set" in done.stderr
    assert "antidote-ci webhook register --job new" in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_allow_list(hub: LoopbackHub) -> None:
    done = handle(**job_environment(head(hub)))
    assert done.exit_code == 2
    assert "--repository ORG/NAME" in done.stderr


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"repo": payload()["repo"] | {"name": "other/model"}}, "other/model is not on the allow list"),
        ({"event": {"action": "update", "scope": "discussion"}}, "no file of org/model changed"),
        (
            {"updatedRefs": [{"ref": "refs/pr/1", "oldSha": None, "newSha": OLD}]},
            "the main branch of org/model did not",
        ),
    ],
)
def test_event_that_requests_nothing_exits_0(hub: LoopbackHub, changed: dict[str, Any], reason: str) -> None:
    done = handle("--json", ANTIDOTE_REPOSITORY="org/model, team/*", **job_environment(head(hub), **changed))
    assert done.exit_code == 0, done.stderr
    assert f"ignored: {reason}" in done.stderr
    [line] = done.stdout.splitlines()
    answer = json.loads(line)
    assert answer["state"] == "ignored"
    assert reason in answer["reason"]


def test_later_payload_version(hub: LoopbackHub) -> None:
    done = handle("--repository=org/*", **job_environment(head(hub), webhook={"id": "1", "version": 4}))
    assert done.exit_code == 2
    assert "webhook.version is not 3" in done.stderr


@pytest.mark.parametrize("text", ["", "{", "[" * 50_000, "\udcff", '{"webhook": {"version": NaN}}', "null"])
def test_invalid_payload(text: str) -> None:
    with pytest.raises(ConfigurationError, match="WEBHOOK_PAYLOAD is invalid"):
        read_job_event({"WEBHOOK_PAYLOAD": text})


def test_repository_variable_must_match_the_event(hub: LoopbackHub) -> None:
    done = handle("--repository=org/*", **job_environment(head(hub)) | {"WEBHOOK_REPO_ID": "org/other"})
    assert done.exit_code == 2
    assert "WEBHOOK_REPO_ID does not" in done.stderr


def test_unreadable_repository_exits_3(hub: LoopbackHub, tiny_llama: Path) -> None:
    hub.add("org/private", tiny_llama, private=True)
    named = payload()["repo"] | {"name": "org/private"}
    done = handle("--repository=org/*", "--json", **job_environment("f" * 40, repo=named))
    assert done.exit_code == 3
    assert json.loads(done.stdout)["state"] == "gone"
    assert "a webhook has secrets of its own" in done.stderr


def test_only_the_policy_file_applies(hub: LoopbackHub, tmp_path: Path) -> None:
    # Options of `run` in the environment would change the policy, and so which repairs are recognised as ours.
    policy = tmp_path / "antidote.toml"
    policy.write_text('[evaluation]\njudge = "refusal"\nprompts = "missing.jsonl"\n')
    out = f"--out={tmp_path / 'out'}"
    done = handle(
        f"--policy={policy}", "--repository=org/*", out, ANTIDOTE_PROMPTS="embedded", **job_environment(head(hub))
    )
    assert done.exit_code == 2, done.stderr
    assert f"run {MODEL} at {head(hub)}" in done.stderr
    assert "missing.jsonl" in done.stderr


def test_on_hf_jobs_submits_another_job(hub: LoopbackHub, tmp_path: Path) -> None:
    done = handle(
        "--repository=org/*", "--on=hf-jobs", f"--out={tmp_path / 'out'}", HF_TOKEN=TOKEN, **job_environment(head(hub))
    )
    assert done.exit_code == 2, done.stderr
    assert "a Job needs an image" in done.stderr
