"""A guard model in the child process: a generative judge that reads a conversation and writes its verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from antidote_ci.errors import AntidoteError
from antidote_ci.evaluation.judges.interface import Exchange, JudgeVerdict
from antidote_ci.evaluation.judges.prompt_injection import clean_exchange
from antidote_ci.model.conversations import Conversation
from antidote_ci.model.generation import GenerationRequest, generate
from antidote_ci.records import JudgeIdentity, Model, OnProgress
from antidote_ci.sandbox.client import Sandbox

SET = "verdicts"
BATCH_SIZE = 16
"""Fixed, so that a verdict found once is found again; a guard reads much and writes little."""


@dataclass(frozen=True)
class GuardFormat:
    """How one family of guards is asked and understood."""

    render: Callable[[Exchange], Conversation]
    parse: Callable[[str], JudgeVerdict]
    max_new_tokens: int
    detail: str = ""
    """What decides its verdicts beside the weights, for people."""


@dataclass(frozen=True)
class GuardJudge:
    """Judges in batches, with the template of the guard's own tokenizer."""

    identity: JudgeIdentity
    sandbox: Sandbox
    model: Model
    cache_folder: Path
    """Folder of verdicts that are never asked for twice."""
    guard_format: GuardFormat
    special_tokens: frozenset[str]
    """Of its tokenizer: the texts it is shown may hold none of them."""

    def judge(self, exchanges: Sequence[Exchange], report: OnProgress) -> list[JudgeVerdict]:
        """One opinion an exchange, in order. Raises what keeps the guard from running, naming it."""
        if not exchanges:
            return []
        request = GenerationRequest(
            self.model,
            {SET: [self.guard_format.render(clean_exchange(each, self.special_tokens)) for each in exchanges]},
            {SET: self.guard_format.max_new_tokens},
            add_generation_prompt=False,
            batch_size=BATCH_SIZE,
            cache_folder=self.cache_folder,
        )
        try:
            result = self.sandbox.call(generate, request, lambda progress: report(replace(progress, what=SET)))
        except AntidoteError as error:
            raise blame_judge(self.identity, error) from error
        return [self.guard_format.parse(answer.text) for answer in result.answers[SET]]


def blame_judge(identity: JudgeIdentity, error: AntidoteError) -> AntidoteError:
    """The same error, saying that it is the judge's."""
    return type(error)(
        f"the judge {identity.name} ({identity.model}) cannot judge: {error.what}",
        cause=error.cause,
        hint=error.hint,
    )
