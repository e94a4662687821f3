"""The configuration of a run, from the options that the command line and the Python API share."""

from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path

from antidote_ci.paths import write_as_path
from antidote_ci.pipeline.model_names import parse_model_names
from antidote_ci.policy import Policy, PublishSection, RunConfig, override_section, read_policy, to_quick
from antidote_ci.records import PublishMode, ScoreMethod


def configure(
    model: str | PathLike[str],
    *,
    out: str | PathLike[str],
    policy: Policy | str | PathLike[str] | None = None,
    quick: bool = False,
    revision: str | None = None,
    reference: str | PathLike[str] | None = None,
    server: str | None = None,
    prompts: str | PathLike[str] | None = None,
    benign: str | PathLike[str] | None = None,
    task: str | PathLike[str] | None = None,
    judge: str | None = None,
    calibration: str | PathLike[str] | None = None,
    threshold: float | None = None,
    baseline: str | PathLike[str] | None = None,
    realignment: str | PathLike[str] | None = None,
    method: ScoreMethod | None = None,
    frontier: bool | None = None,
    accept_repair: bool | None = None,
    keep_failed: bool | None = None,
    publish: PublishMode | None = None,
    publish_to: str | None = None,
    save_answers: str | PathLike[str] | None = None,
    no_cache: bool = False,
) -> RunConfig:
    """The policy, or the file that it names, with the options that are not None.

    A path that is not a string is never taken for a name. Raises ConfigurationError.
    """
    chosen = policy if isinstance(policy, Policy) else read_policy(None if policy is None else Path(policy))
    chosen = to_quick(chosen) if quick else chosen
    chosen = override_section(chosen, "gate", harmful_score=threshold, baseline=to_name(baseline))
    chosen = override_section(
        chosen,
        "evaluation",
        server=server,
        prompts=to_name(prompts),
        benign=to_name(benign),
        task=to_name(task),
        judge=judge,
        calibration=to_name(calibration),
    )
    chosen = override_section(
        chosen,
        "repair",
        method=method,
        reference=to_name(reference),
        realignment=to_name(realignment),
        frontier=frontier,
        accept=accept_repair,
        keep_failed=keep_failed,
    )
    if publish is not None and publish != chosen.publish.mode:
        chosen = replace(chosen, publish=PublishSection())  # its name belongs to its mode
    chosen = override_section(chosen, "publish", mode=publish, to=publish_to)
    saved = None if save_answers is None else Path(save_answers)
    return parse_model_names(RunConfig(to_name(model) or "", revision, chosen, Path(out), saved, no_cache))


def to_name(value: str | PathLike[str] | None) -> str | None:
    """The text of an option: a path that is not a string is written as one (`paths.is_path`)."""
    return value if value is None or isinstance(value, str) else write_as_path(Path(fspath(value)))
