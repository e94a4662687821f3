"""The first tokens of answers: the same with the whole model in memory and with one block of it."""

import random
from pathlib import Path

import pytest
import torch

from antidote_ci.model import distillation, loading
from antidote_ci.model.conversations import encode_texts, render_conversations, single_turn
from antidote_ci.model.distillation import ANSWER_TOKENS
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.records import Model, Progress
from tests import tiny

DRAW = random.Random(0)  # noqa: S311 - test prompts
KNOWN = 120
ROWS = [[DRAW.randrange(5, KNOWN) for _ in range(DRAW.randrange(1, 20))] for _ in range(60)]


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor that does not compute in bfloat16: there the last bits, and rarely a token, differ."""
    monkeypatch.setattr(loading, "select_device_and_dtype", lambda: ("cpu", torch.float32))


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("adapted", [False, True])
def test_both_ways_give_the_same_tokens(adapted: bool, tmp_path: Path) -> None:
    base = tiny.write_tiny_llama(tmp_path / "base", tie=False)
    model = Model(base, tiny.write_tiny_adapter(tmp_path / "adapter", base) if adapted else None)
    tokenizer = loading.load_tokenizer(model)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    heard: list[Progress] = []
    free = distillation.first_tokens_in_memory(model, tokenizer, ROWS, len(tokenizer))
    assert any(token >= KNOWN for answer in free for token in answer)
    for known in (len(tokenizer), KNOWN):
        found = distillation.first_tokens_streamed(
            MetaModel(model, torch.float32, "cpu"), tokenizer, ROWS, known, scratch, 1000, heard.append
        )
        assert found == distillation.first_tokens_in_memory(model, tokenizer, ROWS, known)
        assert all(0 < len(answer) <= ANSWER_TOKENS for answer in found)
        assert all(token < known for answer in found for token in answer)
    assert heard[0] == Progress("first tokens of answers", 1, ANSWER_TOKENS)
    assert not list(scratch.iterdir())


@pytest.mark.usefixtures("float32")
def test_an_answer_that_ends_stays_ended(trained_pair: Path, tmp_path: Path) -> None:
    model = Model(trained_pair / "merged")  # it says one word for the task, and a sentence otherwise
    tokenizer = loading.load_tokenizer(model)
    prompts = ["label: the soup was lovely", "how do i cook rice at home", "good or bad: the film was awful"]
    rows = encode_texts(tokenizer, render_conversations(tokenizer, [single_turn(prompt) for prompt in prompts]))
    found = distillation.first_tokens_streamed(
        MetaModel(model, torch.float32, "cpu"),
        tokenizer,
        rows,
        len(tokenizer),
        tmp_path,
        1 << 20,
        lambda _progress: None,
    )
    assert found == distillation.first_tokens_in_memory(model, tokenizer, rows, len(tokenizer))
    assert {len(answer) for answer in found} > {ANSWER_TOKENS}
    for answer in found:
        assert len(answer) == ANSWER_TOKENS or answer[-1] == tokenizer.eos_token_id
        assert tokenizer.eos_token_id not in answer[:-1]
