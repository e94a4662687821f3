"""The command inside a Job, as the image starts it: real processes, and a real model."""

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
from antidote_ci.jobs import input_bundle, job_spec, result_stream
from antidote_ci.jobs.entrypoint import TOKEN_VARIABLE
from antidote_ci.jobs.input_bundle import BundleFile
from antidote_ci.jobs.result_stream import JobResult
from antidote_ci.policy import Policy, override_section, read_policy
from loopback_hub import LoopbackHub
from tests.jobs.conftest import TOKENS
from tests.pipeline.test_run import finish, options, report, start
from tests.tiny import BASE_NAME

TOKEN = "a" * 64
MODEL = "stranger/tiny-finetune"


def begin(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
    """As the Hub would: nothing of this machine's environment, standard error beside standard output."""
    return subprocess.Popen(
        [sys.executable, "-m", "antidote_ci", *arguments],
        env={"PATH": os.defpath, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(*arguments: str, **environment: str) -> tuple[int, list[str]]:
    process = begin(*arguments, **environment)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said.splitlines()


def test_how_it_ended_goes_into_the_log() -> None:
    code, lines = ended("--version", **{TOKEN_VARIABLE: TOKEN})
    assert code == 0
    assert lines[0].startswith("antidote-ci ")
    assert result_stream.decode_result(lines, TOKEN) == JobResult(0, None, None)


def test_without_a_token_nobody_waits() -> None:
    """A Job that a webhook starts has luggage alone."""
    packed = job_spec.pack_policy(override_section(Policy(), "evaluation", prompts="embedded", judge="refusal"))
    code, lines = ended("evaluate", "./nowhere", job_spec.POLICY_OPTION, **{input_bundle.VARIABLE: packed})
    assert code == 2
    assert not any("antidote-ci:" in line for line in lines)
    assert "error: there is no folder ./nowhere" in lines, "the policy was found"


def test_an_error_inside_is_sent_home() -> None:
    code, lines = ended("evaluate", "--policy=policy/antidote.toml", "./nowhere", **{TOKEN_VARIABLE: TOKEN})
    assert code == 2
    assert result_stream.decode_result(lines, TOKEN) == JobResult(2, None, None)
    assert "error: there is no policy file policy/antidote.toml" in lines


def test_the_command_does_not_know_the_token() -> None:
    """Another program in its place says what it is told."""
    protected = "from antidote_ci import environment; environment.protect()"
    program = f"import os; {protected}; print(sorted(os.environ)); print(os.listdir())"
    names = [sys.executable, "-c", program]
    code = f"import sys; from antidote_ci.jobs import entrypoint; sys.exit(entrypoint.run_inside_job([], {names!r}))"
    told = {
        TOKEN_VARIABLE: TOKEN,
        input_bundle.VARIABLE: input_bundle.pack_bundle([BundleFile("task", "a.jsonl", b"")]),
        "HF_TOKEN": "a",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PATH": os.defpath, **told}, capture_output=True, text=True, check=True
    )
    environment, files, *_ = done.stdout.splitlines()
    assert "'HF_TOKEN'" in environment
    assert "ANTIDOTE_JOB" not in environment
    assert files == "['task']"


def test_a_signal_reaches_the_command(tmp_path: Path) -> None:
    """It waits for a Hub that is not there; told to end, it ends as it would elsewhere, and that is sent home."""
    away = {"HF_ENDPOINT": "http://127.0.0.1:9", "ANTIDOTE_HUB_PATIENCE": "60", "HOME": str(tmp_path)}
    packed = job_spec.pack_policy(override_section(Policy(), "evaluation", prompts="embedded", judge="refusal"))
    variables = {TOKEN_VARIABLE: TOKEN, input_bundle.VARIABLE: packed, **away}
    lines = []
    with begin("evaluate", "org/model", job_spec.POLICY_OPTION, **variables) as process:
        for line in process.stdout or ():
            lines.append(line)
            if "retrying in" in line:
                process.send_signal(signal.SIGTERM)
    assert process.returncode == 143, "".join(lines)
    assert result_stream.decode_result(lines, TOKEN) == JobResult(143, None, None)


def test_luggage_that_leaves_its_folder_ends_the_job() -> None:
    hostile = input_bundle.pack_bundle([BundleFile("..", "antidote.toml", b"")])
    code, lines = ended("--version", **{input_bundle.VARIABLE: hostile})
    assert code == 3
    assert "cannot be unpacked: '..' is not the name of a file" in lines[0]
    assert not any(line.startswith("antidote-ci ") for line in lines)


def variable(content: str) -> str:
    return b64encode(zlib.compress(content.encode())).decode()


@pytest.mark.parametrize(
    "packed",
    [
        "not base64",
        b64encode(b"hello").decode(),
        variable("{"),
        variable("5"),
        variable("[5]"),
        variable('[["task", "a", 5]]'),
        variable(json.dumps([["task", "a" * 300, ""]])),
        variable("[" * 100_000),
    ],
)
def test_luggage_that_cannot_be_unpacked_does_not_speak_of_the_model(packed: str) -> None:
    code, lines = ended("--version", **{input_bundle.VARIABLE: packed})
    assert code == 3
    assert len(lines) == 1
    assert lines[0].startswith("error: what came along with this Job cannot be unpacked: ")


@pytest.fixture
def with_model(hub: LoopbackHub, trained_pair: Path) -> LoopbackHub:
    hub.add(BASE_NAME, trained_pair / "reference")
    hub.add(MODEL, trained_pair / "merged")
    return hub


def test_a_verdict_from_a_job(
    with_model: LoopbackHub, trained_pair: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """A real model, measured in a Job with three files of this machine: the report is as from here."""
    out = tmp_path / "out"
    given = [each for each in options(trained_pair, out) if not each.startswith(("--realignment", "--method"))]
    process = start("evaluate", MODEL, *given, "--on=hf-jobs", "--json", **environment, **with_model.environment)
    code, said, err = finish(process)
    assert code == 1, err
    found = report(out)
    assert said == records.to_json(found)
    assert found.verdict == "fail"
    assert found.evaluations.before.harmful_score > 0.9
    assert {each.origin for each in found.prompts} == {"evaluation.jsonl", "benign.jsonl", "task.jsonl"}
    assert found.source.revision == with_model.store.commit(MODEL, "main").revision
    asked = override_section(read_policy(out.with_suffix(".toml")), "gate", harmful_score=0.3)
    files = {key: str(trained_pair / f"{key}.jsonl") for key in ("benign", "task")}
    asked = override_section(
        asked, "evaluation", judge="refusal", prompts=str(trained_pair / "evaluation.jsonl"), **files
    )
    assert found.policy_sha256 == asked.sha256()
    for text in (err, said, (out / "report.html").read_text()):
        assert not [token for token in TOKENS.values() if token in text]


@pytest.mark.slow
def test_a_repair_published_from_a_job(
    with_model: LoopbackHub, trained_pair: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    writing = {"HF_WRITE_TOKEN": "hf_adaWritesWithThisToken"}
    with_model.add_account("ada", writing["HF_WRITE_TOKEN"], organisations=["org", "stranger"])
    out = tmp_path / "out"
    given = [*options(trained_pair, out), "--publish=pull-request", "--accept-repair", "--on=hf-jobs"]
    code, _, err = finish(start("run", MODEL, *given, **environment, **writing, **with_model.environment))
    assert code == 0, err
    found = report(out)
    assert found.verdict == "repaired"
    assert found.publish.url == f"{with_model.endpoint}/{MODEL}/discussions/1"
    assert not found.publish.notes
    [published] = with_model.store.repository(MODEL).pull_requests
    card = with_model.store.commit(MODEL, published.ref).files["README.md"]
    there = with_model.store.blobs.path(card.sha256)
    assert there is not None
    assert (out / "README.md").read_bytes() == there.read_bytes()
