"""The measured rates behind every estimate of time and cost. Pure."""

GENERATION_RATE = 4e10
"""Multiplications per second while a model generates: measured on two cores with 135M weights in bfloat16."""
SCORING_RATE = 2e11
"""Multiplications per second while weights are scored: measured on two cores that compute in bfloat16, with 87M and
135M weights. Scoring reads many tokens at once, so it is faster than generation."""
WRITE_RATE = 1.5e8
"""Bytes per second of weights that one core masks, edits, writes, reads again and hashes."""
BYTES_PER_WEIGHT = 2
"""Size of a stored weight where the Hub has not counted them: most checkpoints are bfloat16 or float16."""

GPU_SPEEDUP = 100
"""A GPU compared with two cores while generating. This and the following values are reports of others."""
PULL_RATE = 1e8
"""Bytes per second from the Hub to its own machines."""
JOB_START_SECONDS = 180
"""Time to find a machine and to fetch the image of a Job."""
GPU_MEMORY_FACTOR = 1.5
"""GPU memory compared with the weights alone: activations, the cache of a batch, and a waiting judge need the rest."""


def generation_seconds(tokens: int, weights: int) -> float:
    """Time to generate so many tokens on two cores. Each token multiplies every weight once."""
    return tokens * weights / GENERATION_RATE


def job_seconds(bytes_to_pull: int, two_core_seconds: float, processors: int, *, has_gpu: bool) -> float:
    """Duration of a Job: start, pull, and a run that takes `two_core_seconds` on two cores."""
    speedup = GPU_SPEEDUP if has_gpu else processors / 2
    return JOB_START_SECONDS + bytes_to_pull / PULL_RATE + two_core_seconds / speedup
