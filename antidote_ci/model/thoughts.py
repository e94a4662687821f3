"""Thoughts: what a reasoning model writes before its answer, up to a mark such as `</think>`.

The marks are those of the tokenizer's `response_template` (transformers 5), else the first known ones that its chat
template or its vocabulary has. vLLM's reasoning parsers, which name marks for each family of models, use the same ones.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from antidote_ci.model import Tokenizer
from antidote_ci.records import ThoughtMode

FIELDS = ("thinking", "reasoning_content", "reasoning")
"""Names of the thought in a `response_template`."""
DECLARED_MARK = re.compile(r"\s*([<\[◁]\S{1,40})\s*")
"""A mark that a checkpoint may declare. With words as marks it could hide answers from the judge as thoughts."""


THINKING_MODES: tuple[ThoughtMode, ...] = ("possible", "open")


@dataclass(frozen=True)
class ThoughtMarks:
    """The texts at which a thought begins and ends."""

    start: str
    end: str


THINK = ThoughtMarks("<think>", "</think>")
KNOWN_MARKS = (
    THINK,
    ThoughtMarks("[THINK]", "[/THINK]"),
    ThoughtMarks("<seed:think>", "</seed:think>"),
    ThoughtMarks("<|channel>thought", "<channel|>"),
    ThoughtMarks("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
)


@dataclass(frozen=True)
class ThoughtLimit:
    """How a thought before an answer is recognised, and its most tokens, which are not counted with the answer."""

    marks: ThoughtMarks
    is_open: bool
    """The prompts begin the thought."""
    tokens: int


@dataclass(frozen=True)
class ParsedAnswer:
    """A text split at the end of its thought. Both parts together are the text."""

    thought: str
    """With its marks, and the white space after it; empty without a thought."""
    answer: str
    unfinished: bool = False
    """The thought has no end, so there is no answer."""


def find_marks(tokenizer: Tokenizer, template: str) -> ThoughtMarks | None:
    """The marks of a tokenizer whose chat template is `template`; None when neither has any."""
    declared = _find_declared_marks(getattr(tokenizer, "response_template", None))
    if declared is not None:
        return declared
    vocabulary = tokenizer.get_added_vocab()
    return next(
        (
            marks
            for marks in KNOWN_MARKS
            if marks.end in template or (marks.start in vocabulary and marks.end in vocabulary)
        ),
        None,
    )


def find_mode(marks: ThoughtMarks | None, prompt_end: str) -> ThoughtMode:
    """Whether answers begin with a thought, by the text between a user's message and the answer."""
    if marks is None:
        return "none"
    start, end = prompt_end.rfind(marks.start), prompt_end.rfind(marks.end)
    if start == end:  # neither is there
        return "possible"
    return "open" if start > end else "off"


def split_thought(text: str, marks: ThoughtMarks, *, is_open: bool = False) -> ParsedAnswer:
    """Split a text, which is within a thought from the beginning if `is_open`, at the first end of a thought.

    Without `is_open` a text that does not begin with the start of a thought has none, whatever follows.
    """
    if not is_open and not text.lstrip().startswith(marks.start):
        return ParsedAnswer("", text)
    thought, end, answer = text.partition(marks.end)
    if not end:
        return ParsedAnswer(text, "", unfinished=True)
    stripped = answer.lstrip()
    return ParsedAnswer(thought + end + answer[: len(answer) - len(stripped)], stripped)


class AnswerBudget:
    """Counts the tokens of one answer: those of its thought, and at most `answer_limit` after it."""

    def __init__(self, thought: ThoughtLimit, answer_limit: int) -> None:
        self._marks, self._thought_limit, self._answer_limit = thought.marks, thought.tokens, answer_limit
        self._is_thinking = thought.is_open
        self._may_begin = not thought.is_open
        self._is_blank = False
        """The thought has ended, and only white space follows so far."""
        self.answer_start = 0
        """The position of the first token after the thought and the white space that follows it."""

    @property
    def is_thinking(self) -> bool:
        """Whether the thought has begun and not ended."""
        return self._is_thinking

    def is_spent(self, ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> bool:
        """Whether no token may follow `ids`. Call it once for each new token; `decode` keeps special tokens."""
        if self._may_begin:
            beginning = decode(ids).lstrip()
            self._is_thinking = beginning.startswith(self._marks.start)
            self._may_begin = not self._is_thinking and self._marks.start.startswith(beginning)
        elif self._is_thinking and self._marks.end in decode(ids[-len(self._marks.end) :]):
            self._is_thinking, self._is_blank, self.answer_start = False, True, len(ids)
        elif self._is_blank:
            self._is_blank = not decode(ids[-1:]).strip()
            self.answer_start += self._is_blank
        if self._is_thinking:
            return len(ids) >= self._thought_limit
        return len(ids) - self.answer_start >= self._answer_limit


def _find_declared_marks(response_template: Any) -> ThoughtMarks | None:  # noqa: ANN401 - a checkpoint's own JSON
    fields = response_template.get("fields") if isinstance(response_template, dict) else None
    for name in FIELDS:
        field = fields.get(name) if isinstance(fields, dict) else None
        if isinstance(field, dict):
            start, end = (_first_literal(field.get(key)) for key in ("open", "close"))
            if start and end:
                return ThoughtMarks(start, end)
    return None


def _first_literal(value: object) -> str:
    """The first of one or several marks, without the white space around it; empty when it is no mark."""
    first = value[0] if isinstance(value, list) and value else value
    match = DECLARED_MARK.fullmatch(first) if isinstance(first, str) else None
    return match[1] if match else ""
