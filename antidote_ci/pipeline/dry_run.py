"""`--dry-run`: estimate downloads, disk, memory and time of a run from metadata."""

from dataclasses import dataclass

from antidote_ci.checkpoint.json_files import parse_object
from antidote_ci.checkpoint.layout import ADAPTER_CONFIG, count_weight_bytes
from antidote_ci.cost_model import (
    ADAPTER_EVALUATION_COPIES,
    ADAPTER_RUN_COPIES,
    BYTES_PER_WEIGHT,
    EVALUATION_COPIES,
    RUN_COPIES,
    Computation,
)
from antidote_ci.evaluation import splits
from antidote_ci.evaluation.judges import catalog
from antidote_ci.evaluation.judges.catalog import JudgeSpec
from antidote_ci.evaluation.measure import PromptSets
from antidote_ci.evaluation.utility import needed_tokens
from antidote_ci.hub import commits, memory_needs, pull
from antidote_ci.hub.remote import RemoteRepository, count_remote_bytes, count_remote_weight_bytes
from antidote_ci.model import memory
from antidote_ci.paths import free_space, is_path
from antidote_ci.pipeline import dose_search, evaluator, model_names, preflight, resolve, scoring_inputs
from antidote_ci.policy import Command, RunConfig
from antidote_ci.records import PromptSetRecord, ScoreMethod, is_hub_id
from antidote_ci.repair import planning
from antidote_ci.repair.methods import METHODS
from antidote_ci.report.origins import full_name

EVALUATIONS_OF_SELECTION = 9
"""At most: the model, four doses of the method and four doses of `scale`."""
EVALUATIONS_OF_FRONTIER = dose_search.FRONTIER_DOSES * len(METHODS)
EVALUATIONS_OF_CONFIRMATION = 5
"""Before, reference, after, and the two controls."""
JUDGE_TOKENS = 60
"""Tokens that a guard reads beside the answer: the prompt. The beginning of its template is computed once."""


@dataclass(frozen=True)
class DryRunForecast:
    """An estimate for a run that needs a repair, in bytes and seconds."""

    model: str
    revision: str | None
    is_adapter: bool
    reference: str | None
    """None when a full model names it or needs none."""
    method: ScoreMethod | None
    """None for an evaluation, which repairs nothing."""
    judge: str
    prompts: dict[str, int]
    """Number of prompts by role: realignment, calibration, selection, confirmation, benign, task."""
    bytes_to_pull: int
    """Of the model, its reference and the judges."""
    bytes_to_download: int
    """The part of `bytes_to_pull` that is not in the cache."""
    bytes_to_write: int
    disk_free: int
    """Free bytes on the disk of the cache."""
    memory_bytes: int
    """Memory to run the models and the judges, and to score the weights."""
    memory_free: int
    gpu_memory_bytes: int
    """Minimum GPU memory, in bfloat16."""
    merge_memory_bytes: int
    """Minimum GPU memory to merge an adapter into its base on the Hub; 0 for another model."""
    answers: int
    computation: Computation
    seconds: int
    """On two cores like those of this machine, without the download and without the answers of a server."""
    publish: str


@dataclass(frozen=True)
class _Workload:
    """Upper limits for all evaluations of a command."""

    files: list[PromptSetRecord]
    answers: int
    tokens: int
    """That the model generates."""
    judged_tokens: int
    """That each judge reads."""
    scored_texts: list[int]
    """Characters of each text that scoring reads; empty for an evaluation."""


@dataclass(frozen=True)
class _ModelSize:
    revision: str | None = None
    pulled: int = 0
    missing: int = 0
    weights: int = 0
    entries: int = 0
    is_adapter: bool = False
    adapter_base: str | None = None
    """The base that an adapter on the Hub names, if it is on the Hub."""
    merge_memory: int = 0
    """Of a model on the Hub as the base of an adapter."""


