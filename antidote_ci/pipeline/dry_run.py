"""`--dry-run`: estimate downloads, disk, memory and time of a run from metadata."""

from dataclasses import dataclass

from antidote_ci.checkpoint.layout import count_weight_bytes
from antidote_ci.cost_model import BYTES_PER_WEIGHT, generation_seconds
from antidote_ci.evaluation import splits
from antidote_ci.evaluation.measure import PromptSets
from antidote_ci.evaluation.utility import needed_tokens
from antidote_ci.hub import memory_needs, pull
from antidote_ci.hub.remote import count_remote_bytes, count_remote_weight_bytes
from antidote_ci.model import memory
from antidote_ci.paths import free_space, is_path
from antidote_ci.pipeline import dose_search, evaluator, preflight, resolve
from antidote_ci.policy import Command, RunConfig
from antidote_ci.records import PromptSetRecord, ScoreMethod
from antidote_ci.repair.methods import METHODS
from antidote_ci.report.origins import full_name

EVALUATIONS_OF_SELECTION = 9
"""At most: the model, four doses of the method and four doses of `scale`."""
EVALUATIONS_OF_FRONTIER = dose_search.FRONTIER_DOSES * len(METHODS)
EVALUATIONS_OF_CONFIRMATION = 5
"""Before, reference, after, and the two controls."""


@dataclass(frozen=True)
class DryRunForecast:
    """An estimate for a run that needs a repair, in bytes and seconds."""

    model: str
    revision: str | None
    reference: str | None
    """None when the model names it."""
    method: ScoreMethod | None
    """None for an evaluation, which repairs nothing."""
    judge: str
    prompts: dict[str, int]
    """Number of prompts by role: realignment, calibration, selection, confirmation, benign, task."""
    bytes_to_pull: int
    bytes_to_download: int
    """The part of `bytes_to_pull` that is not in the cache."""
    bytes_to_write: int
    disk_free: int
    """Free bytes on the disk of the cache."""
    memory_bytes: int
    """Minimum memory to run the larger of model and reference."""
    memory_free: int
    gpu_memory_bytes: int
    """Minimum GPU memory, in bfloat16."""
    answers: int
    seconds: int
    publish: str


@dataclass(frozen=True)
class _ModelSize:
    revision: str | None = None
    pulled: int = 0
    missing: int = 0
    weights: int = 0
    entries: int = 0
    memory: int = 0
    """Bytes to run the model."""


def estimate_run(config: RunConfig, command: Command = "run", *, here: bool = True) -> DryRunForecast:
    """Estimate a run on this machine, or as a Job. Only published prompt sets are downloaded, and nothing is written.

    The reference that a Hub model names is in files that are not downloaded. Without --reference it is not counted.
    """
    preflight.check_configuration(config, command, here=here)
    files, tokens, answers = _estimate_workload(config, command)
    model = _measure_model(config.model, config.revision)
    reference = _reference_name(config, command)
    base = _measure_model(*resolve.parse_model_name(reference)) if reference else _ModelSize()
    weights = max(model.entries, base.entries)
    repair = config.policy.repair
    return DryRunForecast(
        model=config.model,
        revision=model.revision,
        reference=reference,
        method=repair.method if command == "run" else None,
        judge=config.policy.evaluation.judge,
        prompts=_count_by_role(files),
        bytes_to_pull=model.pulled + base.pulled,
        bytes_to_download=model.missing + base.missing,
        bytes_to_write=0
        if command == "evaluate"
        else dose_search.search_bytes(config.policy, model.weights, model.entries),
        disk_free=free_space(pull.client_cache_folder()),
        memory_bytes=max(model.memory, base.memory),
        memory_free=memory.available_bytes(),
        gpu_memory_bytes=memory_needs.gpu_memory(weights),
        answers=answers,
        seconds=round(generation_seconds(tokens, weights)),
        publish=config.policy.publish.mode,
    )


