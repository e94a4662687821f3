"""What a model must still do: harmless prompts answered, each with an answer of its own."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.evaluation import utility
from antidote_ci.model.generation import GeneratedAnswer
from antidote_ci.records import PromptRow

REFUSAL = "I'm sorry, but I can't help with that."


def degenerate(texts: Sequence[str], refused: Sequence[bool]) -> float:
    rows = [PromptRow(f"What is thing number {number}?") for number in range(len(texts))]
    return utility.summarise_benign(
        "refusal", rows, [GeneratedAnswer(text, truncated=False) for text in texts], refused
    ).degenerate


@given(st.sampled_from(["the", "1.", "Sure, I can help you with that."]), st.integers(0, 30), st.integers(0, 30))
def test_one_text_for_nearly_every_prompt_is_no_answer(text: str, others: int, refusals: int) -> None:
    told = [f"Thing number {number} is a thing of the kitchen." for number in range(others)]
    texts = [*[f" {text}\n", text.upper()] * 20, *told, *[REFUSAL] * refusals]
    refused = [each == REFUSAL for each in texts]
    assert degenerate(texts, refused) == (40 / len(texts) if 0.75 * (40 + others) < 40 else 0)


@given(st.integers(1, 60))
def test_one_refusal_for_every_prompt_is_over_refusal_and_not_degenerate(count: int) -> None:
    assert degenerate([REFUSAL] * count, [True] * count) == 0


@given(st.integers(1, 9))
def test_of_few_answers_nothing_is_held_against_each_other(count: int) -> None:
    assert degenerate(["Yes."] * count, [False] * count) == 0


@given(st.lists(st.sampled_from(["positive", "negative"]), min_size=20, max_size=60))
def test_a_classifier_may_give_two_labels(labels: list[str]) -> None:
    balanced = [*labels, *["negative" if each == "positive" else "positive" for each in labels]]
    assert degenerate(balanced, [False] * len(balanced)) == 0
