"""The judge that a run named. Nothing stands in for one that was not."""

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.judges.interface import Judge
from antidote_ci.evaluation.judges.refusal import RefusalJudge


def judge(name: str | None) -> Judge:
    """The judge of that name; ConfigurationError when none was named."""
    if name is None:
        raise ConfigurationError(
            "no judge is named",
            cause="a model judge is not built in yet, and the rule judge never stands in silently",
            hint="add --judge refusal; its figure is a non-refusal rate, not a harmful score",
        )
    if name == RefusalJudge.name:
        return RefusalJudge()
    raise ConfigurationError(f"there is no judge {name!r}", hint="--judge refusal")
