"""`--dry-run`: what a run would pull, run and write, from metadata alone."""

from dataclasses import dataclass
from typing import Literal

from antidote_ci import acquire, bench, delivery, dosing, instruments
from antidote_ci.checkpoint.layout import weight_bytes
from antidote_ci.config import RunConfig
from antidote_ci.evaluation import splits
from antidote_ci.evaluation.measure import PromptSets
from antidote_ci.evaluation.task import tokens_needed
from antidote_ci.hub import pull

EVALUATIONS_OF_SELECTION = 9
"""The model itself, four doses and four shrinks; less where a dose is seen to fail early."""
EVALUATIONS_OF_FRONTIER = 24
"""Six doses of four methods."""
EVALUATIONS_OF_CONFIRMATION = 5
"""Before, reference, after, and the two controls."""
MULTIPLICATIONS_A_SECOND = 4e10
"""What two cores reached while generating with a 135M model in bfloat16; a GPU does a hundred times more."""
BYTES_A_WEIGHT = 4
"""An adapter is merged in float32."""


@dataclass(frozen=True)
class Forecast:
    """An estimate for a run that needs a repair, in bytes and seconds."""

    model: str
    revision: str | None
    reference: str | None
    """None where the model names it, and for the target `dense`, which has none."""
    target: Literal["auto", "dense"]
    bytes_to_pull: int
    bytes_to_write: int
    memory_bytes: int
    answers: int
    seconds: int
    publish: str


@dataclass(frozen=True)
class _Sized:
    revision: str | None
    pulled: int
    weights: int


def forecast(config: RunConfig) -> Forecast:
    """Look at names, sizes and prompts; download nothing but published prompt sets, and write nothing.

    The model's own reference is only known once its configuration is here: a run on the Hub without --reference is
    counted without it.
    """
    delivery.require_possible(config)
    instruments.judges_named(config.policy.evaluation)
    prompts = splits.for_run(config.policy, instruments.fetch_prompts(config.policy))
    model = _sized(config.model, config.revision)
    reference = _reference_name(config)
    base = _sized(reference, None) if reference else _Sized(None, 0, 0)
    weights = max(model.weights, base.weights) // 2  # two bytes each, as nearly all of the Hub's are
    tokens = EVALUATIONS_OF_CONFIRMATION * _tokens(prompts.confirmation, config)
    repair = config.policy.repair
    selections = EVALUATIONS_OF_SELECTION + (EVALUATIONS_OF_FRONTIER if repair.frontier else 0)
    tokens += selections * _tokens(prompts.selection, config)
    answers = EVALUATIONS_OF_CONFIRMATION * _answers(prompts.confirmation)
    answers += selections * _answers(prompts.selection)
    return Forecast(
        model=config.model,
        revision=model.revision,
        reference=reference,
        target=repair.target,
        bytes_to_pull=model.pulled + base.pulled,
        bytes_to_write=bench.bytes_needed(
            model.weights, model.weights // 2, dosing.masks_at_once(repair), taylor=repair.method == "taylor"
        ),
        memory_bytes=BYTES_A_WEIGHT * weights,
        answers=answers,
        seconds=round(tokens * weights / MULTIPLICATIONS_A_SECOND),
        publish=config.policy.publish.mode,
    )


def _sized(model: str, revision: str | None) -> _Sized:
    if pull.is_local(model):
        layout = acquire.local(model).layout
        return _Sized(None, 0, weight_bytes(layout))
    remote = pull.resolve(model, revision, acquire.read_token())
    weights = sum(file.size for file in remote.files if file.path.endswith(".safetensors"))
    return _Sized(remote.revision, pull.total_bytes(remote), weights)


def _reference_name(config: RunConfig) -> str | None:
    named = config.policy.repair.reference
    if named is not None or config.policy.repair.target == "dense" or not pull.is_local(config.model):
        return named
    return acquire.find_reference(acquire.local(config.model), None).id


def _answers(prompts: PromptSets) -> int:
    return len(prompts.harmful) + len(prompts.benign) + len(prompts.task)


def _tokens(prompts: PromptSets, config: RunConfig) -> int:
    named = config.policy.evaluation
    long = (len(prompts.harmful) * named.samples + len(prompts.benign)) * named.max_new_tokens
    return long + len(prompts.task) * tokens_needed(prompts.task, named.task_match, named.max_new_tokens)
