"""What a Job will run on, how long it may take, and what it may cost."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from antidote_ci import records
from antidote_ci.errors import ConfigurationError
from antidote_ci.hub.jobs_api import Hardware
from antidote_ci.hub.retry import format_duration
from antidote_ci.pipeline import dry_run
from antidote_ci.pipeline.dry_run import DryRunForecast
from antidote_ci.policy import Command, RunConfig
from antidote_ci.report.console import Console, write_stdout
from antidote_ci.report.text import flatten

START_SECONDS = 180
"""To find a machine and fetch the image, from what others report; it was not measured."""
BYTES_A_SECOND = 100e6
"""From the Hub to its own machines, likewise."""
GPU_SPEED = 100
"""Times two processors' while generating, likewise."""
WEIGHTS_LOST = "repaired weights are gone with the Job"
HEADROOM = 1.5
"""Beside the weights stand activations, the cache of a batch, and a judge that waits."""


@dataclass(frozen=True)
class CostEstimate:
    """Of one Job. Dollars and seconds; the most is what it costs when it runs into its time limit."""

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


def estimate_cost(
    command: Command, config: RunConfig, namespace: str, image: str, offered: Sequence[Hardware]
) -> CostEstimate:
    """From metadata alone. Raises ConfigurationError for an unknown flavour, and where none is large enough."""
    about = dry_run.estimate_run(config, command)
    jobs = config.policy.jobs
    chosen = find_flavor(jobs.flavor, offered) if jobs.flavor else cheapest_flavor(about, offered)
    speed = GPU_SPEED if chosen.gpu_memory else chosen.processors / 2
    seconds = round(START_SECONDS + about.bytes_to_pull / BYTES_A_SECOND + about.seconds / speed)
    price = chosen.dollars / 3600
    return CostEstimate(
        forecast=about,
        namespace=namespace,
        image=image,
        flavor=chosen.name,
        hardware=describe_flavor(chosen),
        dollars_an_hour=chosen.dollars,
        seconds=seconds,
        dollars=round(min(seconds, jobs.timeout_seconds) * price, 2),
        seconds_at_most=jobs.timeout_seconds,
        dollars_at_most=round(jobs.timeout_seconds * price, 2),
    )


def with_base_reference(config: RunConfig, base: str | None) -> RunConfig:
    """With the reference that a base is, where none is named: an estimate would not count it."""
    if base is None or config.policy.repair.reference is not None:
        return config
    repair = replace(config.policy.repair, reference=base)
    return replace(config, policy=replace(config.policy, repair=repair))


def find_flavor(flavor: str, offered: Sequence[Hardware]) -> Hardware:
    """The flavour of that name."""
    for each in offered:
        if each.name == flavor:
            return each
    raise ConfigurationError(
        f"jobs.flavor is {flavor!r}, which the Hub does not offer",
        cause="it offers " + "; ".join(f"{each.name} ({describe_flavor(each)})" for each in sort_by_price(offered)),
        hint="name one of these, or none: the cheapest that the model fits is taken",
    )


def cheapest_flavor(about: DryRunForecast, offered: Sequence[Hardware]) -> Hardware:
    """The cheapest flavour with a GPU that holds the model."""
    needed = round(about.gpu_memory_bytes * HEADROOM)
    for each in sort_by_price(offered):
        if each.gpu_memory is not None and each.gpu_memory >= needed and each.memory >= about.gpu_memory_bytes:
            return each
    raise ConfigurationError(
        f"no hardware of the Hub holds {about.model}: about {needed / 1e9:,.0f} GB of GPU memory are needed",
        cause="all weights of a model that answers are in memory at once",
        hint="let a server answer (docs/servers.md), or name a flavour with jobs.flavor and try",
    )


def sort_by_price(offered: Sequence[Hardware]) -> list[Hardware]:
    return sorted(offered, key=lambda each: (each.dollars, each.name))


def describe_flavor(hardware: Hardware) -> str:
    """Title, memory and price, for people."""
    if hardware.gpu_memory is None:
        memory = f"{hardware.memory / 1e9:,.0f} GB, no GPU"
    else:
        memory = f"{hardware.gpu_memory / 1e9:,.0f} GB on the GPU"
    return f"{flatten(hardware.title)}, {memory}, ${hardware.dollars:,.2f} an hour"


def print_estimate(console: Console, found: CostEstimate) -> None:
    """What will be paid for, and by whom."""
    console.print(f"job        {flatten(found.image)} on {found.flavor} ({found.hardware})")
    console.print(
        f"cost       about ${found.dollars:,.2f} for {format_duration(found.seconds)}, paid by "
        f"{flatten(found.namespace)}"
    )
    console.print(
        f"at most    ${found.dollars_at_most:,.2f}: after {format_duration(found.seconds_at_most)} the Hub ends it"
    )
    if found.seconds > found.seconds_at_most:
        console.print("           it may well not be done by then: raise jobs.timeout, or name a larger jobs.flavor")


def show_estimate(console: Console, found: CostEstimate, *, as_json: bool) -> None:
    """`--dry-run`."""
    if as_json:
        write_stdout(records.to_json(found))
        return
    about = found.forecast
    for line in dry_run.describe_plan(about):
        console.print(line)
    console.print(f"pull       {dry_run.format_bytes(about.bytes_to_pull)}")
    console.print(f"answers    about {about.answers:,}, if the model needs a repair")
    print_estimate(console, found)
    console.print(f"publish    {about.publish}" + (f"; {WEIGHTS_LOST}" if about.publish == "none" else ""))
