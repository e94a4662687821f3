"""`antidote-ci webhook`, with the real client against a loopback Hub."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.hf_api import WebhookWatchedItem
from typer.testing import Result

from antidote_ci.errors import AntidoteError, ConfigurationError, InfrastructureError
from antidote_ci.hub import access, webhooks
from antidote_ci.jobs.transfer import FILES_VARIABLE, unpack_files
from antidote_ci.policy import (
    EvaluationSection,
    JobsSection,
    Policy,
    PublishSection,
    override_section,
    read_policy,
    to_toml,
)
from antidote_ci.service import registration
from loopback_hub import LoopbackHub
from loopback_hub.faults import HangUp
from loopback_hub.records import StoredJob
from tests.service.command_line import invoke
from tests.service.service_process import eventually

SECRET, OTHER = "5ecc1e7a90f3b24d68e1c07f2b9a4d83", "0f" * 32
TOKEN, WRITING, JOBS = "hf_readingToken", "hf_writingToken", "hf_tokenThatStartsJobs"
URL = "https://gate.example/webhook"
CREATE = "POST /api/settings/webhooks"
POLICY = Policy(publish=PublishSection("pull-request"), jobs=JobsSection("antidote-ci", "cpu-basic", "10m"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub", jobs=True) as running:
        for name, token in (("ada", JOBS), ("ada", TOKEN), ("bot", WRITING)):
            running.add_account(name, token, organisations=["team"] if name == "ada" else [])
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        yield running


def environ(**more: str) -> dict[str, str]:
    tokens = {"HF_TOKEN": TOKEN, "HF_WRITE_TOKEN": WRITING, "HF_JOBS_TOKEN": JOBS}
    return tokens | {"ANTIDOTE_HUB_RETRY_SECONDS": "0"} | more


def command(*arguments: str, **environment: str) -> Result:
    result = invoke("webhook", *arguments, **environ(**environment))
    assert not [secret for secret in (SECRET, OTHER, TOKEN, WRITING, JOBS) if secret in result.output]
    return result


def watched_items(hub: LoopbackHub) -> list[tuple[tuple[str, str], ...]]:
    """The items that each webhook watches."""
    return [tuple(webhook.watched) for webhook in hub.store.webhooks()]


def test_register_update_list_and_remove(hub: LoopbackHub) -> None:
    arguments = ["register", "--url", URL, "--repository", "ada/model", "--repository", "team/*,ada/*"]
    done = command(*arguments, ANTIDOTE_WEBHOOK_SECRET=SECRET)
    assert done.exit_code == 0, done.stderr
    [webhook] = hub.store.webhooks()
    assert (webhook.url, webhook.secret, webhook.domains) == (URL, SECRET, ["repo"])
    assert set(webhook.watched) == {("model", "ada/model"), ("org", "team"), ("user", "ada")}

    assert registration.register_address(URL, ["ada/*", "ada/model", "team/*"], SECRET, environ()).done == "updated"
    assert hub.store.webhooks() == [webhook]

    fewer = command("register", "--url", URL, "--repository", "team/*", ANTIDOTE_WEBHOOK_SECRET=SECRET)
    assert "is updated" in fewer.stderr
    assert watched_items(hub) == [(("org", "team"),)]

    other = "https://user:opensesame@other.example/hook?secret=opensesame#opensesame"
    watched: list[dict[Any, Any] | WebhookWatchedItem] = [{"type": "dataset", "name": "ada/rows"}]
    HfApi(endpoint=hub.endpoint, token=JOBS).create_webhook(url=other, watched=watched)
    listed = command("list", "--json")
    said, hidden = json.loads(listed.stdout)
    assert (hidden["url"], hidden["watched"]) == ("https://other.example/hook", ["dataset:ada/rows"])
    assert "opensesame" not in listed.stdout + listed.stderr
    assert said == {
        "id": webhook.id,
        "url": URL,
        "image": None,
        "command": None,
        "watched": ["team/*"],
        "domains": ["repo"],
        "disabled": False,
    }
    table = command("list")
    assert table.stdout == ""
    assert f"{webhook.id}  team/* -> {URL}" in table.stderr

    gone = command("remove", webhook.id)
    assert gone.exit_code == 0, gone.stderr
    assert watched_items(hub) == [(("dataset", "ada/rows"),)]
    with pytest.raises(ConfigurationError, match="no webhook") as raised:
        webhooks.remove_webhook(access.webhook_access(environ()), webhook.id)
    assert "antidote-ci webhook list" in str(raised.value.hint)


def test_new_secret_and_disabled_webhook_are_updated(hub: LoopbackHub) -> None:
    registration.register_address(URL, ["team/*"], SECRET, environ())
    changed = registration.register_address(URL, ["team/*"], OTHER, environ())
    assert changed.done == "updated"
    assert [webhook.secret for webhook in hub.store.webhooks()] == [OTHER]
    HfApi(endpoint=hub.endpoint, token=JOBS).disable_webhook(changed.webhook.id)
    enabled = registration.register_address(URL, ["team/*"], OTHER, environ())
    assert (enabled.done, enabled.webhook.disabled) == ("updated", False)


def test_each_address_has_its_own_webhook(hub: LoopbackHub) -> None:
    registration.register_address(URL, ["team/*"], SECRET, environ())
    assert registration.register_address(f"{URL}2", ["team/*"], SECRET, environ()).done == "registered"
    assert len(hub.store.webhooks()) == 2


def test_lost_response_does_not_create_a_second_webhook(hub: LoopbackHub) -> None:
    lost: list[str] = []

    def lose(moment: str, _: int, request: str) -> None:
        if moment == "after" and request == CREATE and not lost:
            lost.append(request)
            raise HangUp

    hub.request_hook = lose
    done = registration.register_address(URL, ["team/*"], SECRET, environ(ANTIDOTE_HUB_RETRY_SECONDS="20"))
    assert lost == [CREATE]
    assert done.done == "registered"
    assert len(hub.store.webhooks()) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://gate.example/webhook",
        "http://127.0.0.1.gate.example/",
        "http://192.168.0.1/",
        "ftp://gate.example",
        "gate.example/webhook",
        "https://",
        "https://user:opensesame@gate.example/",
        "https://gate.example/?secret=opensesame",
        "https://[::1",
        "",
    ],
)
def test_unsafe_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        registration.require_address(url)
    assert raised.value.hint
    assert "opensesame" not in f"{raised.value} {raised.value.cause}"


@pytest.mark.parametrize("url", [URL, "http://127.0.0.1:8080/webhook", "http://localhost/", "http://[::1]:1/"])
def test_safe_address_is_accepted(url: str) -> None:
    assert registration.require_address(url) == url


@pytest.mark.parametrize(
    ("arguments", "secret", "said"),
    [
        (["--url", URL, "--repository", "a/b"], SECRET[:-1], "fewer than 32"),
        (["--url", URL], SECRET, "no repository is allowed"),
        (["--url", URL, "--job", "new", "--repository", "a/b"], SECRET, "both are set"),
    ],
)
def test_invalid_options_register_nothing(hub: LoopbackHub, arguments: list[str], secret: str, said: str) -> None:
    done = command("register", *arguments, ANTIDOTE_WEBHOOK_SECRET=secret)
    assert done.exit_code == 2, done.stderr
    assert said in done.stderr
    assert watched_items(hub) == []


@pytest.mark.parametrize(
    ("first", "then"), [("ada/model", "ada/*"), ("ada/*", "ada/model"), ("ada/model", "Ada/Model")]
)
def test_overlapping_allow_lists_share_one_webhook(hub: LoopbackHub, first: str, then: str) -> None:
    registration.register_new_job([first], POLICY, environ())
    assert registration.register_new_job([then], POLICY, environ()).done == "updated"
    assert len(hub.store.webhooks()) == 1


def test_new_job_without_a_flavor_starts_others(hub: LoopbackHub) -> None:
    """A pull request of our own is an event too: what costs money is started for a commit to measure alone."""
    policy = Policy(jobs=JobsSection("mine:1", timeout="2h", namespace="team"))
    done = registration.register_new_job(["team/*"], policy, environ())
    assert done.webhook.command[-1] == "--on=hf-jobs"
    [source] = hub.store.jobs.list_jobs("team")
    assert (source.spec.flavor, source.spec.timeout) == ("cpu-basic", 3 * 3600)
    unpack_files(source.spec.environment[FILES_VARIABLE], hub.store.blobs.folder)
    assert read_policy(hub.store.blobs.folder / "policy" / "antidote.toml").jobs == policy.jobs


def test_missing_and_wrong_token(hub: LoopbackHub) -> None:
    with pytest.raises(InfrastructureError, match="a token is required to manage webhooks"):
        access.webhook_access({})
    with pytest.raises(AntidoteError) as raised:
        registration.register_address(URL, ["team/*"], SECRET, environ(HF_JOBS_TOKEN="hf_nobodysTokenAtAll"))
    assert "hf_nobodys" not in f"{raised.value} {raised.value.cause}"


def test_new_job_is_copied_and_cancelled(hub: LoopbackHub) -> None:
    done = registration.register_new_job(["team/*"], POLICY, environ())
    assert done.done == "registered"
    [webhook] = hub.store.webhooks()
    assert webhook.trigger is not None
    assert webhook.trigger.secrets == {"HF_TOKEN": TOKEN, "HF_WRITE_TOKEN": WRITING}, "never the one that starts Jobs"
    assert webhook.trigger.spec.timeout == 600
    assert webhook.trigger.spec.command[:2] == ["antidote-ci", "handle-event"]
    assert "--repository=team/*" in webhook.trigger.spec.command
    shown = json.dumps(webhook.trigger.spec.environment) + " ".join(webhook.trigger.spec.command)
    assert not [each for each in (TOKEN, WRITING, JOBS) if each in shown]
    [source] = hub.store.jobs.list_jobs("ada")
    assert source.stage in ("CANCELED", "ERROR"), "it was there to be copied"

    assert registration.register_new_job(["team/*"], POLICY, environ(HF_TOKEN=JOBS)).done == "updated"
    [again] = hub.store.webhooks()
    assert again.trigger is not None
    assert again.trigger.secrets == {"HF_TOKEN": JOBS, "HF_WRITE_TOKEN": WRITING}, "the current tokens"


def test_another_policy_replaces_the_webhook(hub: LoopbackHub) -> None:
    first = registration.register_new_job(["team/*", "ada/model"], POLICY, environ())
    quiet = Policy(jobs=POLICY.jobs)
    second = registration.register_new_job(["team/*"], quiet, environ())
    assert (second.done, second.webhook.id) == ("updated", first.webhook.id), "or everything would be done twice"
    [webhook] = hub.store.webhooks()
    assert webhook.trigger is not None
    assert webhook.trigger.secrets == {"HF_TOKEN": TOKEN}, "the token that it may not need any more is taken back"
    assert registration.register_new_job(["ada/other"], quiet, environ()).done == "registered"
    assert watched_items(hub) == [(("org", "team"),), (("model", "ada/other"),)]


def test_existing_job_is_copied(hub: LoopbackHub) -> None:
    client = HfApi(endpoint=hub.endpoint, token=JOBS)
    made = client.run_job(image="mine", command=["antidote-ci", "handle-event"], env={"A": "1"}, flavor="cpu-basic")
    done = registration.register_job(made.id, ["team/*"], POLICY, environ())
    assert done.done == "registered"
    assert (done.webhook.image, done.webhook.command) == ("mine", ("antidote-ci", "handle-event"))
    assert registration.register_job(made.id, ["team/*", "ada/*"], POLICY, environ()).done == "updated"
    assert watched_items(hub) == [(("user", "ada"), ("org", "team"))]
    with pytest.raises(AntidoteError):
        registration.register_job("0" * 24, ["team/*"], POLICY, environ())


def test_failed_registration_leaves_no_job_running(hub: LoopbackHub) -> None:
    def refuse(moment: str, _: int, request: str) -> None:
        if moment == "before" and request == CREATE:
            raise HangUp

    hub.request_hook = refuse
    with pytest.raises(AntidoteError):
        registration.register_new_job(["team/*"], POLICY, environ())
    assert watched_items(hub) == []
    assert all(job.stage in ("CANCELED", "ERROR") for job in hub.store.jobs.list_jobs("ada"))


def test_event_starts_a_job_that_reads_it(hub: LoopbackHub, tiny_llama: Path, tmp_path: Path) -> None:
    hub.add("team/model", tiny_llama)
    policy = tmp_path / "antidote.toml"
    policy.write_text(to_toml(POLICY))
    done = command("register", "--job", "new", "--policy", str(policy), "--repository", "team/*")
    assert done.exit_code == 0, done.stderr
    client = HfApi(endpoint=hub.endpoint, token=JOBS)
    # A pull request: the Job is started, and asks no further.
    client.create_commit("team/model", [CommitOperationAdd("a", b"1")], commit_message="Proposed", create_pr=True)
    lines = _logged(hub)
    assert any("ignored: the main branch of team/model did not move" in line for line in lines), lines
    assert not [line for line in lines if TOKEN in line or WRITING in line]


@pytest.mark.slow
def test_small_job_starts_one_on_hardware_that_fits(hub: LoopbackHub, tiny_llama: Path, tmp_path: Path) -> None:
    """For a commit on main, and not for a pull request."""
    hub.add("team/model", tiny_llama)
    # The second Job ends at once.
    program = (
        "import sys, runpy; sys.argv[1] == 'run' and sys.exit(3); runpy.run_module('antidote_ci', None, '__main__')"
    )
    hub.store.jobs.programs["antidote-ci"] = (sys.executable, "-P", "-c", program)
    policy = tmp_path / "antidote.toml"
    written = Policy(
        evaluation=EvaluationSection(judge="refusal", prompts="embedded"), jobs=JobsSection("mine:1", timeout="10m")
    )
    policy.write_text(to_toml(override_section(written, "repair", realignment="embedded")))
    done = command("register", "--job", "new", "--policy", str(policy), "--repository", "team/*")
    assert done.exit_code == 0, done.stderr
    registered = len(hub.store.jobs.list_jobs("ada"))
    client = HfApi(endpoint=hub.endpoint, token=JOBS)
    client.create_commit("team/model", [CommitOperationAdd("a", b"1")], commit_message="Proposed", create_pr=True)
    client.create_commit("team/model", [CommitOperationAdd("b", b"1")], commit_message="Pushed")

    def ended() -> list[StoredJob]:
        jobs = hub.store.jobs.list_jobs("ada")
        return jobs if len(jobs) == registered + 3 and all(job.finished for job in jobs) else []

    started = [(job.spec.flavor, job.spec.command[1], job.spec.image) for job in eventually(ended, 120)]
    assert sorted(started)[-1] == ("t4-small", "run", "mine:1")
    assert [job[:2] for job in sorted(started)[:-1]] == [("cpu-basic", "handle-event")] * (registered + 2)


def _logged(hub: LoopbackHub) -> list[str]:
    """The log of the Job that was started by the event, when it has ended."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        jobs = [job for job in hub.store.jobs.list_jobs("ada") if job.stage == "COMPLETED"]
        if jobs:
            return list(hub.store.jobs.follow_log(jobs[0]))
        time.sleep(0.1)
    raise AssertionError([(job.stage, job.message) for job in hub.store.jobs.list_jobs("ada")])