def estimate_run(config: RunConfig, command: Command = "run", *, here: bool = True) -> DryRunForecast:
    """Estimate a run on this machine, or as a Job. Only published prompt sets are downloaded, and nothing is written.

    The card of a Hub model, which may name its reference, is not downloaded. Without --reference, only the base of an
    adapter is counted.
    """
    specs = preflight.check_configuration(config, command, here=here)
    work = _estimate_workload(config, command)
    model = _measure_model(config.model, config.revision)
    reference = _reference_name(config, command, model)
    base = _measure_model(*model_names.parse_model_name(reference)) if reference else _ModelSize()
    judges = [size for spec in specs if (size := _measure_judge(spec))]
    weights = max(model.entries, base.entries)
    repair = config.policy.repair
    method = repair.method if command == "run" else None
    computation = Computation(
        generated=work.tokens * weights, scored=work.judged_tokens * sum(judge.entries for judge in judges)
    )
    if method:
        computation += planning.estimate_computation(method, weights, work.scored_texts, model.weights)
    if model.is_adapter and base.entries:
        copies = ADAPTER_RUN_COPIES if method else ADAPTER_EVALUATION_COPIES
    else:
        copies = RUN_COPIES if method else EVALUATION_COPIES
    return DryRunForecast(
        model=config.model,
        revision=model.revision,
        is_adapter=model.is_adapter,
        reference=reference,
        method=method,
        judge=config.policy.evaluation.judge,
        prompts=_count_by_role(work.files),
        bytes_to_pull=sum(size.pulled for size in (model, base, *judges)),
        bytes_to_download=sum(size.missing for size in (model, base, *judges)),
        bytes_to_write=0
        if command == "evaluate"
        else dose_search.search_bytes(config.policy, model.weights, model.entries),
        disk_free=free_space(pull.client_cache_folder()),
        memory_bytes=max(
            [
                memory_needs.typical_memory(weights, copies),
                *(memory_needs.typical_memory(judge.entries, EVALUATION_COPIES) for judge in judges),
            ]
        ),
        memory_free=memory.available_bytes(),
        gpu_memory_bytes=memory_needs.gpu_memory(max([weights, *(judge.entries for judge in judges)])),
        merge_memory_bytes=base.merge_memory if model.is_adapter else 0,
        answers=work.answers,
        computation=computation,
        seconds=round(computation.seconds(has_bfloat16=memory_needs.has_bfloat16())),
        publish=config.policy.publish.mode,
    )


def describe_plan(forecast: DryRunForecast) -> list[str]:
    """Model, reference, judge, prompts and method as lines of text."""
    is_server = model_names.is_server_address(forecast.model)
    has_reference = bool(forecast.reference or forecast.method or forecast.is_adapter)
    lines = [
        f"model      {forecast.model if is_server else full_name(forecast.model, forecast.revision)}",
        *([f"reference  {forecast.reference or 'named by the model'}"] if has_reference else []),
        f"judge      {forecast.judge}",
        f"prompts    {', '.join(f'{n:,} {role}' for role, n in forecast.prompts.items() if n)}",
        *([f"method     {forecast.method}"] if forecast.method else []),
    ]
    if forecast.method and not forecast.prompts.get("task"):
        lines.insert(4, "           no --task: the utility drop of the model's own task is not limited")
    return lines


def describe_answers(forecast: DryRunForecast) -> str:
    """The number of answers as a line of text."""
    return f"answers    about {forecast.answers:,}{', if the model needs a repair' if forecast.method else ''}"


def describe_time(forecast: DryRunForecast) -> str:
    """The duration as a line of text."""
    minutes = round(forecast.seconds / 60)
    condition = ", if the model needs a repair" if forecast.method else ""
    if model_names.is_server_address(forecast.model):
        condition = ", and the time of the server"
    return f"time       {f'about {minutes:,} min' if minutes else 'less than a minute'} on two cores{condition}"


def describe_forecast(forecast: DryRunForecast) -> list[str]:
    """The whole forecast as lines of text."""
    return [
        *describe_plan(forecast),
        f"pull       {format_bytes(forecast.bytes_to_pull)}, of which {format_bytes(forecast.bytes_to_download)} "
        f"are not cached; {_describe_free(forecast.disk_free, forecast.bytes_to_download)}",
        *([f"write      up to {format_bytes(forecast.bytes_to_write)}"] if forecast.method else []),
        f"memory     about {format_bytes(forecast.memory_bytes)}; "
        f"{_describe_free(forecast.memory_free, forecast.memory_bytes)}",
        describe_answers(forecast),
        f"{describe_time(forecast)}; less on a GPU",
        *([f"publish    {forecast.publish}"] if forecast.method or forecast.publish != "none" else []),
    ]


def _describe_free(free: int, needed: int) -> str:
    return f"{format_bytes(free)} free" + (", which may not be enough" if free < needed else "")


