"""Choose the hardware of a Job, and estimate its duration and cost."""

from collections.abc import Sequence
from dataclasses import dataclass

from antidote_ci.cost_model import GPU_MEMORY_FACTOR, job_seconds
from antidote_ci.errors import ConfigurationError
from antidote_ci.formatting import format_duration
from antidote_ci.hub.jobs_api import Hardware
from antidote_ci.pipeline import dry_run
from antidote_ci.pipeline.dry_run import DryRunForecast
from antidote_ci.policy import Command, RunConfig
from antidote_ci.report.text import flatten

FLOAT32_GPUS = ("t4", "v100")
"""The beginnings of the names of hardware whose GPUs have no native bfloat16: `model.loading` selects float32."""
WEIGHTS_LOST = "repaired weights are lost when the Job ends"


@dataclass(frozen=True)
class CostEstimate:
    """Duration and cost of one Job, in seconds and US dollars. The maximum is reached when the Job times out."""

    forecast: DryRunForecast
    namespace: str
    image: str
    flavor: str
    hardware: str
    dollars_an_hour: float
    seconds: int
    dollars: float
    seconds_at_most: int
    dollars_at_most: float


@dataclass(frozen=True)
class MemoryNeed:
    """The memory of a run, in bytes."""

    model: str
    running: int
    """Of the weights of the largest model, in 16 bits."""
    merging: int = 0
    """Of the base of an adapter, as it is loaded before the merge."""
    on_server: bool = False
    """Whether a server generates the answers, and can spread the weights over all GPUs."""

    def gpu_bytes(self, hardware: Hardware | None = None) -> int:
        """Of the GPU: twice as many on hardware that computes in float32, not in bfloat16."""
        is_old = hardware is not None and hardware.name.startswith(FLOAT32_GPUS)
        return max(round(self.running * GPU_MEMORY_FACTOR * (2 if is_old else 1)), self.merging)

    def fits(self, hardware: Hardware) -> bool:
        """Whether one GPU is large enough, or with a server all of them, and the main memory holds the weights."""
        if hardware.gpu_memory is None or hardware.memory < max(self.running, self.merging):
            return False
        return hardware.gpu_memory * (hardware.gpus if self.on_server else 1) >= self.gpu_bytes(hardware)


def estimate_cost(
    command: Command, config: RunConfig, namespace: str, image: str, offered: Sequence[Hardware]
) -> CostEstimate:
    """Estimate from metadata. Raises ConfigurationError for an unknown flavor, and when no flavor is large enough."""
    forecast = dry_run.estimate_run(config, command, here=False)
    jobs = config.policy.jobs
    on_server = config.policy.evaluation.server is not None
    merging = 0 if on_server else forecast.merge_memory_bytes
    need = MemoryNeed(forecast.model, forecast.gpu_memory_bytes, merging, on_server)
    hardware = find_flavor(jobs.flavor, offered) if jobs.flavor else cheapest_flavor(need, offered)
    has_gpu = hardware.gpu_memory is not None
    seconds = round(job_seconds(forecast.bytes_to_pull, forecast.computation, hardware.processors, has_gpu=has_gpu))
    price = hardware.dollars / 3600
    return CostEstimate(
        forecast=forecast,
        namespace=namespace,
        image=image,
        flavor=hardware.name,
        hardware=describe_flavor(hardware),
        dollars_an_hour=hardware.dollars,
        seconds=seconds,
        dollars=round(min(seconds, jobs.timeout_seconds) * price, 2),
        seconds_at_most=jobs.timeout_seconds,
        dollars_at_most=round(jobs.timeout_seconds * price, 2),
    )


def find_flavor(flavor: str, offered: Sequence[Hardware]) -> Hardware:
    """The hardware with this name. Raises ConfigurationError when the Hub does not offer it."""
    for hardware in offered:
        if hardware.name == flavor:
            return hardware
    names = "; ".join(f"{hardware.name} ({describe_flavor(hardware)})" for hardware in sort_by_price(offered))
    raise ConfigurationError(
        f"jobs.flavor is {flavor!r}, which the Hub does not offer",
        cause=f"it offers {names}",
        hint="use one of these, or remove jobs.flavor to use the cheapest that fits the model",
    )


def cheapest_flavor(need: MemoryNeed, offered: Sequence[Hardware]) -> Hardware:
    """The cheapest hardware with a GPU that fits the model. Raises ConfigurationError when none does."""
    for hardware in sort_by_price(offered):
        if need.fits(hardware):
            return hardware
    raise ConfigurationError(
        f"no hardware of the Hub has enough memory for {need.model}: "
        f"it needs about {need.gpu_bytes() / 1e9:,.0f} GB of GPU memory",
        cause="generation holds all weights of a model in memory" + ("" if need.on_server else ", of one GPU"),
        hint="use a model server (docs/servers.md), or set a flavor with jobs.flavor and try it",
    )


def sort_by_price(offered: Sequence[Hardware]) -> list[Hardware]:
    return sorted(offered, key=lambda hardware: (hardware.dollars, hardware.name))


def describe_flavor(hardware: Hardware) -> str:
    """Title, memory and price, for people."""
    if hardware.gpu_memory is None:
        memory = f"{hardware.memory / 1e9:,.0f} GB, no GPU"
    else:
        memory = f"{hardware.gpu_memory / 1e9:,.0f} GB on " + (
            "the GPU" if hardware.gpus == 1 else f"each of {hardware.gpus} GPUs"
        )
    return f"{flatten(hardware.title)}, {memory}, ${hardware.dollars:,.2f} an hour"


def describe_estimate(estimate: CostEstimate) -> list[str]:
    """Lines for people: what the Job costs, and which account pays."""
    lines = [
        f"job        {flatten(estimate.image)} on {estimate.flavor} ({estimate.hardware})",
        f"cost       about ${estimate.dollars:,.2f} for {format_duration(estimate.seconds)}, paid by "
        f"{flatten(estimate.namespace)}",
        f"at most    ${estimate.dollars_at_most:,.2f}: the Job times out after "
        f"{format_duration(estimate.seconds_at_most)}",
    ]
    if estimate.seconds > estimate.seconds_at_most:
        lines.append("           it may time out before it is done: raise jobs.timeout, or set a larger jobs.flavor")
    return lines


def describe_dry_run(estimate: CostEstimate) -> list[str]:
    """Output of `--dry-run`."""
    forecast = estimate.forecast
    loses_weights = forecast.method and forecast.publish == "none"
    return [
        *dry_run.describe_plan(forecast),
        f"pull       {dry_run.format_bytes(forecast.bytes_to_pull)}",
        dry_run.describe_answers(forecast),
        *describe_estimate(estimate),
        f"publish    {forecast.publish}" + (f"; {WEIGHTS_LOST}" if loses_weights else ""),
    ]
