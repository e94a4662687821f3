"""What the cost model of the package expects of a command, for a checkpoint in a folder. No weights are read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from antidote_ci.checkpoint.layout import count_weight_bytes, read_layout
from antidote_ci.cost_model import Computation
from antidote_ci.evaluation import splits
from antidote_ci.hub.memory_needs import BASE_MEMORY
from antidote_ci.model.loading import select_device_and_dtype
from antidote_ci.model.streaming.meta_model import MetaModel
from antidote_ci.pipeline import dry_run, scoring_inputs
from antidote_ci.policy import RunConfig, override_section, read_policy
from antidote_ci.records import Model, ScoreMethod
from antidote_ci.repair import planning
from antidote_ci.repair.planning import RepairWorkload
from antidote_ci.repair.targets import list_scored

CommandName = Literal["evaluate", "repair antidote", "repair taylor", "run"]
COMMANDS: tuple[CommandName, ...] = get_args(CommandName)


@dataclass(frozen=True)
class Job:
    """A checkpoint, its reference and the policy of the commands."""

    name: str
    model: Path
    reference: Path
    policy: Path


@dataclass(frozen=True)
class Forecast:
    """An estimate for one command on two cores in bfloat16, in bytes and seconds."""

    weights: int
    """Number of weights of the model, or of the adapter's base."""
    is_adapter: bool
    pulled: int
    """Bytes of the model and its reference."""
    running_memory: int
    """Memory to generate answers. 0 for a repair, which streams weights."""
    scoring_memory: int
    """Memory to score, mask and write, with one block in memory. 0 for an evaluation."""
    disk: int
    """Bytes that the command writes."""
    computation: Computation

    @property
    def memory(self) -> int:
        return max(self.running_memory, self.scoring_memory)

    @property
    def seconds(self) -> float:
        """On two cores."""
        return self.computation.seconds()


def forecast(job: Job, command: CommandName) -> Forecast:
    """The estimate of `--dry-run`, and for a repair that of its plan."""
    policy = override_section(read_policy(job.policy), "repair", reference=str(job.reference))
    policy = override_section(policy, "publish", mode="none")
    config = RunConfig(str(job.model), None, policy, Path("out"), None, no_cache=True)
    source, reference = read_layout(job.model), read_layout(job.reference)
    is_adapter = source.kind == "adapter"
    generates, repairs = not command.startswith("repair"), command != "evaluate"
    method: ScoreMethod = "antidote" if command == "repair antidote" else "taylor"
    if command == "run":
        method = policy.repair.method
    run = dry_run.estimate_run(config, "run" if command == "run" else "evaluate")
    work = _workload(job, config, method, is_adapter=is_adapter) if repairs else None
    computation, disk = run.computation, run.bytes_to_write
    if work and not generates:
        weights = work.meta_model.layout.entries
        computation = planning.estimate_computation(method, weights, work.texts, count_weight_bytes(source))
        disk = planning.estimate_bytes_written(work)
    return Forecast(
        weights=reference.entries if is_adapter else source.entries,
        is_adapter=is_adapter,
        pulled=count_weight_bytes(source) + (count_weight_bytes(reference) if is_adapter or repairs else 0),
        running_memory=run.memory_bytes if generates else 0,
        scoring_memory=planning.estimate_peak_memory(work) + BASE_MEMORY if work else 0,
        disk=disk,
        computation=computation,
    )


def _workload(job: Job, config: RunConfig, method: ScoreMethod, *, is_adapter: bool) -> RepairWorkload:
    policy = override_section(config.policy, "repair", method=method)
    texts = scoring_inputs.list_text_lengths(policy, method, splits.load_repair_prompts(policy, {}))
    model = Model(job.reference, job.model) if is_adapter else Model(job.model)
    source = read_layout(job.model)
    matrices, _ = list_scored(model)
    return RepairWorkload(
        method,
        source,
        MetaModel(model, select_device_and_dtype()[1], "cpu"),
        matrices,
        texts,
        policy.repair.activation_megabytes * 1_000_000,
    )
