"""What the loopback Hub keeps of Jobs: https://huggingface.co/docs/huggingface_hub/guides/jobs."""

from dataclasses import dataclass, field
from typing import Literal

JobStage = Literal["SCHEDULING", "RUNNING", "COMPLETED", "CANCELED", "ERROR", "DELETED"]
TERMINAL_STAGES: tuple[JobStage, ...] = ("COMPLETED", "CANCELED", "ERROR", "DELETED")


@dataclass(frozen=True)
class StoredJobSpec:
    """What is to run. Secrets are no part of it: they go to the process and are kept nowhere."""

    image: str
    command: list[str]
    arguments: list[str]
    environment: dict[str, str]
    flavor: str
    timeout: int
    """Seconds."""
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredJob:
    """One run of a spec."""

    id: str
    namespace: str
    initiator: str
    """The account that started it."""
    spec: StoredJobSpec
    created: str
    stage: JobStage = "SCHEDULING"
    message: str | None = None
    started: str | None = None
    finished: str | None = None


@dataclass(frozen=True)
class Flavor:
    """A flavour, as the Hub lists it. Prices are those of August 2026."""

    name: str
    title: str
    cpu: str
    ram: str
    storage: str
    gpu: tuple[str, int, str] | None
    """Model, how many, and the memory of all of them."""
    micro_dollars: int
    """A minute."""


HARDWARE = (
    Flavor("cpu-basic", "CPU Basic", "2 vCPU", "16 GB", "50 GB", None, 167),
    Flavor("cpu-upgrade", "CPU Upgrade", "8 vCPU", "32 GB", "50 GB", None, 500),
    Flavor("t4-small", "Nvidia T4 - small", "4 vCPU", "15 GB", "50 GB", ("T4", 1, "16 GB"), 6667),
    Flavor("l4x1", "1x Nvidia L4", "8 vCPU", "30 GB", "400 GB", ("L4", 1, "24 GB"), 13333),
    Flavor("a10g-small", "Nvidia A10G - small", "4 vCPU", "15 GB", "110 GB", ("A10G", 1, "24 GB"), 16667),
    Flavor("a100-large", "Nvidia A100 - large", "12 vCPU", "142 GB", "1000 GB", ("A100", 1, "80 GB"), 41667),
    Flavor("h200", "1x Nvidia H200", "23 vCPU", "256 GB", "3000 GB", ("H200", 1, "141 GB"), 83333),
)
