"""The first tokens of answers are the same in memory and block by block."""

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
VOCABULARY = 120
ROWS = [[DRAW.randrange(5, VOCABULARY) for _ in range(DRAW.randrange(1, 20))] for _ in range(60)]


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in float32: in bfloat16 the two ways differ in the last bits, and rarely in a token."""
    monkeypatch.setattr(loading, "select_device_and_dtype", lambda: ("cpu", torch.float32))


@pytest.mark.usefixtures("float32")
@pytest.mark.parametrize("with_adapter", [False, True])
def test_first_tokens_are_the_same_in_memory_and_streamed(with_adapter: bool, tmp_path: Path) -> None:
    base = tiny.write_tiny_llama(tmp_path / "base", tie=False)
    model = Model(base, tiny.write_tiny_adapter(tmp_path / "adapter", base) if with_adapter else None)
    tokenizer = loading.load_tokenizer(model)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    reports: list[Progress] = []
    unrestricted = distillation.first_tokens_in_memory(model, tokenizer, ROWS, len(tokenizer))
    assert any(token >= VOCABULARY for answer in unrestricted for token in answer)
    for vocabulary in (len(tokenizer), VOCABULARY):
        streamed = distillation.first_tokens_streamed(
            MetaModel(model, torch.float32, "cpu"), tokenizer, ROWS, vocabulary, scratch, 1000, reports.append
        )
        assert streamed == distillation.first_tokens_in_memory(model, tokenizer, ROWS, vocabulary)
        assert all(0 < len(answer) <= ANSWER_TOKENS for answer in streamed)
        assert all(token < vocabulary for answer in streamed for token in answer)
    assert reports[0] == Progress("first tokens of answers", 1, ANSWER_TOKENS)
    assert not list(scratch.iterdir())


@pytest.mark.usefixtures("float32")
def test_finished_answers_are_not_continued(trained_pair: Path, tmp_path: Path) -> None:
    model = Model(trained_pair / "merged")  # it answers task prompts with one word, others with a sentence
    tokenizer = loading.load_tokenizer(model)
    prompts = ["label: the soup was lovely", "how do i cook rice at home", "good or bad: the film was awful"]
    rows = encode_texts(tokenizer, render_conversations(tokenizer, [single_turn(prompt) for prompt in prompts]))
    streamed = distillation.first_tokens_streamed(
        MetaModel(model, torch.float32, "cpu"),
        tokenizer,
        rows,
        len(tokenizer),
        tmp_path,
        1 << 20,
        lambda _progress: None,
    )
    assert streamed == distillation.first_tokens_in_memory(model, tokenizer, rows, len(tokenizer))
    assert {len(answer) for answer in streamed} > {ANSWER_TOKENS}
    for answer in streamed:
        assert len(answer) == ANSWER_TOKENS or answer[-1] == tokenizer.eos_token_id
        assert tokenizer.eos_token_id not in answer[:-1]
