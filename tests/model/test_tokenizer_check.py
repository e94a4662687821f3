"""Tokenizers are checked within limits, before any weight is read."""

import json
import os
import signal
from pathlib import Path

import pytest

from antidote_ci.errors import AntidoteError, ConfigurationError, UnsafeCheckpoint
from antidote_ci.model.tokenizer_check import check_tokenizer
from antidote_ci.records import Model, Progress
from antidote_ci.sandbox.client import Sandbox
from antidote_ci.sandbox.limits import LimitExceeded, WorkFailed, run_limited
from tests.conftest import CopyOf

GIGABYTE = 1 << 30


def check(model: Model) -> list[Progress]:
    reports: list[Progress] = []
    check_tokenizer(model, reports.append)
    return reports


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def require_refused(folder: Path) -> AntidoteError:
    with pytest.raises(AntidoteError) as raised:
        check(Model(folder))
    assert "llama" in raised.value.what
    assert raised.value.hint
    return raised.value


def test_valid_models_and_adapters_pass(tiny_llama: Path, tiny_adapter: Path) -> None:
    assert check(Model(tiny_llama))[-1].done == 1
    assert check(Model(tiny_llama, tiny_adapter))


def test_sandbox_checks_without_reading_weights(tiny_llama: Path, copy_of: CopyOf, sandbox: Sandbox) -> None:
    folder = copy_of(tiny_llama)
    weights = folder / "model.safetensors"
    header = 8 + int.from_bytes(weights.read_bytes()[:8], "little")
    with weights.open("r+b") as file:  # a sparse file of the same size, with zeros for weights
        size = file.seek(0, 2)
        file.truncate(header)
        file.truncate(size)
    (folder / "chat_template.jinja").write_text("{{ 'x' * 10**11 }}")
    with pytest.raises(UnsafeCheckpoint, match="does not end within 3 s"):
        sandbox.call(check_tokenizer, Model(folder), lambda _: None)
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert sandbox.call(check_tokenizer, Model(folder), lambda _: None) is None


def test_tokenizer_that_cannot_be_opened_is_a_configuration_error(tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    edit(folder / "tokenizer.json", pre_tokenizer={"type": "NoSuchThing"})
    error = require_refused(folder)
    assert isinstance(error, ConfigurationError)
    assert "cannot be opened: it raises" in error.what


def test_tokenizer_without_an_end_token_is_a_configuration_error(tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    edit(folder / "tokenizer_config.json", eos_token=None, pad_token=None)
    error = require_refused(folder)
    assert isinstance(error, ConfigurationError)
    assert "neither a padding token nor an end token" in error.what


def test_template_that_writes_tokens_without_an_embedding_is_refused(tiny_llama: Path, copy_of: CopyOf) -> None:
    folder = copy_of(tiny_llama)
    tokens = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    edit(folder / "tokenizer.json", added_tokens=[*tokens, {**tokens[0], "id": 290, "content": "<|picture|>"}])
    assert check(Model(folder))
    (folder / "chat_template.jinja").write_text("<|picture|>{{ messages[0]['content'] }}")
    error = require_refused(folder)
    assert isinstance(error, UnsafeCheckpoint)
    assert "writes token 290, and the model's embeddings have 290 rows" in error.what


def endless() -> int:
    while True:
        pass


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_work_beyond_a_limit_and_killed_work_exceed_the_limit() -> None:
    assert run_limited(lambda: [1, "a"], 5, GIGABYTE) == [1, "a"]
    for work in (endless, lambda: len(bytearray(2 * GIGABYTE)), killed):
        with pytest.raises(LimitExceeded):
            run_limited(work, 1, GIGABYTE)
    with pytest.raises(WorkFailed, match="ZeroDivisionError"):
        run_limited(lambda: 1 // 0, 1, GIGABYTE)
