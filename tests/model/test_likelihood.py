"""Likelihoods against a plain loop, one answer at a time, without padding."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.model.conversations import render_conversations, single_turn
from antidote_ci.model.decoding import TokenPair
from antidote_ci.model.likelihood import ChoiceRequest, choose_answers, encode_choices, log_likelihoods
from antidote_ci.model.loading import PLAIN_TEMPLATE, load_tokenizer
from antidote_ci.records import Model, Progress, PromptRow
from antidote_ci.sandbox.client import Sandbox
from tests import tiny
from tests.builders import ignore
from tests.conftest import CopyOf

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.fixture(scope="module")
def speaker(trained_pair: Path) -> tuple[Any, Any]:
    """A network in float32, where differences are of rounding alone, and its tokenizer."""
    from transformers import AutoModelForCausalLM

    folder = trained_pair / "merged"
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return network, load_tokenizer(Model(folder))


def plain_log_likelihood(network: Any, prompt: Sequence[int], answer: Sequence[int]) -> float:  # noqa: ANN401
    with torch.inference_mode():
        scores = network(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].double().log_softmax(-1)
    return sum(float(scores[len(prompt) + at - 1, token]) for at, token in enumerate(answer))


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=6), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_a_batch_is_as_likely_as_each_answer_alone(
    speaker: tuple[Any, Any], pairs: list[tuple[str, str]], batch_size: int
) -> None:
    network, tokenizer = speaker
    rows: list[TokenPair] = [
        row for (row,) in encode_choices(tokenizer, [(prompt, [answer]) for prompt, answer in pairs])
    ]
    found = log_likelihoods(network, tokenizer, rows, batch_size, ignore)
    assert found == pytest.approx([plain_log_likelihood(network, *row) for row in rows], rel=1e-4, abs=1e-4)


@given(texts, st.lists(texts, min_size=1, max_size=4), st.sampled_from([tiny.TEMPLATE, PLAIN_TEMPLATE]))
@settings(max_examples=25, deadline=None)
def test_every_answer_follows_the_same_tokens(
    speaker: tuple[Any, Any], prompt: str, answers: list[str], template: str
) -> None:
    tokenizer = speaker[1]
    kept, tokenizer.chat_template = tokenizer.chat_template, template
    try:
        (rows,) = encode_choices(tokenizer, [(prompt, answers)])
        (opened,) = render_conversations(tokenizer, [single_turn(prompt)])
    finally:
        tokenizer.chat_template = kept
    assert len({tuple(start) for start, _ in rows}) == 1
    for (start, rest), answer in zip(rows, answers, strict=True):
        assert [*start, *rest] == tokenizer(opened + answer, add_special_tokens=False)["input_ids"]
        # The answer's own tokens may begin inside the template, never after the answer's first character.
        assert opened.startswith(tokenizer.decode(start).rstrip("\ufffd"))


def test_a_merge_over_the_boundary_is_counted_in_every_choice(speaker: tuple[Any, Any]) -> None:
    tokenizer = speaker[1]
    kept, tokenizer.chat_template = tokenizer.chat_template, "{{ messages[0]['content'] }}"
    try:
        # A word that is one token, parted over the boundary.
        word = next(text[1:] for text in tokenizer.get_vocab() if text.startswith("Ġ") and len(text) > 4)
        ((together, apart),) = encode_choices(tokenizer, [(f"? {word[:-1]}", [word[-1], "?"])])
        alone = tokenizer(f"? {word[:-1]}", add_special_tokens=False)["input_ids"]
    finally:
        tokenizer.chat_template = kept
    assert together[0] == apart[0]
    assert len(together[0]) < len(alone)


@pytest.mark.parametrize("adapter", [False, True])
def test_the_likeliest_choice_is_chosen_in_the_child(trained_pair: Path, sandbox: Sandbox, adapter: bool) -> None:
    reference, merged = trained_pair / "reference", trained_pair / "merged"
    model = Model(reference, trained_pair / "adapter") if adapter else Model(merged)
    rows = [
        PromptRow(f"{ask}: the {thing} was {mood}", choices=("bad", "good", "a train", "Sure, here is how"))
        for ask in ("label", "good or bad")
        for thing in ("soup", "lamp", "boat")
        for mood in ("lovely", "awful")
    ]
    chosen = sandbox.call(choose_answers, ChoiceRequest(model, rows, 5), ignore)
    assert [rows[at].choices[choice] for at, choice in enumerate(chosen)] == ["good", "bad"] * 6


def test_choices_that_could_not_lose_are_refused(trained_pair: Path) -> None:
    model = Model(trained_pair / "merged")
    for choices in (("good", "good grief"), ("bad", "good", "good"), ("good", " ")):
        with pytest.raises(ConfigurationError, match="beginning of another"):
            choose_answers(ChoiceRequest(model, [PromptRow("label: the soup was lovely", choices=choices)], 4), ignore)


def test_a_choice_is_made_once(trained_pair: Path, tmp_path: Path, copy_of: CopyOf) -> None:
    reports: list[Progress] = []
    model = Model(copy_of(trained_pair / "merged"))
    rows = [PromptRow("label: the soup was lovely", choices=("bad", "good"))]
    request = ChoiceRequest(model, rows, 4, tmp_path / "store")
    assert choose_answers(request, reports.append) == [1]
    assert reports
    reports.clear()
    assert choose_answers(request, reports.append) == [1]
    assert not reports
    assert choose_answers(dataclasses.replace(request, rows=[*rows, *rows]), reports.append) == [1, 1]
    assert reports
    reports.clear()
    shutil.copy(trained_pair / "reference" / "model.safetensors", model.folder)
    choose_answers(request, reports.append)
    assert reports


def inputs_of(network: Any, tokenizer: Any, rows: Sequence[TokenPair], batch_size: int) -> tuple[list[float], int]:  # noqa: ANN401
    """The likelihoods, and how many inputs went through the network for them."""
    lengths: list[int] = []
    handle = network.register_forward_pre_hook(
        lambda _module, _inputs, named: lengths.append(len(named["input_ids"])), with_kwargs=True
    )
    found = log_likelihoods(network, tokenizer, rows, batch_size, ignore)
    handle.remove()
    return found, sum(lengths)


def test_choices_of_one_token_cost_one_pass(speaker: tuple[Any, Any]) -> None:
    network, tokenizer = speaker
    (rows,) = encode_choices(tokenizer, [("label: the soup was lovely", list("abcdef"))])
    assert inputs_of(network, tokenizer, rows, 4)[1] == 1


tokens = st.lists(st.integers(5, 7), max_size=3).map(tuple)


@given(st.lists(st.tuples(st.lists(st.integers(5, 7), min_size=1, max_size=3).map(tuple), tokens), max_size=8))
@settings(max_examples=50, deadline=None)
def test_what_begins_another_input_has_no_pass_of_its_own(
    speaker: tuple[Any, Any], rows: list[tuple[tuple[int, ...], tuple[int, ...]]]
) -> None:
    """Three tokens, so that prompts and answers begin each other in every way."""
    network, tokenizer = speaker
    given_rows: list[TokenPair] = [(list(prompt), list(answer)) for prompt, answer in rows]
    found, count = inputs_of(network, tokenizer, given_rows, 3)
    whole = {prompt + answer[:-1] for prompt, answer in rows if answer}
    assert count == sum(not any(other != ids and other[: len(ids)] == ids for other in whole) for ids in whole)
    assert found == pytest.approx([plain_log_likelihood(network, *row) for row in rows], rel=1e-4, abs=1e-4)
