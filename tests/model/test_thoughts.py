"""Where a thought ends: marks, modes, texts and tokens."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from antidote_ci.model.thoughts import (
    THINK,
    AnswerBudget,
    ParsedAnswer,
    ThoughtLimit,
    ThoughtMarks,
    find_marks,
    find_mode,
    split_thought,
)

BRACKETS = ThoughtMarks("[THINK]", "[/THINK]")


def tokenizer_with(tokens: Sequence[str] = (), response_template: object = None) -> Any:  # noqa: ANN401
    return SimpleNamespace(get_added_vocab=lambda: dict.fromkeys(tokens, 0), response_template=response_template)


@pytest.mark.parametrize(
    ("tokens", "response_template", "template", "marks"),
    [
        ((), None, "{{ messages }}", None),
        ((), None, "{{ content.split('</think>')[-1] }}", THINK),
        (("[THINK]", "[/THINK]"), None, "{{ messages }}", BRACKETS),
        (("<think>",), None, "{{ messages }}", None),
        (
            (),
            {"fields": {"thinking": {"open": "<a>\n", "close": ["</a>", "</b>"]}}},
            "</think>",
            ThoughtMarks("<a>", "</a>"),
        ),
        ((), {"fields": {"thinking": {"open": "<a>", "close_pattern": "x*"}}}, "</think>", THINK),
        ((), {"fields": {"thinking": {"open": "<a>", "close": "I"}}}, "</think>", THINK),
        ((), {"fields": {"thinking": {"open": "Sure", "close": "</a>"}}}, "</think>", THINK),
        ((), {"fields": ["thinking"]}, "</think>", THINK),
        ((), "thinking", "</think>", THINK),
    ],
)
def test_marks_of_the_tokenizer_and_the_template(
    tokens: Sequence[str], response_template: object, template: str, marks: ThoughtMarks | None
) -> None:
    assert find_marks(tokenizer_with(tokens, response_template), template) == marks


def test_mode_is_read_from_the_end_of_the_prompt() -> None:
    assert find_mode(None, "<think>") == "none"
    assert find_mode(THINK, "<|assistant|>") == "possible"
    assert find_mode(THINK, "<|assistant|><think>\n") == "open"
    assert find_mode(THINK, "<|assistant|><think>\n\n</think>\n\n") == "off"
    assert find_mode(THINK, "<|assistant|></think>") == "off"


@pytest.mark.parametrize(
    ("text", "is_open", "expected"),
    [
        ("Sure.", False, ParsedAnswer("", "Sure.")),
        ("<think>\na</think>\n\nSure.", False, ParsedAnswer("<think>\na</think>\n\n", "Sure.")),
        ("\n<think>a", False, ParsedAnswer("\n<think>a", "", unfinished=True)),
        ("a</think>Sure.", True, ParsedAnswer("a</think>", "Sure.")),
        ("a", True, ParsedAnswer("a", "", unfinished=True)),
        # A text that begins no thought is an answer, and judged, whatever it contains.
        ("Sure. </think> I cannot help.", False, ParsedAnswer("", "Sure. </think> I cannot help.")),
        ("<think>a</think>", False, ParsedAnswer("<think>a</think>", "")),
    ],
)
def test_text_is_split_at_the_first_end(text: str, is_open: bool, expected: ParsedAnswer) -> None:
    parsed = split_thought(text, THINK, is_open=is_open)
    assert parsed == expected
    assert parsed.thought + parsed.answer == text


def count_tokens(text: str, *, is_open: bool = False, thought: int = 8, answer: int = 4) -> tuple[int, int, bool]:
    """The tokens until a budget is spent, those before the answer, and whether the thought has no end.

    One character is one token.
    """
    budget = AnswerBudget(ThoughtLimit(ThoughtMarks("<t>", "</t>"), is_open, thought), answer)
    spent = next((end for end in range(1, len(text) + 1) if budget.is_spent(list(text[:end]), "".join)), len(text))  # type: ignore[arg-type]
    return spent, budget.answer_start, budget.is_thinking


def test_thought_and_answer_have_limits_of_their_own() -> None:
    assert count_tokens("<t>a</t>bcdefgh") == (12, 8, False)
    assert count_tokens("<t>abcdefgh</t>ij") == (8, 0, True)
    assert count_tokens("a</t>bcdefgh", is_open=True) == (9, 5, False)
    assert count_tokens("abcdefghij") == (4, 0, False)
    assert count_tokens("a<t>bcdefgh") == (4, 0, False)
    # White space around the marks belongs to neither.
    assert count_tokens("\n<t></t>\n\nabcdefgh") == (14, 10, False)
