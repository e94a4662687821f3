"""What a Job is asked to do, and what it is told."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.jobs import input_bundle, job_spec
from antidote_ci.jobs.job_spec import JobSpec
from antidote_ci.policy import Command, Policy, RunConfig, override_section, read_policy

COMMIT = "0123456789" * 4
IMAGE = "ghcr.io/org/antidote-ci:1"
HERE = {"ANTIDOTE_IMAGE": IMAGE}
TOKENS = {
    "HF_TOKEN": "hf_reading",
    "HF_WRITE_TOKEN": "hf_writing",
    "HF_JOBS_TOKEN": "hf_starting",
    "ANTIDOTE_JUDGE_KEY": "key",
    "ANTIDOTE_SERVER_KEY": "other",
    "ANTIDOTE_WEBHOOK_SECRET": "shared",
}


def named(policy: Policy, model: str = "org/model", out: Path = Path("nowhere")) -> RunConfig:
    return RunConfig(model, None, policy, out)


def placed(policy: Policy, command: Command = "run") -> JobSpec:
    return job_spec.build_job_spec(command, named(policy), COMMIT, HERE)


@pytest.fixture
def with_files(tmp_path: Path) -> Policy:
    """A policy that names five files of this machine, two of the same name."""
    for path in ("a/rows.jsonl", "b/rows.jsonl", "task.jsonl", "realign.jsonl", "judge.json"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(f"what {path} says")
    files = {"prompts": "a/rows.jsonl", "benign": "b/rows.jsonl", "task": "task.jsonl", "calibration": "judge.json"}
    policy = override_section(Policy(), "evaluation", **{key: str(tmp_path / path) for key, path in files.items()})
    policy = override_section(policy, "jobs", image="another", flavor="l4x1")
    return override_section(policy, "repair", realignment=str(tmp_path / "realign.jsonl"))


def test_everything_is_folded_into_the_policy(
    with_files: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside, the same option reads an equal policy, whose files say what they say here."""
    found = placed(with_files)
    assert found.arguments == [
        *("antidote-ci", "run", "--policy=policy/antidote.toml", f"--revision={COMMIT}", "--out=antidote-out"),
        *("--", "org/model"),
    ]
    there = tmp_path / "inside"
    there.mkdir()
    input_bundle.unpack_bundle(found.input_bundle, there)
    monkeypatch.chdir(there)
    read = read_policy(Path("policy/antidote.toml"))
    assert read.sha256() == with_files.sha256() == found.policy_sha256
    assert read.jobs == Policy().jobs
    for (section, key), path in job_spec.list_local_files(with_files).items():
        moved = Path(getattr(getattr(read, section), key))
        assert moved.read_text() == path.read_text()
        assert moved.name == path.name
    assert len(job_spec.list_local_files(read)) == 5


def test_what_is_no_file_of_this_machine_stays_a_name() -> None:
    policy = override_section(Policy(), "evaluation", prompts="jailbreakbench", benign="xstest", task="embedded")
    assert job_spec.list_local_files(policy) == {}
    assert job_spec.list_local_files(override_section(Policy(), "repair", realignment="embedded")) == {}


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    policy = override_section(Policy(), "evaluation", task=str(tmp_path / "gone.jsonl"))
    with pytest.raises(ConfigurationError, match=r"gone\.jsonl cannot be read: No such file"):
        placed(policy)


def test_equal_work_has_an_equal_name(with_files: Policy, tmp_path: Path) -> None:
    first = placed(with_files)
    elsewhere = override_section(with_files, "jobs", flavor="h200", timeout="4h", namespace="org")
    assert placed(elsewhere).id == first.id == placed(with_files).id == first.labels["order"]
    others = [
        placed(with_files, "evaluate"),
        replace(first, revision="0" * 40),
        replace(first, model="org/other"),
        job_spec.build_job_spec("run", named(override_section(with_files, "jobs", image="a")), COMMIT, {}),
        placed(override_section(with_files, "gate", harmful_score=0.2)),
    ]
    (tmp_path / "task.jsonl").write_text("another task")
    others.append(placed(with_files))
    assert len({first.id, *(each.id for each in others)}) == 7
    for value in first.labels.values():
        assert re.fullmatch(r"[a-z0-9-]{1,63}", value)


