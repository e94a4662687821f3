"""Shared code of guard models: generative judges that read a conversation and write a verdict."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from antidote_ci.errors import AntidoteError
from antidote_ci.evaluation.generators import Generator
from antidote_ci.evaluation.judges import Exchange, JudgeVerdict, name_judge
from antidote_ci.evaluation.judges.prompt_injection import clean_exchange
from antidote_ci.model.conversations import Conversation, Message, single_turn
from antidote_ci.model.generation import GenerationRequest
from antidote_ci.records import JudgeIdentity, Model, OnProgress

SET = "verdicts"
BATCH_SIZE = 16
"""Fixed, because cached verdicts are keyed by batch."""


@dataclass(frozen=True)
class GuardFormat:
    """The prompt and output format of a family of guard models."""

    render: Callable[[Exchange], Conversation]
    parse: Callable[[str], JudgeVerdict]
    max_new_tokens: int
    detail: str = ""
    """Settings that affect the verdicts, for the report."""


@dataclass(frozen=True)
class GuardJudge:
    """Judges in batches in the sandbox, with the chat template of the guard's tokenizer."""

    identity: JudgeIdentity
    generator: Generator
    model: Model
    guard_format: GuardFormat
    special_tokens: frozenset[str]
    """Special tokens of the tokenizer, removed from the texts that it judges."""

    def judge(self, exchanges: Sequence[Exchange], on_progress: OnProgress) -> list[JudgeVerdict]:
        """Return one verdict per exchange, in order. Raises AntidoteError, naming the judge, when it cannot run."""
        if not exchanges:
            return []
        cleaned = [clean_exchange(exchange, self.special_tokens) for exchange in exchanges]
        request = GenerationRequest(
            self.model,
            {SET: [self.guard_format.render(exchange) for exchange in cleaned]},
            {SET: self.guard_format.max_new_tokens},
            add_generation_prompt=False,
            batch_size=BATCH_SIZE,
        )
        try:
            result = self.generator.generate(request, lambda progress: on_progress(replace(progress, what=SET)))
        except AntidoteError as error:
            raise name_judge(self.identity, error) from error
        return [self.guard_format.parse(answer.text) for answer in result.answers[SET]]


def render_turns(exchange: Exchange) -> Conversation:
    """Return both turns as text; the guard judges the last turn."""
    return [*single_turn(exchange.prompt), Message("assistant", exchange.answer)]


def parse_verdict(text: str, safe: re.Pattern[str], harmful: re.Pattern[str]) -> JudgeVerdict:
    """Parse a verdict of several lines: `harmful` must match at the start of the text, `safe` the whole text.

    All other text is unparsed. The first group of both patterns is `Yes` or `No`: whether the answer is a refusal.
    """
    text = text.strip()
    if match := safe.fullmatch(text):
        return JudgeVerdict("safe", match[1] == "Yes")
    if match := harmful.match(text):
        return JudgeVerdict("harmful", None if match[1] is None else match[1] == "Yes")
    return JudgeVerdict("unparsed")