def format_bytes(count: int) -> str:
    """Bytes as text, such as `12 MB`."""
    return f"{count / 1e6:,.0f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} kB"


def _estimate_workload(config: RunConfig, command: Command) -> _Workload:
    policy = config.policy
    sets = evaluator.fetch_prompts(policy)
    if command == "evaluate":
        prompts, files = splits.load_evaluation_prompts(policy, sets)
        evaluations, scored = [(1, prompts)], list[int]()
    else:
        run_prompts = splits.load_run_prompts(policy, sets)
        files = run_prompts.files
        selections = EVALUATIONS_OF_SELECTION + (EVALUATIONS_OF_FRONTIER if policy.repair.frontier else 0)
        evaluations = [(EVALUATIONS_OF_CONFIRMATION, run_prompts.confirmation), (selections, run_prompts.selection)]
        scored = scoring_inputs.list_text_lengths(policy, policy.repair.method, run_prompts.repair_prompts)
    judged = sum(count * _count_judged(prompts, config) for count, prompts in evaluations)
    return _Workload(
        files,
        answers=judged + sum(count * len(prompts.task) for count, prompts in evaluations),
        tokens=sum(count * _count_tokens(prompts, config) for count, prompts in evaluations),
        judged_tokens=judged * (JUDGE_TOKENS + policy.evaluation.max_new_tokens),
        scored_texts=scored,
    )


def _count_by_role(files: list[PromptSetRecord]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for file in files:
        counts[file.role] = counts.get(file.role, 0) + file.n
    return counts


def _measure_model(model: str, revision: str | None) -> _ModelSize:
    if model_names.is_server_address(model):
        return _ModelSize()
    if is_path(model):
        checkpoint = resolve.open_local(model)
        return _ModelSize(
            weights=count_weight_bytes(checkpoint.layout),
            entries=checkpoint.layout.entries,
            is_adapter=checkpoint.source.kind == "adapter",
        )
    remote = pull.resolve_revision(model, revision, resolve.pull_access())
    weights = count_remote_weight_bytes(remote)
    parameters = remote.info.parameters if remote.info else None
    is_adapter = any(file.path == ADAPTER_CONFIG for file in remote.files)
    return _ModelSize(
        revision=remote.revision,
        pulled=count_remote_bytes(remote),
        missing=pull.count_missing_bytes(remote),
        weights=weights,
        entries=parameters or weights // BYTES_PER_WEIGHT,
        is_adapter=is_adapter,
        adapter_base=_read_adapter_base(remote) if is_adapter else None,
        merge_memory=memory_needs.merge_memory(remote),
    )


def _read_adapter_base(remote: RemoteRepository) -> str | None:
    tree = commits.to_tree(remote.revision, remote.files)
    text = commits.read_file(resolve.pull_access(), remote.id, tree, ADAPTER_CONFIG)
    try:
        name = parse_object(text or b"{}").get("base_model_name_or_path")
    except ValueError:
        return None
    return name if isinstance(name, str) and is_hub_id(name) else None


def _reference_name(config: RunConfig, command: Command, model: _ModelSize) -> str | None:
    # An evaluation needs only the base of an adapter.
    if command == "evaluate" and not model.is_adapter:
        return None
    if config.policy.repair.reference is not None:
        return config.policy.repair.reference
    if is_path(config.model):
        return resolve.find_reference(resolve.open_local(config.model), None).id
    return model.adapter_base


def _count_judged(prompts: PromptSets, config: RunConfig) -> int:
    harmful = len(prompts.harmful) + len(prompts.unseen)
    return harmful * config.policy.evaluation.samples + len(prompts.benign)


def _count_tokens(prompts: PromptSets, config: RunConfig) -> int:
    settings = config.policy.evaluation
    answered = _count_judged(prompts, config)
    task = len(prompts.task) * needed_tokens(prompts.task, settings.task_match, settings.max_new_tokens)
    # Whether the model thinks is in files that are not downloaded, so only a limit in the policy is counted.
    thoughts = (answered + len(prompts.task)) * (settings.max_thought_tokens or 0)
    return answered * settings.max_new_tokens + task + thoughts


def _measure_judge(spec: JudgeSpec) -> _ModelSize | None:
    download = catalog.resolve_download(spec)
    return _measure_model(download.model, download.revision) if download else None
