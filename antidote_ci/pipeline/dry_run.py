"""`--dry-run`: what a run would pull, run and write, from metadata alone."""

from dataclasses import dataclass

from antidote_ci.checkpoint.layout import count_weight_bytes
from antidote_ci.cost_model import BYTES_PER_WEIGHT, generation_seconds
from antidote_ci.evaluation import splits
from antidote_ci.evaluation.measure import PromptSets
from antidote_ci.evaluation.task import needed_tokens
from antidote_ci.hub import memory_needs, pull
from antidote_ci.hub.remote import count_remote_bytes, count_remote_weight_bytes
from antidote_ci.model import memory
from antidote_ci.paths import free_space
from antidote_ci.pipeline import dose_search, evaluator, output, resolve
from antidote_ci.policy import Command, RunConfig, TargetChoice
from antidote_ci.records import PromptSetRecord, ScoreMethod
from antidote_ci.repair.methods import METHODS
from antidote_ci.report.origins import full_name

EVALUATIONS_OF_SELECTION = 9
"""The model itself, four doses and four shrinks; less where a dose is seen to fail early."""
EVALUATIONS_OF_FRONTIER = dose_search.FRONTIER_DOSES * len(METHODS)
EVALUATIONS_OF_CONFIRMATION = 5
"""Before, reference, after, and the two controls."""


@dataclass(frozen=True)
class DryRunForecast:
    """An estimate for a run that needs a repair, in bytes and seconds."""

    model: str
    revision: str | None
    reference: str | None
    """None where the model names it, and for the target `dense`, which has none."""
    target: TargetChoice
    method: ScoreMethod
    judge: str
    prompts: dict[str, int]
    """How many of each set: realignment, calibration, selection, confirmation, benign, task."""
    bytes_to_pull: int
    bytes_to_download: int
    """Of those, what is not in the cache."""
    bytes_to_write: int
    disk_free: int
    """On the disk of the cache."""
    memory_bytes: int
    """At the least, for the larger of the two to run."""
    memory_free: int
    gpu_memory_bytes: int
    """The same on a GPU, in bfloat16."""
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
    """To run by itself."""
    is_adapter: bool = False


@dataclass(frozen=True)
class _Workload:
    """At the most."""

    prompts: list[PromptSetRecord]
    tokens: int
    answers: int


def estimate_run(config: RunConfig, command: Command = "run") -> DryRunForecast:
    """Look at names, sizes and prompts; download nothing but published prompt sets, and write nothing.

    The model's own reference is only known once its configuration is here: a run on the Hub without --reference is
    counted without it.
    """
    output.require_supported(config, command)
    if command == "run":
        output.require_publishable(config)
    evaluator.select_judges(config.policy.evaluation)
    work = _estimate_workload(config, command)
    model = _measure_model(config.model, config.revision)
    reference = _reference_name(config)
    base = _measure_model(reference, None) if reference else _ModelSize()
    weights = max(model.entries, base.entries)
    repair = config.policy.repair
    return DryRunForecast(
        model=config.model,
        revision=model.revision,
        reference=reference,
        target=repair.target,
        method=repair.method,
        judge=config.policy.evaluation.judge,
        prompts=_count_by_role(work.prompts),
        bytes_to_pull=model.pulled + base.pulled,
        bytes_to_download=model.missing + base.missing,
        bytes_to_write=0 if command == "evaluate" else dose_search.search_bytes(repair, model.weights, model.entries),
        disk_free=free_space(pull.client_cache_folder()),
        memory_bytes=max(
            model.memory, memory_needs.cpu_memory(base.entries, merged=True) if model.is_adapter else base.memory
        ),
        memory_free=memory.available_bytes(),
        gpu_memory_bytes=memory_needs.gpu_memory(weights),
        answers=work.answers,
        seconds=round(generation_seconds(work.tokens, weights)),
        publish=config.policy.publish.mode,
    )