@given(st.text(min_size=1, max_size=90))
@settings(max_examples=40, deadline=None)
def test_a_name_is_one_that_the_hub_takes(model: str) -> None:
    found = JobSpec("evaluate", model, COMMIT, "0" * 64, IMAGE, "")
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,60}", found.name)
    assert found.arguments[-2:] == ["--", model]


@pytest.mark.parametrize(
    ("command", "policy", "expected"),
    [
        ("evaluate", Policy(), {"HF_TOKEN"}),
        ("run", Policy(), {"HF_TOKEN"}),
        ("run", override_section(Policy(), "publish", mode="pull-request"), {"HF_TOKEN", "HF_WRITE_TOKEN"}),
        ("evaluate", override_section(Policy(), "publish", mode="pull-request"), {"HF_TOKEN"}),
        (
            "evaluate",
            override_section(Policy(), "evaluation", judge="qwen3guard,endpoint"),
            {"HF_TOKEN", "ANTIDOTE_JUDGE_KEY"},
        ),
    ],
)
def test_a_job_is_told_what_it_needs_and_no_more(command: Command, policy: Policy, expected: set[str]) -> None:
    handed = job_spec.collect_secrets(command, policy, TOKENS)
    assert handed == {name: TOKENS[name] for name in expected}
    assert "hf_starting" not in handed.values()
    shown = str(placed(policy, command).environment("a" * 64)) + str(placed(policy, command).arguments)
    assert not [value for value in handed.values() if value in shown]


def test_without_tokens_a_job_is_told_nothing() -> None:
    assert job_spec.collect_secrets("run", Policy(), {"HF_TOKEN": " "}) == {}
    publishing = override_section(Policy(), "publish", mode="pull-request")
    with pytest.raises(InfrastructureError, match="needs a token that may write"):
        job_spec.collect_secrets("run", publishing, {"HF_OIDC_RESOURCE": "org/model"})
    reading = {"HF_TOKEN": "hf_both"}
    assert job_spec.collect_secrets("run", publishing, reading) == reading


def test_an_image_must_be_named() -> None:
    assert job_spec.resolve_image(Policy(), HERE) == IMAGE
    assert job_spec.resolve_image(override_section(Policy(), "jobs", image="mine"), HERE) == "mine"
    with pytest.raises(ConfigurationError, match="needs an image") as raised:
        job_spec.resolve_image(Policy(), {})
    assert "[jobs]" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (named(Policy(), str(Path(__file__).parent)), "is a folder of this machine"),
        (named(Policy(), "./nowhere"), "there is no folder ./nowhere"),
        (named(Policy(), "http://ada:password@127.0.0.1:8000/v1"), "http://127.0.0.1:8000/v1 is a server"),
        (replace(named(Policy()), save_answers=Path("a.jsonl")), "--save-answers cannot be had from a Job"),
        (named(override_section(Policy(), "repair", reference="~/base")), "~/base is a folder"),
        (named(override_section(Policy(), "evaluation", judge="llama-guard@./judge")), "./judge is a folder"),
        (named(Policy(), out=Path(__file__)), "cannot be written"),
    ],
)
def test_what_a_job_cannot_do(config: RunConfig, what: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(what)) as raised:
        job_spec.require_job_supported(config, "run")
    assert raised.value.exit_code == 2
    assert "password" not in f"{raised.value}{raised.value.cause}{raised.value.hint}"


def test_a_token_of_ours_is_no_secret_of_the_machine() -> None:
    """What a Job is told does not depend on what else stands in the environment."""
    assert job_spec.collect_secrets("run", Policy(), dict(os.environ) | TOKENS) == {"HF_TOKEN": "hf_reading"}
