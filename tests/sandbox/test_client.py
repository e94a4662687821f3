"""The sandbox: the environment of the child, its replies, and how it ends."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from antidote_ci.errors import ConfigurationError, InfrastructureError
from antidote_ci.model.checkpoint_check import check_checkpoint
from antidote_ci.model.conversations import single_turn
from antidote_ci.model.generation import GenerationRequest, generate
from antidote_ci.records import Model, Progress
from antidote_ci.sandbox.client import INHERITED_VARIABLES, Sandbox, sandbox_environment
from tests.builders import ignore
from tests.conftest import CopyOf

SECRETS = {
    "HF_TOKEN": "hf_readToken",
    "HF_WRITE_TOKEN": "hf_writeToken",
    "HUGGING_FACE_HUB_TOKEN": "hf_oldToken",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "secret",
}


@pytest.fixture
def own_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    with Sandbox(tmp_path / "child.log") as running:
        yield running


def request(folder: Path, prompts: int = 3) -> GenerationRequest:
    return GenerationRequest(Model(folder), {"all": [single_turn(f"Tell me {n}") for n in range(prompts)]}, {"all": 8})


def test_environment_of_the_child_holds_no_secret(own_sandbox: Sandbox) -> None:
    entries = Path(f"/proc/{own_sandbox._process.pid}/environ").read_bytes().split(b"\0")
    names = {entry.split(b"=")[0].decode() for entry in entries if entry}
    assert not names & SECRETS.keys()
    assert names <= set(sandbox_environment(dict.fromkeys(INHERITED_VARIABLES, ""), Path()))
    assert not any(value.encode() in entry for entry in entries for value in SECRETS.values())


def test_result_and_progress_are_returned(sandbox: Sandbox, tiny_llama: Path) -> None:
    reports: list[Progress] = []
    result = sandbox.call(generate, request(tiny_llama), reports.append)
    assert len(result.answers["all"]) == 3
    assert result.plan.max_new_tokens == 8
    assert reports[-1] == Progress("answers", 24, 24)


def test_unexpected_exception_names_the_log_and_the_child_goes_on(sandbox: Sandbox, tiny_llama: Path) -> None:
    with pytest.raises(InfrastructureError, match="unexpected") as raised:
        sandbox.call(generate, request(Path("/nowhere/at/all")), ignore)
    assert str(sandbox._log_path) in str(raised.value.hint)
    assert sandbox.call(generate, request(tiny_llama, 1), ignore).answers["all"]


def test_expected_error_keeps_its_class(sandbox: Sandbox, tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    config = folder / "tokenizer_config.json"
    config.write_text(config.read_text().replace("eos_token", "no_token").replace("pad_token", "nor_token"))
    with pytest.raises(ConfigurationError, match="neither a padding token nor an end token"):
        sandbox.call(generate, request(folder), ignore)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can change the owner of a file")
def test_file_that_the_child_cannot_read_is_named(sandbox: Sandbox, tiny_llama: Path, copy_of: CopyOf) -> None:
    """Root can read every file; a child that root starts cannot."""
    weights = copy_of(tiny_llama) / "model.safetensors"
    weights.chmod(0o600)
    os.chown(weights, 65534, 65534)
    with pytest.raises(ConfigurationError, match=rf"may not open {weights}") as raised:
        sandbox.call(check_checkpoint, Model(weights.parent), ignore)
    assert "chmod" in str(raised.value.hint)


def test_killed_child_raises_infrastructure_error(own_sandbox: Sandbox, tiny_llama: Path) -> None:
    # Stopped first, so that it cannot answer before it is killed.
    os.kill(own_sandbox._process.pid, signal.SIGSTOP)
    threading.Timer(0.1, os.kill, (own_sandbox._process.pid, signal.SIGKILL)).start()
    with pytest.raises(InfrastructureError, match=r"died \(killed\)") as raised:
        own_sandbox.call(generate, request(tiny_llama), ignore)
    assert "memory" in str(raised.value.cause)


def test_child_ends_with_the_context(tmp_path: Path) -> None:
    with Sandbox(tmp_path / "child.log") as running:
        pid = running._process.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_child_ends_with_its_parent(tmp_path: Path) -> None:
    with Sandbox(tmp_path / "child.log") as running:
        assert running._process.stdin is not None
        running._process.stdin.close()  # as the kernel does when the parent dies
        assert running._process.wait(20) == 0
