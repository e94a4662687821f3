"""Published prompt sets by name, at pinned commits: docs/prompts.md.

Nothing is fetched here. `list_downloads` says what a policy needs; whoever has it fetched hands the folders to
`read_rows`.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import tables
from antidote_ci.evaluation.prompts import drop_duplicates, parse_category
from antidote_ci.identifiers import COMMIT
from antidote_ci.policy import EMBEDDED, Policy
from antidote_ci.records import PromptRow

HalfName = Literal["harmful", "harmless"]


@dataclass(frozen=True)
class PresetHalf:
    """One half of a set: a file, or the rows of one in which a column has a value."""

    file: str
    where: tuple[str, str] | None = None


@dataclass(frozen=True)
class Preset:
    """One published set."""

    repository: str
    """`owner/name` of a dataset on the Hub, or `github:owner/name`."""
    commit: str | None
    """None where no commit could be verified: main is resolved when the run starts."""
    prompt: str
    category: str
    licence: str
    harmful: PresetHalf
    harmless: PresetHalf | None = None
    non_commercial: bool = False
    sha256: str | None = None
    """Of the one file at `commit`, where its host names none."""


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
    # Every copy on the Hub is parquet, which the standard library cannot read: the authors' own CSV.
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
    "beavertails-evaluation": Preset(
        repository="PKU-Alignment/BeaverTails-Evaluation",
        commit=None,
        prompt="prompt",
        category="category",
        licence="CC-BY-NC-4.0",
        harmful=PresetHalf("v1/test.jsonl.xz"),
        non_commercial=True,
    ),
}


@dataclass(frozen=True)
class PresetSelection:
    """A preset as someone named it: `NAME` or `NAME@COMMIT`."""

    name: str
    preset: Preset
    commit: str | None


@dataclass(frozen=True)
class PromptSetDownload:
    """Files that must be fetched before a run can start."""

    name: str
    """As it was named: the key under which `FetchedSets` holds the answer."""
    repository: str
    """`owner/name` of a dataset on the Hub, or `github:owner/name`."""
    revision: str | None
    files: dict[str, str | None]
    """Path -> sha256, where it is known beforehand."""


@dataclass(frozen=True)
class FetchedSet:
    """The answer to one `PromptSetDownload`: its files under `folder`, as they are at `commit` (40 hex)."""

    folder: Path
    commit: str


FetchedSets = Mapping[str, FetchedSet]
"""By `Wanted.name`; empty when only files and embedded sets are named."""


def list_downloads(policy: Policy) -> list[PromptSetDownload]:
    """What must be fetched for this policy, each repository and commit once.

    Raises ConfigurationError for an unknown name, a half that a set does not have, and a licence that was not accepted.
    """
    files: dict[PresetSelection, dict[str, str | None]] = {}
    halves: list[tuple[str | None, HalfName]] = [
        (policy.evaluation.prompts, "harmful"),
        (resolve_benign(policy), "harmless"),
    ]
    for origin, half in halves:
        for named in select_presets(origin):
            part = _select_half(named, half)
            _require_licence(named, policy)
            known = named.preset.sha256 if named.commit == named.preset.commit else None
            files.setdefault(named, {})[part.file] = known
    return [
        PromptSetDownload(named.name, named.preset.repository, named.commit, paths) for named, paths in files.items()
    ]


def resolve_benign(policy: Policy) -> str | None:
    """Where harmless prompts come from: as named, else the sets named for `prompts` that have a harmless half."""
    if policy.evaluation.benign is not None:
        return policy.evaluation.benign
    return ",".join(named.name for named in select_presets(policy.evaluation.prompts) if named.preset.harmless) or None


def select_presets(origin: str | None) -> list[PresetSelection]:
    """The presets that `origin` names, in order; none for None, `embedded` or a file.

    Raises ConfigurationError for what is neither.
    """
    if origin is None or origin == EMBEDDED:
        return []
    names = [name.strip() for name in origin.split(",")]
    if not any(name.partition("@")[0] in PRESETS for name in names) and Path(origin).is_file():
        return []
    return list({name: _parse_preset(name) for name in names}.values())


def read_rows(origin: str | None, half: HalfName, sets: FetchedSets) -> list[PromptRow]:
    """One half of every preset that `origin` names, the first of each wording kept.

    Raises ConfigurationError naming the file, the column and the line.
    """
    return drop_duplicates(row for named in select_presets(origin) for row in _read_half(named, half, sets))


def describe_origin(origin: str, sets: FetchedSets) -> tuple[str, str]:
    """`name@commit` and licence of every preset that `origin` names, for the report."""
    found = select_presets(origin)
    names = [f"{named.name.partition('@')[0]}@{sets[named.name].commit}" for named in found]
    return ", ".join(names), ", ".join(dict.fromkeys(named.preset.licence for named in found))


def _parse_preset(text: str) -> PresetSelection:
    name, at, commit = text.partition("@")
    preset = PRESETS.get(name)
    if preset is None:
        nearest = difflib.get_close_matches(name, PRESETS, n=1)
        raise ConfigurationError(
            f"there is no prompt set or file {name!r}",
            cause="sets are named with commas between them; a file, or embedded, is named alone",
            hint=f"did you mean {nearest[0]}?" if nearest else f"known sets are {', '.join(PRESETS)}",
        )
    if at and not COMMIT.fullmatch(commit):
        raise ConfigurationError(
            f"{text!r} does not name a commit",
            cause="a commit is written with all its 40 hex digits, so that it can never move",
            hint=f"write {name}@COMMIT, or {name} alone",
        )
    return PresetSelection(text, preset, commit if at else preset.commit)


def _select_half(named: PresetSelection, half: HalfName) -> PresetHalf:
    part = named.preset.harmful if half == "harmful" else named.preset.harmless
    if part is None:
        having = [name for name, preset in PRESETS.items() if preset.harmless]
        raise ConfigurationError(
            f"{named.name} has no harmless prompts",
            hint=f"--benign takes {', '.join(having)}, embedded or a JSONL file",
        )
    return part


def _require_licence(named: PresetSelection, policy: Policy) -> None:
    if named.preset.non_commercial and not policy.evaluation.accept_licence:
        raise ConfigurationError(
            f"{named.name} is licensed for non-commercial use only ({named.preset.licence})",
            cause="it is used only by those who say that they may",
            hint="add --accept-licence, or name another set",
        )


def _read_half(named: PresetSelection, half: HalfName, sets: FetchedSets) -> list[PromptRow]:
    preset, part = named.preset, _select_half(named, half)
    path = sets[named.name].folder / part.file
    needed = [preset.prompt, preset.category, *(part.where[:1] if part.where else ())]
    found = []
    for where, fields in tables.read_table(path):
        for name in needed:
            if name not in fields:
                raise _changed_set_error(named, f"{where} has no column {name!r}")
        if part.where is None or fields[part.where[0]] == part.where[1]:
            found.append(_parse_row(named, fields, where))
    if not found:
        raise _changed_set_error(named, f"{path} holds no {half} prompts")
    return found


def _parse_row(named: PresetSelection, fields: dict[str, Any], where: str) -> PromptRow:
    prompt = tables.require_text(fields, named.preset.prompt, where, _hash_hint(named))
    return PromptRow(prompt, parse_category(fields[named.preset.category], where))


def _changed_set_error(named: PresetSelection, what: str) -> ConfigurationError:
    return ConfigurationError(what, cause=f"{named.name} is not of the form that is known", hint=_hash_hint(named))


def _hash_hint(named: PresetSelection) -> str:
    name = named.name.partition("@")[0]
    return f"name another commit of it, {name}@COMMIT, or write its prompts into a JSONL file"
