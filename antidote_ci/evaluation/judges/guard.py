"""A guard model in the child process: a generative judge that reads a conversation and writes its verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from antidote_ci.errors import AntidoteError
from antidote_ci.evaluation.judges.interface import Exchange, Opinion
from antidote_ci.evaluation.judges.prompt_injection import cleaned
from antidote_ci.model.conversations import Conversation
from antidote_ci.model.generation import GenerationRequest, generate
from antidote_ci.records import JudgeIdentity, Model, OnProgress
from antidote_ci.sandbox.client import Child

SET = "verdicts"
BATCH_SIZE = 16
"""Fixed, so that a verdict found once is found again; a guard reads much and writes little."""


@dataclass(frozen=True)
class Prompting:
    """How one family of guards is asked and understood."""

    render: Callable[[Exchange], Conversation]
    parse: Callable[[str], Opinion]
    max_new_tokens: int
    detail: str = ""
    """What decides its verdicts beside the weights, for people."""


@dataclass(frozen=True)
class GuardJudge:
    """Judges in batches, with the template of the guard's own tokenizer."""

    identity: JudgeIdentity
    child: Child
    model: Model
    store: Path
    """Folder of verdicts that are never asked for twice."""
    prompting: Prompting
    special_tokens: frozenset[str]
    """Of its tokenizer: the texts it is shown may hold none of them."""

    def opinions(self, exchanges: Sequence[Exchange], report: OnProgress) -> list[Opinion]:
        """One opinion an exchange, in order. Raises what keeps the guard from running, naming it."""
        if not exchanges:
            return []
        request = GenerationRequest(
            self.model,
            {SET: [self.prompting.render(cleaned(each, self.special_tokens)) for each in exchanges]},
            {SET: self.prompting.max_new_tokens},
            add_generation_prompt=False,
            batch_size=BATCH_SIZE,
            store=self.store,
        )
        try:
            result = self.child.call(generate, request, lambda progress: report(replace(progress, what=SET)))
        except AntidoteError as error:
            raise of_judge(self.identity, error) from error
        return [self.prompting.parse(answer.text) for answer in result.answers[SET]]


def of_judge(identity: JudgeIdentity, error: AntidoteError) -> AntidoteError:
    """The same error, saying that it is the judge's."""
    return type(error)(
        f"the judge {identity.name} ({identity.model}) cannot judge: {error.what}",
        cause=error.cause,
        hint=error.hint,
    )