def describe_plan(found: DryRunForecast) -> list[str]:
    """What is to be measured with what, line by line."""
    lines = [
        f"model      {full_name(found.model, found.revision)}",
        f"reference  {found.reference or ('none' if found.target == 'dense' else 'named by the model itself')}",
        f"judge      {found.judge}",
        f"prompts    {', '.join(f'{n:,} {role}' for role, n in found.prompts.items() if n)}",
        f"method     {found.method}",
    ]
    if not found.prompts.get("task"):
        lines.insert(4, "           no task is named: nothing limits what a repair may cost the model's own")
    return lines


def describe_forecast(found: DryRunForecast) -> list[str]:
    """All of it, for people."""
    minutes = round(found.seconds / 60)
    return [
        *describe_plan(found),
        f"pull       {format_bytes(found.bytes_to_pull)}, {format_bytes(found.bytes_to_download)} of it not here yet; "
        f"{format_bytes(found.disk_free)} free",
        f"write      up to {format_bytes(found.bytes_to_write)}",
        f"memory     at least {format_bytes(found.memory_bytes)}; {format_bytes(found.memory_free)} free",
        f"answers    about {found.answers:,}, if the model needs a repair",
        f"time       {f'about {minutes:,} min' if minutes else 'less than a minute'} on two cores, less on a GPU",
        f"publish    {found.publish}",
    ]


def format_bytes(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e6:,.0f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} kB"


def _estimate_workload(config: RunConfig, command: Command) -> _Workload:
    sets = evaluator.fetch_prompts(config.policy)
    if command == "evaluate":
        prompts, files = splits.load_evaluation_prompts(config.policy, sets)
        return _Workload(files, _count_tokens(prompts, config), _count_answers(prompts, config))
    found = splits.load_run_prompts(config.policy, sets)
    selections = EVALUATIONS_OF_SELECTION + (EVALUATIONS_OF_FRONTIER if config.policy.repair.frontier else 0)
    times = ((EVALUATIONS_OF_CONFIRMATION, found.confirmation), (selections, found.selection))
    return _Workload(
        found.files,
        sum(each * _count_tokens(prompts, config) for each, prompts in times),
        sum(each * _count_answers(prompts, config) for each, prompts in times),
    )


def _count_by_role(files: list[PromptSetRecord]) -> dict[str, int]:
    roles = dict.fromkeys(each.role for each in files)
    return {role: sum(each.n for each in files if each.role == role) for role in roles}


def _measure_model(model: str, revision: str | None) -> _ModelSize:
    if pull.is_local(model):
        layout = resolve.open_local(model).layout
        return _ModelSize(
            weights=count_weight_bytes(layout),
            entries=layout.entries,
            memory=memory_needs.cpu_memory(layout.entries),
            is_adapter=layout.kind == "adapter",
        )
    remote = pull.resolve_revision(model, revision, resolve.pull_access())
    weights = count_remote_weight_bytes(remote)
    counted = remote.info.parameters if remote.info else None
    return _ModelSize(
        revision=remote.revision,
        pulled=count_remote_bytes(remote),
        missing=pull.count_missing_bytes(remote),
        weights=weights,
        entries=counted or weights // BYTES_PER_WEIGHT,
        memory=memory_needs.remote_memory(remote),
        is_adapter=any(file.path == "adapter_config.json" for file in remote.files),
    )


def _reference_name(config: RunConfig) -> str | None:
    named = config.policy.repair.reference
    if named is not None or config.policy.repair.target == "dense" or not pull.is_local(config.model):
        return named
    return resolve.find_reference(resolve.open_local(config.model), None).id


def _count_answers(prompts: PromptSets, config: RunConfig) -> int:
    return len(prompts.harmful) * config.policy.evaluation.samples + len(prompts.benign) + len(prompts.task)


def _count_tokens(prompts: PromptSets, config: RunConfig) -> int:
    named = config.policy.evaluation
    long = (len(prompts.harmful) * named.samples + len(prompts.benign)) * named.max_new_tokens
    return long + len(prompts.task) * needed_tokens(prompts.task, named.task_match, named.max_new_tokens)
