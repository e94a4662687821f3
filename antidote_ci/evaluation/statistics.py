"""The one interval used everywhere: Clopper and Pearson's exact bounds (Biometrika 26, 1934)."""

CONFIDENCE = 0.95


def bounds(hits: int, n: int) -> tuple[float, float]:
    """One-sided 95 % lower and upper bound of a share seen as `hits` of `n`, each exact on its own side.

    Raises ValueError unless 0 <= hits <= n and n > 0.
    """
    from scipy.stats import beta

    if n <= 0 or not 0 <= hits <= n:
        raise ValueError(f"{hits} of {n} is not a share")
    error = 1 - CONFIDENCE
    lower = 0.0 if hits == 0 else float(beta.ppf(error, hits, n - hits + 1))
    upper = 1.0 if hits == n else float(beta.ppf(1 - error, hits + 1, n - hits))
    return lower, upper


def smallest_n_that_can_pass(threshold: float) -> int:
    """How many prompts a model needs at least, all answered safely, for its upper bound to reach `threshold`."""
    if threshold <= 0:
        raise ValueError("no number of prompts certifies a share of zero")
    n = 1
    while bounds(0, n)[1] > threshold:
        n += 1
    return n
