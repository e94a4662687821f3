"""The policy of a run, read and checked: defaults < antidote.toml < environment and flags."""

import dataclasses
import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from antidote_ci.errors import ConfigurationError
from antidote_ci.policy import DURATION, SECTIONS, JobsSection, Policy, PublishSection, RepairSection


def read_policy(path: Path | None) -> Policy:
    """The policy in `path`, or the defaults when there is none.

    Raises ConfigurationError for a missing file, bad TOML, an unknown key (with the nearest real one) or a bad value.
    """
    if path is None:
        return Policy()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"there is no policy file {path}", hint="check --policy") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigurationError(f"{path} is not a TOML file", cause=str(error)) from None
    _refuse_unknown(document, list(SECTIONS), f"section in {path}")
    for name, section in SECTIONS.items():
        values = document.get(name, {})
        if not isinstance(values, dict):
            raise ConfigurationError(f"{name} in {path} must be a section", hint=f"write [{name}]")
        keys = [each.name for each in dataclasses.fields(section)]
        _refuse_unknown(values, keys, f"key in [{name}] of {path}")
    return checked(document, str(path))


def toml_text(policy: Policy) -> str:
    """The policy as a file that `read_policy` reads back to an equal one."""
    lines = []
    for section, values in dataclasses.asdict(policy).items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {toml_value(value)}" for key, value in values.items() if value is not None]
    return "\n".join(lines) + "\n"


def override(policy: Policy, section: str, **values: object) -> Policy:
    """The policy with the values that are not None put into one of its sections."""
    document = dataclasses.asdict(policy)
    document[section] |= {key: value for key, value in values.items() if value is not None}
    return checked(document, "the command line")


def checked(document: Mapping[str, Any], origin: str) -> Policy:
    """A policy with every value of its type and within its range."""
    from pydantic import TypeAdapter, ValidationError

    try:
        policy = TypeAdapter(Policy).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigurationError(f"{where} in {origin} cannot be {first['input']!r}", cause=first["msg"]) from None
    _require_nothing_converted(document, policy, origin)
    for name in ("harmful_score", "over_refusal", "degenerate", "degenerate_rise", "utility_drop"):
        value = getattr(policy.gate, name)
        if not 0 <= value <= 1:
            raise ConfigurationError(
                f"gate.{name} in {origin} is {value:g}, outside 0..1",
                cause="shares are written as numbers from 0 to 1" if value > 1 else None,
                hint=f"did you mean {value / 100:g}?" if 1 < value <= 100 else None,
            )
    for name in ("max_new_tokens", "samples", "judge_window"):
        if getattr(policy.evaluation, name) < 1:
            raise ConfigurationError(f"evaluation.{name} in {origin} must be at least 1")
    if policy.repair.activation_megabytes < 1:
        raise ConfigurationError(f"repair.activation_megabytes in {origin} must be at least 1")
    if policy.repair.target == "dense":
        _require_dense_possible(policy.repair)
    _require_place(policy.publish)
    _require_duration(policy.jobs, origin)
    return policy


def _require_nothing_converted(document: Mapping[str, Any], policy: Policy, origin: str) -> None:
    """`true` is no share of 1, and "off" no false: a limit is what its author wrote."""
    for section, values in document.items():
        for key, value in values.items():
            read = getattr(getattr(policy, section), key)
            if any(isinstance(read, kind) is not isinstance(value, kind) for kind in (bool, str)):
                raise ConfigurationError(
                    f"{section}.{key} in {origin} cannot be {value!r}",
                    cause="true and false, numbers, and texts in quotation marks are three kinds of values",
                    hint=f"such as {key} = {toml_value(getattr(SECTIONS[section](), key))}",
                )


def _require_duration(jobs: JobsSection, origin: str) -> None:
    if not DURATION.fullmatch(jobs.timeout) or jobs.timeout_seconds < 1:
        raise ConfigurationError(
            f"jobs.timeout in {origin} is {jobs.timeout!r}, no length of time",
            hint='write a number with s, m, h or d, such as "90m"',
        )


def _require_place(publish: PublishSection) -> None:
    """A repository has no name of its own; nothing and a pull request need none."""
    if publish.mode == "repo" and publish.to is None:
        raise ConfigurationError(
            "publishing to a repository of its own needs its name", hint="add --publish-to ORG/NAME"
        )
    if publish.mode in ("none", "pull-request") and publish.to is not None:
        raise ConfigurationError(
            f"nothing is published to {publish.to}",
            cause=f"publishing is `{publish.mode}`, which takes no name",
            hint="add --publish repo, or --publish branch",
        )


def _require_dense_possible(repair: RepairSection) -> None:
    """Dense weights are repaired without a reference."""
    if repair.method == "taylor":
        raise ConfigurationError(
            "a `taylor` repair needs a reference, and --target dense has none",
            cause="its teacher is the aligned model before fine-tuning",
            hint="--method antidote, or leave the target to `auto`",
        )
    if repair.reference is not None:
        raise ConfigurationError(
            f"--target dense makes no use of --reference {repair.reference}",
            hint="leave the target to `auto`: with a reference, far less is lost",
        )


def _refuse_unknown(values: Mapping[str, object], known: list[str], what: str) -> None:
    for name in values:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1)
            raise ConfigurationError(
                f"unknown {what}: {name}",
                hint=f"did you mean {nearest[0]}?" if nearest else f"known are {', '.join(known)}",
            )


def toml_value(value: bool | int | float | str) -> str:
    """JSON's words are TOML's, but for one character that TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
