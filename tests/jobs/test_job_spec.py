"""The specification of a Job: arguments, files, secrets and refusals."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.hub.jobs_api import JobRequest
from antidote_ci.jobs import job_spec, transfer
from antidote_ci.jobs.transfer import FILES_VARIABLE
from antidote_ci.policy import Command, Policy, RunConfig, override_section, read_policy

COMMIT = "0123456789" * 4
IMAGE = "ghcr.io/org/antidote-ci:1"
ENVIRONMENT = {"ANTIDOTE_IMAGE": IMAGE}
TOKENS = {
    "HF_TOKEN": "hf_reading",
    "HF_WRITE_TOKEN": "hf_writing",
    "HF_JOBS_TOKEN": "hf_starting",
    "ANTIDOTE_JUDGE_KEY": "key",
    "ANTIDOTE_SERVER_KEY": "other",
    "ANTIDOTE_WEBHOOK_SECRET": "shared",
}


def run_config(
    policy: Policy, model: str = "org/model", out: Path = Path("nowhere"), revision: str | None = None
) -> RunConfig:
    return RunConfig(model, revision, policy, out)


def build(policy: Policy, command: Command = "run", model: str = "org/model", revision: str = COMMIT) -> JobRequest:
    config = run_config(policy, model, revision=revision)
    return job_spec.build_job_request(command, config, "org", "l4x1", ENVIRONMENT | TOKENS)


@pytest.fixture
def with_files(tmp_path: Path) -> Policy:
    """A policy with six local files, two of them with the same name."""
    for path in ("a/rows.jsonl", "b/rows.jsonl", "task.jsonl", "realign.jsonl", "judge.json", "last.json"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(f"content of {path}")
    files = {"prompts": "a/rows.jsonl", "benign": "b/rows.jsonl", "task": "task.jsonl", "calibration": "judge.json"}
    policy = override_section(Policy(), "evaluation", **{key: str(tmp_path / path) for key, path in files.items()})
    policy = override_section(policy, "jobs", image="another", flavor="l4x1")
    policy = override_section(policy, "gate", baseline=str(tmp_path / "last.json"))
    return override_section(policy, "repair", realignment=str(tmp_path / "realign.jsonl"))


def test_policy_and_its_files_are_sent(with_files: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside the Job, the policy and the content of its files are equal."""
    request = build(with_files)
    assert request.command == [
        *("antidote-ci", "run", "--policy=policy/antidote.toml", f"--revision={COMMIT}", "--out=antidote-out"),
        *("--", "org/model"),
    ]
    inside = tmp_path / "inside"
    inside.mkdir()
    transfer.unpack_files(request.environment[FILES_VARIABLE], inside)
    monkeypatch.chdir(inside)
    read = read_policy(Path("policy/antidote.toml"))
    assert read.sha256() == with_files.sha256()
    assert read.jobs == Policy().jobs
    for (section, key), path in job_spec.list_local_files(with_files).items():
        moved = Path(getattr(getattr(read, section), key))
        assert moved.read_text() == path.read_text()
        assert moved.name == path.name
    assert len(job_spec.list_local_files(read)) == 6


def test_names_of_prompt_sets_are_no_files() -> None:
    policy = override_section(Policy(), "evaluation", prompts="jailbreakbench", benign="xstest", task="embedded")
    assert job_spec.list_local_files(policy) == {}
    assert job_spec.list_local_files(override_section(Policy(), "repair", realignment="embedded")) == {}


def test_missing_file(tmp_path: Path) -> None:
    policy = override_section(Policy(), "evaluation", task=str(tmp_path / "gone.jsonl"))
    with pytest.raises(ConfigurationError, match=r"gone\.jsonl cannot be read: No such file"):
        build(policy)


