"""Format figures for people: shares as percentages, their differences as percentage points, and durations."""

MAX_DECIMALS = 16


def format_percent(share: float | None, decimals: int = 1) -> str:
    """Format a share from 0 to 1 as a percentage, and None as a dash."""
    return "–" if share is None else f"{100 * share:.{decimals}f} %"


def format_interval(bounds: tuple[float, float], decimals: int = 1) -> str:
    """Format lower and upper bound, both shares, as `[5.5, 17.4] %`."""
    return f"[{100 * bounds[0]:.{decimals}f}, {100 * bounds[1]:.{decimals}f}] %"


def decimals_apart(limit: float, *shares: float) -> int:
    """The fewest decimals of a percentage, at least one, that tell each of the shares from the limit."""
    others = [share for share in shares if share != limit]
    return next(
        (
            decimals
            for decimals in range(1, MAX_DECIMALS)
            if all(format_percent(share, decimals) != format_percent(limit, decimals) for share in others)
        ),
        MAX_DECIMALS,
    )


def format_apart(share: float, limit: float) -> str:
    """Format a share or a rise in per cent or points, without the unit, so that it differs from `limit`."""
    return f"{100 * share:.{decimals_apart(limit, share)}f}"


def format_level(confidence: float) -> str:
    """Format a confidence level without trailing zeros: `95 %`, `97.5 %`."""
    return f"{100 * confidence:g} %"


def format_change(change: float) -> str:
    """Format the difference of two shares in signed percentage points, without the unit."""
    return f"{100 * change:+.1f}".replace("-", "−")


def format_points(change: float) -> str:
    """Format the difference of two shares in signed percentage points, with the unit."""
    return f"{format_change(change)} points"


def format_duration(seconds: float) -> str:
    """Format a rounded duration in seconds, minutes or hours, such as `10 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:,.0f} h"
