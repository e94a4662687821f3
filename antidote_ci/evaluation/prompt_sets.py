"""Published prompt sets by name, at pinned commits: docs/prompts.md.

This module does not access the network. `list_downloads` returns what a policy needs; the caller fetches it and passes
the folders to `read_rows`.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.prompts import drop_duplicates, parse_category, read_columns, read_table, require_text
from antidote_ci.paths import is_file, is_path
from antidote_ci.policy import EMBEDDED, HUB_TASK, EvaluationSection, Policy
from antidote_ci.records import COMMIT, PromptRow

_LIKE_HUB_TASK = re.compile(r"[\w.-]+/[\w.-]+(@[^:]*)?:[^:]+", re.ASCII)
"""Also without a commit, or with another revision."""

HalfName = Literal["harmful", "harmless"]


@dataclass(frozen=True)
class PresetHalf:
    """The harmful or harmless half of a set: a file, or its rows with a certain value in a column."""

    file: str
    where: tuple[str, str] | None = None
    """Column and value."""


@dataclass(frozen=True)
class Preset:
    """A published set."""

    repository: str
    """`owner/name` of a dataset on the Hub, or `github:owner/name`."""
    commit: str
    prompt: str
    """Column of the prompts."""
    category: str
    """Column of the categories."""
    licence: str
    harmful: PresetHalf
    harmless: PresetHalf | None = None
    sha256: str | None = None
    """Hash of the only file at `commit`, for a host that does not report hashes."""


PRESETS = {
    "jailbreakbench": Preset(
        repository="JailbreakBench/JBB-Behaviors",
        commit="886acc352a31533ffbcf4ef22c744658688086fc",
        prompt="Goal",
        category="Category",
        licence="MIT",
        harmful=PresetHalf("data/harmful-behaviors.csv"),
        harmless=PresetHalf("data/benign-behaviors.csv"),
    ),
    # The authors' CSV, because every copy on the Hub is parquet.
    "strongreject": Preset(
        repository="github:alexandrasouly/strongreject",
        commit="f7cad6c17e624e21d8df2278e918ae1dddb4cb56",
        prompt="forbidden_prompt",
        category="category",
        licence="MIT",
        harmful=PresetHalf("strongreject_dataset/strongreject_dataset.csv"),
        sha256="4dd70357e4ff8b5d0ba5ebafecab5d6dd5633ce8046e3dd1c8bd93e64de44381",
    ),
    "simple-safety-tests": Preset(
        repository="Bertievidgen/SimpleSafetyTests",
        commit="98223c5d8c4059c8f4d8fe2fec8720ee8a20d3c5",
        prompt="prompt",
        category="harm_area",
        licence="CC-BY-2.0",
        harmful=PresetHalf("sst_test_cases.csv"),
    ),
    "xstest": Preset(
        repository="Paul/XSTest",
        commit="f600c994b256f12867dfa5b3eb3d545a3e62f8b5",
        prompt="prompt",
        category="type",
        licence="CC-BY-4.0",
        harmful=PresetHalf("xstest_prompts.csv", where=("label", "unsafe")),
        harmless=PresetHalf("xstest_prompts.csv", where=("label", "safe")),
    ),
}


@dataclass(frozen=True)
class PresetSelection:
    """A preset as the user names it: `NAME` or `NAME@COMMIT`."""

    name: str
    preset: Preset
    commit: str


@dataclass(frozen=True)
class PromptSetDownload:
    """Files to fetch before a run starts."""

    name: str
    """The name of the set as the user wrote it; the key in `FetchedSets`."""
    repository: str
    """`owner/name` of a dataset on the Hub, or `github:owner/name`."""
    revision: str
    files: dict[str, str | None]
    """Path -> sha256, or None when it is unknown."""


@dataclass(frozen=True)
class FetchedSet:
    """The files of a `PromptSetDownload` in `folder`, as of `commit` (40 hex digits)."""

    folder: Path
    commit: str


FetchedSets = Mapping[str, FetchedSet]
"""By `PromptSetDownload.name`; empty when the policy names only local files and embedded sets."""


def list_downloads(policy: Policy) -> list[PromptSetDownload]:
    """Return the files that the policy needs, those of one preset together.

    Raises ConfigurationError for an unknown name and a missing half.
    """
    files: dict[PresetSelection, dict[str, str | None]] = {}
    halves: list[tuple[str | None, HalfName]] = [
        (policy.evaluation.prompts, "harmful"),
        (resolve_benign(policy), "harmless"),
    ]
    for origin, half_name in halves:
        for selection in select_presets(origin):
            half = _select_half(selection, half_name)
            sha256 = selection.preset.sha256 if selection.commit == selection.preset.commit else None
            files.setdefault(selection, {})[half.file] = sha256
    downloads = [
        PromptSetDownload(selection.name, selection.preset.repository, selection.commit, paths)
        for selection, paths in files.items()
    ]
    if match := match_hub_task(policy.evaluation.task):
        downloads.append(PromptSetDownload(match[0], match["repository"], match["commit"], {match["file"]: None}))
    return downloads


def resolve_benign(policy: Policy) -> str | None:
    """Return the origin of harmless prompts: `benign` of the policy, or the sets of `prompts` with a harmless half."""
    if policy.evaluation.benign is not None:
        return policy.evaluation.benign
    selections = select_presets(policy.evaluation.prompts)
    return ",".join(selection.name for selection in selections if selection.preset.harmless) or None


def select_presets(origin: str | None) -> list[PresetSelection]:
    """Return the presets that `origin` names; none for None, `embedded` or a file.

    Raises ConfigurationError when `origin` is neither a file nor a list of presets.
    """
    if origin is None:
        return []
    if is_path(origin) and is_file(origin):
        return []
    names = [name.strip() for name in origin.split(",")]
    if origin != EMBEDDED and not any(name.partition("@")[0] in PRESETS for name in names) and is_file(origin):
        return []
    for name in (origin, *names):
        require_no_file(name)
    return [] if origin == EMBEDDED else list({name: _parse_preset(name) for name in names}.values())


def match_hub_task(origin: str | None) -> re.Match[str] | None:
    """Return the match of HUB_TASK with a task that is a file of a dataset on the Hub; None for other tasks.

    Raises ConfigurationError for one without a commit.
    """
    if origin is None or is_path(origin) or not _LIKE_HUB_TASK.fullmatch(origin):
        return None
    match = HUB_TASK.fullmatch(origin)
    if match is not None:
        require_no_file(origin)
    elif not is_file(origin):
        raise ConfigurationError(
            f"the task {origin!r:.200} is neither a file nor ORG/DATASET@COMMIT:FILE",
            cause="a dataset of the Hub is read at one commit of 40 hex digits; branches and tags can move",
            hint="copy the commit from the dataset's page; for a local file, write ./FILE",
        )
    return match


def read_hub_task(match: re.Match[str], settings: EvaluationSection, sets: FetchedSets) -> list[PromptRow]:
    """Return the rows of the task of a `match_hub_task`. Raises ConfigurationError for one of another form."""
    columns = [column.strip() for column in (settings.task_columns or "prompt,expected").split(",")]
    if len(columns) != 2 or not all(columns):
        raise ConfigurationError(
            f"task_columns cannot be {settings.task_columns!r}", hint='write two names, such as "question,answer"'
        )
    if settings.task_match == "choice":
        raise ConfigurationError(
            "task_match choice needs a local file", hint="write prompt, choices and expected to a JSONL file"
        )
    return read_columns(sets[match[0]].folder / match["file"], columns[0], columns[1])


def require_no_file(name: str) -> None:
    """Raise ConfigurationError if a local file has the name of a prompt set, `embedded` or `self`."""
    if is_file(name):
        raise ConfigurationError(
            f"{name!r:.200} is ambiguous: it is a name of prompts, and a local file has this name",
            cause="a file with such a name must be written as a path",
            hint=f"write ./{name:.200} for the file; for the prompts, run in another directory, or rename the file",
        )


def read_rows(origin: str | None, half: HalfName, sets: FetchedSets) -> list[PromptRow]:
    """Return one half of every preset that `origin` names, without repeated wordings.

    Raises ConfigurationError, naming the file, the column and the line, for a file of another form.
    """
    return drop_duplicates(row for selection in select_presets(origin) for row in _read_half(selection, half, sets))


def describe_origin(origin: str, sets: FetchedSets) -> tuple[str, str]:
    """Return `name@commit` and the licence of every preset that `origin` names, for the report."""
    selections = select_presets(origin)
    names = [f"{selection.name.partition('@')[0]}@{sets[selection.name].commit}" for selection in selections]
    return ", ".join(names), ", ".join(dict.fromkeys(selection.preset.licence for selection in selections))


def _parse_preset(text: str) -> PresetSelection:
    name, at, commit = text.partition("@")
    preset = PRESETS.get(name)
    if preset is None:
        nearest = difflib.get_close_matches(name, PRESETS, n=1)
        raise ConfigurationError(
            f"there is no prompt set or file {name!r}",
            cause="only published sets can be combined with commas; a file, or embedded, must be named alone",
            hint=f"did you mean {nearest[0]}?" if nearest else f"known sets are {', '.join(PRESETS)}",
        )
    if at and not COMMIT.fullmatch(commit):
        raise ConfigurationError(
            f"{text!r} does not name a commit",
            cause="a commit has 40 hex digits; branches and tags can move",
            hint=f"write {name}@COMMIT, or {name} alone",
        )
    return PresetSelection(text, preset, commit if at else preset.commit)


def _select_half(selection: PresetSelection, half_name: HalfName) -> PresetHalf:
    half = selection.preset.harmful if half_name == "harmful" else selection.preset.harmless
    if half is None:
        names = [name for name, preset in PRESETS.items() if preset.harmless]
        raise ConfigurationError(
            f"{selection.name} has no harmless prompts",
            hint=f"--benign takes {', '.join(names)}, embedded or a JSONL file",
        )
    return half


def _read_half(selection: PresetSelection, half_name: HalfName, sets: FetchedSets) -> list[PromptRow]:
    preset, half = selection.preset, _select_half(selection, half_name)
    path = sets[selection.name].folder / half.file
    columns = [preset.prompt, preset.category, *(half.where[:1] if half.where else ())]
    hint = f"name another commit, {selection.name.partition('@')[0]}@COMMIT, or write the prompts to a JSONL file"

    def form_error(what: str) -> ConfigurationError:
        return ConfigurationError(what, cause=f"{selection.name} does not have the expected form", hint=hint)

    rows = []
    for location, fields in read_table(path):
        for column in columns:
            if column not in fields:
                raise form_error(f"{location} has no column {column!r}")
        if half.where is None or fields[half.where[0]] == half.where[1]:
            prompt = require_text(fields, preset.prompt, location, hint)
            rows.append(PromptRow(prompt, parse_category(fields[preset.category], location)))
    if not rows:
        raise form_error(f"{path} holds no {half_name} prompts")
    return rows
