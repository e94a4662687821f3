"""Start, follow and cancel Jobs of the Hub, and list their hardware.

https://huggingface.co/docs/huggingface_hub/guides/jobs (huggingface_hub 2.4)
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.client import parse_answer, printable_endpoint

if TYPE_CHECKING:
    from huggingface_hub import HfApi, JobHardwareInfo, JobInfo

HOURS_PER_UNIT = {"second": 1 / 3600, "minute": 1 / 60, "hour": 1.0, "day": 24.0}
SIZE_PATTERN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(MB|GB|TB)?", re.IGNORECASE)
BYTES = {"MB": 10**6, "GB": 10**9, "TB": 10**12}
NVIDIA_GPU = ("gpu", "nvidia")
WORKING_STAGES = ("SCHEDULING", "RUNNING")
ENDED_STAGES = ("COMPLETED", "CANCELED", "ERROR", "DELETED")
MIN_POLL_SECONDS, MAX_POLL_SECONDS = 0.2, 5.0
"""Seconds between two requests about a Job that waits for its hardware. The interval doubles each time."""


@dataclass(frozen=True)
class Hardware:
    """A flavor of hardware for Jobs, with its price."""

    name: str
    title: str
    processors: int
    memory: int
    """Bytes."""
    gpu_memory: int | None
    """Bytes of one GPU; None without a GPU of Nvidia, for which the image is built."""
    dollars: float
    """Per hour."""
    gpus: int = 1
    """The number of GPUs, if there are any."""


@dataclass(frozen=True)
class JobRequest:
    """A Job to start."""

    namespace: str
    """The account or organisation that pays."""
    image: str
    command: list[str]
    environment: Mapping[str, str]
    """Visible to everyone who may see the Job."""
    secrets: Mapping[str, str] = field(repr=False)
    flavor: str
    seconds: int
    """The timeout, after which the Hub stops the Job."""
    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Job:
    """The state of a Job."""

    id: str
    namespace: str
    url: str
    stage: str
    """SCHEDULING or RUNNING, then COMPLETED, CANCELED, ERROR or DELETED."""
    message: str
    """The Hub's message about the stage, often empty."""
    flavor: str
    image: str
    command: list[str]
    environment: Mapping[str, str]
    initiator: str | None
    """The account that started the Job; None if the Hub does not name it, as for scheduled and copied Jobs."""
    has_run: bool
    seconds: int
    """The duration of a Job that has ended, else 0."""

    @property
    def is_working(self) -> bool:
        return self.stage not in ENDED_STAGES


def list_hardware(access: HubAccess) -> list[Hardware]:
    """All flavors that the Hub offers."""
    return access.request("Jobs", lambda client: [to_hardware(info) for info in client.list_jobs_hardware()])


def find_working(access: HubAccess, namespace: str, labels: Mapping[str, str]) -> list[Job]:
    """The Jobs with these labels that have not ended."""
    name = f"Jobs of {namespace}"
    return access.request(name, lambda client: _find_labelled(client, namespace, labels, WORKING_STAGES))


def submit_job(access: HubAccess, request: JobRequest, is_same_job: Callable[[Job], bool]) -> Job:
    """Start the Job once. If an answer is lost, a retry recognises the started Job with `is_same_job`."""

    is_retry = False

    def once(client: "HfApi") -> Job:
        nonlocal is_retry
        # The Job may have ended in the meantime.
        for job in _find_labelled(client, request.namespace, request.labels) if is_retry else []:
            if is_same_job(job):
                return job
        is_retry = True
        started = client.run_job(
            image=request.image,
            command=request.command,
            env=dict(request.environment),
            secrets=dict(request.secrets),
            flavor=request.flavor,
            timeout=request.seconds,
            name=request.name,
            labels=dict(request.labels),
            namespace=request.namespace,
        )
        return to_job(started)

    return access.request(f"Jobs of {request.namespace}", once)


def refresh_job(access: HubAccess, job: Job) -> Job:
    """The current state of the Job."""
    return access.request(
        _describe_job(job), lambda client: to_job(client.inspect_job(job_id=job.id, namespace=job.namespace))
    )


def wait_until_started(access: HubAccess, job: Job) -> Job:
    """Wait until the Job runs or has ended, and return its state."""
    pause = MIN_POLL_SECONDS
    while job.is_working and job.stage != "RUNNING":
        time.sleep(pause)
        pause = min(2 * pause, MAX_POLL_SECONDS)
        job = refresh_job(access, job)
    return job