def test_label_is_equal_for_equal_work(with_files: Policy, tmp_path: Path) -> None:
    first = build(with_files)
    elsewhere = override_section(with_files, "jobs", flavor="h200", timeout="4h", namespace="org")
    assert build(elsewhere).labels == first.labels == build(with_files).labels
    others = [
        build(with_files, "evaluate"),
        build(with_files, revision="0" * 40),
        build(with_files, model="org/other"),
        build(override_section(with_files, "jobs", image="a")),
        build(override_section(with_files, "gate", harmful_score=0.2)),
    ]
    (tmp_path / "task.jsonl").write_text("another task")
    others.append(build(with_files))
    assert len({request.labels["order"] for request in (first, *others)}) == 7
    for value in first.labels.values():
        assert re.fullmatch(r"[a-z0-9-]{1,63}", value)


@given(st.text(min_size=1, max_size=90))
@settings(max_examples=40, deadline=None)
def test_name_is_valid_on_the_hub(model: str) -> None:
    request = build(Policy(), "evaluate", model)
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,60}", request.name)
    assert request.command[-2:] == ["--", model]


@pytest.mark.parametrize(
    ("command", "policy", "expected"),
    [
        ("evaluate", Policy(), {"HF_TOKEN"}),
        ("run", Policy(), {"HF_TOKEN"}),
        ("run", override_section(Policy(), "publish", mode="pull-request"), {"HF_TOKEN", "HF_WRITE_TOKEN"}),
        ("evaluate", override_section(Policy(), "publish", mode="pull-request"), {"HF_TOKEN"}),
        ("evaluate", override_section(Policy(), "publish", mode="report"), {"HF_TOKEN", "HF_WRITE_TOKEN"}),
        (
            "evaluate",
            override_section(Policy(), "evaluation", judge="qwen3guard,endpoint"),
            {"HF_TOKEN", "ANTIDOTE_JUDGE_KEY"},
        ),
    ],
)
def test_secrets_are_those_that_the_command_needs(command: Command, policy: Policy, expected: set[str]) -> None:
    request = build(policy, command)
    secrets = request.secrets
    assert secrets == {name: TOKENS[name] for name in expected}
    assert "hf_starting" not in secrets.values()
    shown = str(request)
    assert not [value for value in secrets.values() if value in shown]


def test_publishing_requires_a_token() -> None:
    assert job_spec.collect_secrets("run", Policy(), {"HF_TOKEN": " "}) == {}
    publishing = override_section(Policy(), "publish", mode="pull-request")
    with pytest.raises(InfrastructureError, match="needs a write token"):
        job_spec.collect_secrets("run", publishing, {"HF_OIDC_RESOURCE": "org/model"})
    reading = {"HF_TOKEN": "hf_both"}
    assert job_spec.collect_secrets("run", publishing, reading) == reading


def test_image_is_required() -> None:
    assert job_spec.resolve_image(Policy(), ENVIRONMENT) == IMAGE
    assert job_spec.resolve_image(override_section(Policy(), "jobs", image="mine"), ENVIRONMENT) == "mine"
    with pytest.raises(ConfigurationError, match="needs an image") as raised:
        job_spec.resolve_image(Policy(), {})
    assert "[jobs]" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (run_config(Policy(), str(Path(__file__).parent)), "is a local folder"),
        (run_config(Policy(), "./nowhere"), "there is no folder ./nowhere"),
        (run_config(Policy(), "http://ada:password@127.0.0.1:8000/v1"), "http://127.0.0.1:8000/v1 is a server"),
        (replace(run_config(Policy()), save_answers=Path("a.jsonl")), "--save-answers is not supported on HF Jobs"),
        (run_config(override_section(Policy(), "repair", reference="~/base")), "~/base is a local folder"),
        (
            run_config(override_section(Policy(), "evaluation", judge="llama-guard@./judge")),
            "./judge is a local folder",
        ),
        (run_config(Policy(), out=Path(__file__)), "cannot be written"),
    ],
)
def test_unsupported_options(config: RunConfig, what: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(what)) as raised:
        job_spec.require_job_supported(config, "run")
    assert raised.value.exit_code == 2
    assert "password" not in f"{raised.value}{raised.value.cause}{raised.value.hint}"