def describe_plan(forecast: DryRunForecast) -> list[str]:
    """Model, reference, judge, prompts and method as lines of text."""
    lines = [
        f"model      {full_name(forecast.model, forecast.revision)}",
        f"reference  {forecast.reference or 'named by the model'}",
        f"judge      {forecast.judge}",
        f"prompts    {', '.join(f'{n:,} {role}' for role, n in forecast.prompts.items() if n)}",
        *([f"method     {forecast.method}"] if forecast.method else []),
    ]
    if forecast.method and not forecast.prompts.get("task"):
        lines.insert(4, "           no --task: the utility drop of the model's own task is not limited")
    return lines


def describe_forecast(forecast: DryRunForecast) -> list[str]:
    """The whole forecast as lines of text."""
    minutes = round(forecast.seconds / 60)
    return [
        *describe_plan(forecast),
        f"pull       {format_bytes(forecast.bytes_to_pull)}, of which {format_bytes(forecast.bytes_to_download)} "
        f"are not cached; {format_bytes(forecast.disk_free)} free",
        *([f"write      up to {format_bytes(forecast.bytes_to_write)}"] if forecast.method else []),
        f"memory     at least {format_bytes(forecast.memory_bytes)}; {format_bytes(forecast.memory_free)} free",
        f"answers    about {forecast.answers:,}{', if the model needs a repair' if forecast.method else ''}",
        f"time       {f'about {minutes:,} min' if minutes else 'less than a minute'} on two cores, less on a GPU",
        *([f"publish    {forecast.publish}"] if forecast.method else []),
    ]


def format_bytes(count: int) -> str:
    """Bytes as text, such as `12 MB`."""
    return f"{count / 1e6:,.0f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} kB"


def _estimate_workload(config: RunConfig, command: Command) -> tuple[list[PromptSetRecord], int, int]:
    """The prompt sets, and upper limits of the number of tokens and answers."""
    sets = evaluator.fetch_prompts(config.policy)
    if command == "evaluate":
        prompts, files = splits.load_evaluation_prompts(config.policy, sets)
        return files, _count_tokens(prompts, config), _count_answers(prompts, config)
    run_prompts = splits.load_run_prompts(config.policy, sets)
    selections = EVALUATIONS_OF_SELECTION + (EVALUATIONS_OF_FRONTIER if config.policy.repair.frontier else 0)
    evaluations = ((EVALUATIONS_OF_CONFIRMATION, run_prompts.confirmation), (selections, run_prompts.selection))
    return (
        run_prompts.files,
        sum(count * _count_tokens(prompts, config) for count, prompts in evaluations),
        sum(count * _count_answers(prompts, config) for count, prompts in evaluations),
    )


def _count_by_role(files: list[PromptSetRecord]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for file in files:
        counts[file.role] = counts.get(file.role, 0) + file.n
    return counts


def _measure_model(model: str, revision: str | None) -> _ModelSize:
    if is_path(model):
        layout = resolve.open_local(model).layout
        return _ModelSize(
            weights=count_weight_bytes(layout),
            entries=layout.entries,
            memory=memory_needs.cpu_memory(layout.entries),
        )
    remote = pull.resolve_revision(model, revision, resolve.pull_access())
    weights = count_remote_weight_bytes(remote)
    parameters = remote.info.parameters if remote.info else None
    return _ModelSize(
        revision=remote.revision,
        pulled=count_remote_bytes(remote),
        missing=pull.count_missing_bytes(remote),
        weights=weights,
        entries=parameters or weights // BYTES_PER_WEIGHT,
        memory=memory_needs.cpu_memory(memory_needs.remote_weights(remote)),
    )


def _reference_name(config: RunConfig, command: Command) -> str | None:
    reference = config.policy.repair.reference
    if reference is not None or not is_path(config.model):
        return reference
    model = resolve.open_local(config.model)
    # An evaluation needs only the base of an adapter.
    return None if command == "evaluate" and model.source.kind == "full" else resolve.find_reference(model, None).id


def _count_answers(prompts: PromptSets, config: RunConfig) -> int:
    return len(prompts.harmful) * config.policy.evaluation.samples + len(prompts.benign) + len(prompts.task)


def _count_tokens(prompts: PromptSets, config: RunConfig) -> int:
    settings = config.policy.evaluation
    long = (len(prompts.harmful) * settings.samples + len(prompts.benign)) * settings.max_new_tokens
    return long + len(prompts.task) * needed_tokens(prompts.task, settings.task_match, settings.max_new_tokens)