def follow_log(access: HubAccess, job: Job, on_line: Callable[[str], None]) -> Job:
    """Call `on_line` once with each line of the Job's log as it arrives, and return the state of the ended Job.

    A broken stream is resumed after the last line, with a new retry budget. If it breaks while the Job ends, the last
    lines are missing: use `read_log`.
    """
    received: list[str] = []

    def listen(client: "HfApi") -> None:
        previous = list(received)
        try:
            log = client.fetch_job_logs(job_id=job.id, namespace=job.namespace, follow=True)
            for line in skip_repeated(previous, log):
                received.append(line)
                on_line(line)
        except Exception:
            if len(received) == len(previous):
                raise

    while job.is_working:
        access.request(_describe_job(job), listen)
        job = refresh_job(access, job)
        if job.is_working:
            time.sleep(MIN_POLL_SECONDS)  # the Hub ended the stream: not a request after the other
    return job


def skip_repeated(received: Sequence[str], log: Iterable[str]) -> Iterator[str]:
    """The lines of a log that follow those received before.

    A log that is read again may begin with its first line, with a later one, or after a gap: the Hub promises nothing.
    The longest end of `received` with which it begins is a repetition.
    """
    # The indexes of `received` at which the log may begin.
    starts = list(range(len(received) + 1))
    lines: list[str] = []
    sent = 0
    for line in log:
        position = len(lines)
        starts = [start for start in starts if start + position >= len(received) or received[start + position] == line]
        lines.append(line)
        repeated = len(received) - starts[0]
        yield from lines[max(repeated, sent) :]
        sent = max(sent, len(lines) if len(lines) > repeated else 0)


def read_log(access: HubAccess, job: Job) -> list[str]:
    """All lines of the log so far."""
    return access.request(
        _describe_job(job),
        lambda client: list(client.fetch_job_logs(job_id=job.id, namespace=job.namespace, follow=False)),
    )


def cancel_job(access: HubAccess, job: Job) -> None:
    access.request(_describe_job(job), lambda client: client.cancel_job(job_id=job.id, namespace=job.namespace))


def _describe_job(job: Job) -> str:
    return f"the Job {job.id} of {job.namespace}"


def _find_labelled(
    client: "HfApi", namespace: str, labels: Mapping[str, str], stages: Sequence[str] | None = None
) -> list[Job]:
    listed = client.list_jobs(status=list(stages) if stages else None, labels=dict(labels), namespace=namespace)
    # The list may omit the command and the environment of a Job.
    jobs = [to_job(client.inspect_job(job_id=info.id, namespace=namespace)) for info in listed]
    return [job for job in jobs if stages is None or job.stage in stages]


@parse_answer()
def to_job(info: "JobInfo") -> Job:
    """The Hub's description of a Job. Older ones that have ended may lack all times."""
    started, finished = info.started_at, info.finished_at
    return Job(
        id=info.id,
        namespace=info.owner.name,
        url=f"{printable_endpoint()}/jobs/{info.owner.name}/{info.id}",
        stage=str(getattr(info.status.stage, "value", info.status.stage)),
        message=info.status.message or "",
        flavor=str(getattr(info.flavor, "value", info.flavor)),
        image=info.docker_image or "",
        command=[*(info.command or []), *(info.arguments or [])],
        environment={str(key): str(value) for key, value in (info.environment or {}).items()},
        initiator=info.initiator.name if info.initiator and info.initiator.type == "user" else None,
        has_run=started is not None or info.status.stage == "COMPLETED",
        seconds=int((finished - started).total_seconds()) if started and finished else 0,
    )


@parse_answer()
def to_hardware(info: "JobHardwareInfo") -> Hardware:
    """The Hub's description of a flavor in numbers."""
    amount, accelerator = SIZE_PATTERN.match(info.cpu), info.accelerator
    has_gpu = accelerator is not None and (accelerator.type, accelerator.manufacturer.lower()) == NVIDIA_GPU
    # The Hub names the memory of all GPUs together.
    dollars = info.unit_cost_usd / HOURS_PER_UNIT.get(info.unit_label, HOURS_PER_UNIT["minute"])
    if not 0 <= dollars < float("inf"):
        raise ValueError("the price")
    gpus = max(1, int(accelerator.quantity)) if accelerator is not None and has_gpu else 1
    return Hardware(
        name=info.name,
        title=info.pretty_name,
        processors=max(1, int(float(amount[1]))) if amount else 1,
        memory=_parse_bytes(info.ram),
        gpu_memory=_parse_bytes(accelerator.vram) // gpus if accelerator is not None and has_gpu else None,
        gpus=gpus,
        dollars=dollars,
    )


def _parse_bytes(text: str) -> int:
    """The number of bytes in a text such as `16 GB`; 0 if it cannot be parsed."""
    amount = SIZE_PATTERN.match(text)
    return int(float(amount[1]) * BYTES[(amount[2] or "GB").upper()]) if amount else 0
