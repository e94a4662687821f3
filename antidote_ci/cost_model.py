"""The measured rates behind every estimate of time and cost. Pure."""

from dataclasses import dataclass

GENERATION_RATE = 2.5e11
"""Multiplications per second while a model generates answers of which some end before the limit of their length:
measured on two cores that compute in bfloat16, with 135M, 0.5B and 1.5B weights (docs/costs.md)."""
SCORING_RATE = 2e11
"""Multiplications per second while weights are scored, measured likewise."""
FLOAT32_SLOWDOWN = 3.2
"""Of both rates on processors without bfloat16 instructions: `generate` with 0.5B weights, AVX2 against AVX-512."""
WRITE_RATE = 1.5e8
"""Bytes per second of weights that one core masks, edits, writes, reads again and hashes."""
START_SECONDS = 4
"""Time in which a command imports its libraries and checks its inputs."""
BYTES_PER_WEIGHT = 2
"""Size of a stored weight where the Hub has not counted them: most checkpoints are bfloat16 or float16."""

MEMORY_OVERHEAD = 1_000_000_000
"""Bytes for Python, torch and a batch."""
EVALUATION_COPIES = 1.1
"""Memory of an evaluation without MEMORY_OVERHEAD, compared with the weights."""
ADAPTER_EVALUATION_COPIES = 2.0
"""Likewise of an adapter, which is merged into its base."""
RUN_COPIES = 3.0
"""Likewise of a run that repairs a model: of the source, its reference and its repair, and the gradients of a block."""
ADAPTER_RUN_COPIES = 3.6

GPU_GENERATION_RATE = 4e12
"""Like GENERATION_RATE, of one GPU. This and the following values are reports of others."""
GPU_SCORING_RATE = 2e13
PULL_RATE = 1e8
"""Bytes per second from the Hub to its own machines."""
JOB_START_SECONDS = 180
"""Time to find a machine and to fetch the image of a Job."""
GPU_MEMORY_FACTOR = 1.5
"""GPU memory compared with the weights alone: activations, the cache of a batch, and a waiting judge need the rest."""


@dataclass(frozen=True)
class Computation:
    """What a command computes. Each token multiplies every weight once."""

    generated: float = 0.0
    """Multiplications of models that generate."""
    scored: float = 0.0
    """Multiplications of models that read many tokens at once."""
    written: float = 0.0
    """Bytes of weights."""

    def __add__(self, other: "Computation") -> "Computation":
        return Computation(self.generated + other.generated, self.scored + other.scored, self.written + other.written)

    def seconds(self, processors: int = 2, *, has_gpu: bool = False, has_bfloat16: bool = True) -> float:
        """Duration on so many processor cores, or on one GPU."""
        if has_gpu:
            computing = self.generated / GPU_GENERATION_RATE + self.scored / GPU_SCORING_RATE
        else:
            computing = (self.generated / GENERATION_RATE + self.scored / SCORING_RATE) * 2 / processors
            computing *= 1 if has_bfloat16 else FLOAT32_SLOWDOWN
        return START_SECONDS + computing + self.written / WRITE_RATE


def typical_memory(weights: int, bytes_per_weight: int, copies: float) -> int:
    """The memory of a command in bytes. Less suffices where mapped weights can be read from the disk again."""
    return round(weights * bytes_per_weight * copies) + MEMORY_OVERHEAD


def job_seconds(bytes_to_pull: int, computation: Computation, processors: int, *, has_gpu: bool) -> float:
    """Duration of a Job: start, pull and run."""
    return JOB_START_SECONDS + bytes_to_pull / PULL_RATE + computation.seconds(processors, has_gpu=has_gpu)
