"""`antidote-ci handle-event`, as a Job webhook starts it: real processes against a loopback Hub."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from antidote_ci.errors import ConfigurationError
from antidote_ci.service import job_handler
from antidote_ci.service.records import IgnoredEvent, RunOutcome, RunTask
from loopback_hub import LoopbackHub
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
        monkeypatch.setenv("ANTIDOTE_HUB_PATIENCE", "0")
        for name in ("HF_TOKEN", "HF_WRITE_TOKEN", "HF_JOBS_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield running


def told(revision: str, **changed: object) -> dict[str, str]:
    """The environment of a Job that the Hub starts for a push to main."""
    said = payload(updatedRefs=[{"ref": "refs/heads/main", "oldSha": OLD, "newSha": revision}])
    said |= changed
    return {
        "WEBHOOK_PAYLOAD": json.dumps(said),
        "WEBHOOK_REPO_ID": said["repo"]["name"],
        "WEBHOOK_REPO_TYPE": "model",
        "WEBHOOK_ID": "1",
    }


def head(hub: LoopbackHub) -> str:
    return str(HfApi(endpoint=hub.endpoint, token=TOKEN).model_info(MODEL).sha)


def handle(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "antidote_ci", "handle-event", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=os.environ | environment, check=False, timeout=120
    )


def found(environment: dict[str, str], policy: str = "0" * 64) -> RunTask | IgnoredEvent | RunOutcome:
    return job_handler.decide_task(job_handler.read_event(environment), ALLOWED, policy)


def test_a_commit_that_nobody_has_measured(hub: LoopbackHub) -> None:
    task = found(told(head(hub)))
    assert isinstance(task, RunTask)
    assert (task.command, task.order.repository, task.order.revision) == ("run", MODEL, head(hub))


def test_a_commit_that_is_no_longer_the_head(hub: LoopbackHub) -> None:
    before = head(hub)
    client = HfApi(endpoint=hub.endpoint, token=TOKEN)
    client.create_commit(MODEL, [CommitOperationAdd("a.txt", b"1")], commit_message="Newer")
    task = found(told(before))
    assert isinstance(task, RunTask)
    assert task.order.revision == head(hub) != before, "nobody else is sure to measure it"


def test_without_an_event_it_says_how_to_get_one(hub: LoopbackHub) -> None:
    done = handle("--repository=org/*")
    assert done.returncode == 2
    assert "WEBHOOK_PAYLOAD is not set" in done.stderr
    assert "antidote-ci webhook register --job new" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_list_it_does_nothing(hub: LoopbackHub) -> None:
    done = handle(**told(head(hub)))
    assert done.returncode == 2
    assert "--repository ORG/NAME" in done.stderr


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"repo": payload()["repo"] | {"name": "other/model"}}, "other/model is not on the list of repositories"),
        ({"event": {"action": "update", "scope": "discussion"}}, "no file of org/model changed"),
        (
            {"updatedRefs": [{"ref": "refs/pr/1", "oldSha": None, "newSha": OLD}]},
            "the main branch of org/model did not",
        ),
    ],
)
def test_an_event_that_asks_for_nothing(hub: LoopbackHub, changed: dict[str, Any], reason: str) -> None:
    done = handle("--json", ANTIDOTE_REPOSITORY="org/model, team/*", **told(head(hub), **changed))
    assert done.returncode == 0, done.stderr
    assert f"ignored: {reason}" in done.stderr
    [line] = done.stdout.splitlines()
    said = json.loads(line)
    assert said["state"] == "ignored"
    assert reason in said["reason"]


def test_a_payload_of_a_later_version(hub: LoopbackHub) -> None:
    done = handle("--repository=org/*", **told(head(hub), webhook={"id": "1", "version": 4}))
    assert done.returncode == 2
    assert "webhook.version is another than 3" in done.stderr


@pytest.mark.parametrize("text", ["", "{", "[" * 50_000, "\udcff", '{"webhook": {"version": NaN}}', "null"])
def test_what_is_no_payload(text: str) -> None:
    with pytest.raises(ConfigurationError, match="WEBHOOK_PAYLOAD cannot be acted upon"):
        job_handler.read_event({"WEBHOOK_PAYLOAD": text})


def test_an_environment_that_contradicts_itself(hub: LoopbackHub) -> None:
    done = handle("--repository=org/*", **told(head(hub)) | {"WEBHOOK_REPO_ID": "org/other"})
    assert done.returncode == 2
    assert "WEBHOOK_REPO_ID does not" in done.stderr


def test_a_repository_that_cannot_be_seen_is_no_success(hub: LoopbackHub, tiny_llama: Path) -> None:
    hub.add("org/private", tiny_llama, private=True)
    named = payload()["repo"] | {"name": "org/private"}
    done = handle("--repository=org/*", "--json", **told("f" * 40, repo=named))
    assert done.returncode == 3
    assert json.loads(done.stdout)["state"] == "gone"
    assert "a webhook has secrets of its own" in done.stderr


def test_the_policy_file_alone_says_how(hub: LoopbackHub, tmp_path: Path) -> None:
    # What the environment says to `run` is not what recognition goes by: it must not change what is run.
    policy = tmp_path / "antidote.toml"
    policy.write_text('[evaluation]\njudge = "refusal"\nprompts = "missing.jsonl"\n')
    out = f"--out={tmp_path / 'out'}"
    done = handle(f"--policy={policy}", "--repository=org/*", out, ANTIDOTE_PROMPTS="embedded", **told(head(hub)))
    assert done.returncode == 2, done.stderr
    assert f"run {MODEL} at {head(hub)}" in done.stderr
    assert "missing.jsonl" in done.stderr


def test_on_the_hub_s_machines_it_is_another_job(hub: LoopbackHub, tmp_path: Path) -> None:
    done = handle("--repository=org/*", "--on=hf-jobs", f"--out={tmp_path / 'out'}", HF_TOKEN=TOKEN, **told(head(hub)))
    assert done.returncode == 2, done.stderr
    assert "a Job needs an image" in done.stderr
