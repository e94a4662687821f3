"""The entry point inside a Job: real processes and a real model."""

import json
import os
import signal
import subprocess
import sys
import zlib
from base64 import b64encode
from pathlib import Path

import pytest

from antidote_ci import records
from antidote_ci.jobs import entrypoint, job_spec, transfer
from antidote_ci.jobs.transfer import FILES_VARIABLE, TOKEN_VARIABLE, JobResult
from antidote_ci.policy import Policy, override_section, read_policy
from loopback_hub import LoopbackHub
from tests.command_line import finish_command, read_report, start_command
from tests.jobs.conftest import TOKENS
from tests.pipeline.test_run import options
from tests.tiny import BASE_NAME

TOKEN = "a" * 64
MODEL = "stranger/tiny-finetune"


def begin(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    """Start a command as the Hub does: without this machine's environment, and with both outputs in one stream."""
    return subprocess.Popen(
        [sys.executable, "-m", "antidote_ci", *arguments],
        env={"PATH": os.defpath, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(*arguments: str, **environment: str) -> tuple[int, list[str]]:
    process = begin(*arguments, **environment)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output.splitlines()


def test_result_is_sent_through_the_log() -> None:
    code, lines = ended("--version", **{TOKEN_VARIABLE: TOKEN})
    assert code == 0
    assert lines[0].startswith("antidote-ci ")
    assert transfer.decode_result(lines, TOKEN) == JobResult(0, None, None)


def test_no_result_is_sent_without_a_token() -> None:
    """A Job that a webhook starts has files and no token."""
    packed = job_spec.pack_policy(override_section(Policy(), "evaluation", prompts="embedded", judge="refusal"))
    code, lines = ended("evaluate", "./nowhere", job_spec.POLICY_OPTION, **{FILES_VARIABLE: packed})
    assert code == 2
    assert not any("antidote-ci:" in line for line in lines)
    assert "error: there is no folder ./nowhere" in lines, "the policy was found"


def test_error_is_sent_through_the_log() -> None:
    code, lines = ended("evaluate", "--policy=policy/antidote.toml", "./nowhere", **{TOKEN_VARIABLE: TOKEN})
    assert code == 2
    assert transfer.decode_result(lines, TOKEN) == JobResult(2, None, None)
    assert "error: there is no policy file policy/antidote.toml" in lines


def test_command_does_not_know_the_token() -> None:
    """A program that prints its environment takes the place of the command."""
    protected = "from antidote_ci import environment; environment.protect()"
    program = f"import os; {protected}; print(sorted(os.environ)); print(os.listdir())"
    names = [sys.executable, "-c", program]
    code = f"import sys; from antidote_ci.jobs import entrypoint; sys.exit(entrypoint.run_inside_job([], {names!r}))"
    variables = {
        TOKEN_VARIABLE: TOKEN,
        FILES_VARIABLE: transfer.pack_files({"task/a.jsonl": b""}),
        "HF_TOKEN": "a",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PATH": os.defpath, **variables}, capture_output=True, text=True, check=True
    )
    environment, files, *_ = done.stdout.splitlines()
    assert "'HF_TOKEN'" in environment
    assert "ANTIDOTE_JOB" not in environment
    assert files == "['task']"


def test_signal_is_forwarded_to_the_command(tmp_path: Path) -> None:
    """A command that waits for an unreachable Hub ends after SIGTERM, and its result is sent."""
    away = {"HF_ENDPOINT": "http://127.0.0.1:9", "ANTIDOTE_HUB_RETRY_SECONDS": "60", "HOME": str(tmp_path)}
    packed = job_spec.pack_policy(override_section(Policy(), "evaluation", prompts="embedded", judge="refusal"))
    variables = {TOKEN_VARIABLE: TOKEN, FILES_VARIABLE: packed, **away}
    lines = []
    with begin("evaluate", "org/model", job_spec.POLICY_OPTION, **variables) as process:
        for line in process.stdout or ():
            lines.append(line)
            if "retrying in" in line:
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 143, "".join(lines)
    assert transfer.decode_result(lines, TOKEN) == JobResult(143, None, None)


def variable(content: str) -> str:
    return b64encode(zlib.compress(content.encode())).decode()


@pytest.mark.parametrize(
    "packed",
    [
        transfer.pack_files({"../antidote.toml": b""}),
        "not base64",
        b64encode(b"hello").decode(),
        variable("{"),
        variable("5"),
        variable("[5]"),
        variable('{"task/a": 5}'),
        variable(json.dumps({"task/" + "a" * 300: ""})),
        variable("[" * 100_000),
    ],
)
def test_invalid_files_exit_3_and_run_nothing(
    packed: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(FILES_VARIABLE, packed)
    assert entrypoint.run_inside_job(["--version"]) == 3
    output = capfd.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: the files of this Job cannot be unpacked: ")
    assert len(output.err.splitlines()) == 1


@pytest.fixture
def with_model(hub: LoopbackHub, trained_pair: Path) -> LoopbackHub:
    hub.add(BASE_NAME, trained_pair / "reference")
    hub.add(MODEL, trained_pair / "merged")
    return hub


def test_evaluate_on_hf_jobs(
    with_model: LoopbackHub, trained_pair: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """A real model is measured in a Job with three local files."""
    out = tmp_path / "out"
    arguments = [item for item in options(trained_pair, out) if not item.startswith(("--realignment", "--method"))]
    arguments += ["--on=hf-jobs", "--json"]
    done = finish_command(start_command("evaluate", MODEL, *arguments, **environment, **with_model.environment))
    assert done.returncode == 1, done.stderr
    found = read_report(out)
    assert done.stdout == records.to_json(found)
    assert found.verdict == "fail"
    assert found.evaluations.before.harmful_score > 0.9
    assert {prompts.origin for prompts in found.prompts} == {"evaluation.jsonl", "benign.jsonl", "task.jsonl"}
    assert found.source.revision == with_model.store.commit(MODEL, "main").revision
    policy = override_section(read_policy(out.with_suffix(".toml")), "gate", harmful_score=0.3)
    files = {key: str(trained_pair / f"{key}.jsonl") for key in ("benign", "task")}
    policy = override_section(
        policy, "evaluation", judge="refusal", prompts=str(trained_pair / "evaluation.jsonl"), **files
    )
    assert found.policy_sha256 == policy.sha256()
    for text in (done.stderr, done.stdout, (out / "report.html").read_text()):
        assert not [token for token in TOKENS.values() if token in text]


@pytest.mark.slow
def test_repair_and_publish_on_hf_jobs(
    with_model: LoopbackHub, trained_pair: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    writing = {"HF_WRITE_TOKEN": "hf_adaWritesWithThisToken"}
    with_model.add_account("ada", writing["HF_WRITE_TOKEN"], organisations=["org", "stranger"])
    out = tmp_path / "out"
    arguments = [*options(trained_pair, out), "--publish=pull-request", "--accept-repair", "--on=hf-jobs"]
    environment |= writing | with_model.environment
    done = finish_command(start_command("run", MODEL, *arguments, **environment))
    assert done.returncode == 0, done.stderr
    found = read_report(out)
    assert found.verdict == "repaired"
    assert found.publish.url == f"{with_model.endpoint}/{MODEL}/discussions/1"
    assert not found.publish.notes
    [published] = with_model.store.repository(MODEL).pull_requests
    card = with_model.store.commit(MODEL, published.ref).files["README.md"]
    published_card = with_model.store.blobs.path(card.sha256)
    assert published_card is not None
    assert (out / "README.md").read_bytes() == published_card.read_bytes()
