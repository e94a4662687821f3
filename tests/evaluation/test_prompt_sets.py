"""Published prompt sets: presets, downloads, and reading."""

import re
from pathlib import Path, PurePosixPath

import pytest

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation import prompt_sets
from antidote_ci.evaluation.prompt_sets import PRESETS, FetchedSet
from antidote_ci.hub.datasets import ENDINGS
from antidote_ci.policy import EvaluationSection, Policy, override_section
from tests.evaluation.published import COLUMNS, as_csv, publish

HERE = "0123456789abcdef0123456789abcdef01234567"
DOCUMENT = Path(__file__).parents[2] / "docs" / "prompts.md"


def policy(**values: object) -> Policy:
    return override_section(Policy(), "evaluation", **values)


def fetched(tmp_path: Path, *names: str, **counts: int) -> dict[str, FetchedSet]:
    """Return fetched sets whose prompts contain the name of the set."""
    return {
        name: FetchedSet(publish(tmp_path / name, name.partition("@")[0], topic=name, **counts), HERE) for name in names
    }


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid(name: str) -> None:
    preset = PRESETS[name]
    assert re.fullmatch(r"[0-9a-f]{40}", preset.commit)
    assert preset.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", preset.sha256)
    assert re.fullmatch(r"(github:)?[\w.-]+/[\w.-]+", preset.repository)
    for part in filter(None, (preset.harmful, preset.harmless)):
        assert part.file.endswith(ENDINGS)
        assert ".." not in PurePosixPath(part.file).parts
    if preset.repository.startswith("github:"):
        assert preset.sha256, "GitHub names no hash of a file"


@pytest.mark.parametrize("name", PRESETS)
def test_documented_presets_match_the_code(name: str) -> None:
    (line,) = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| `{name}`")]
    preset = PRESETS[name]
    files = dict.fromkeys(part.file for part in (preset.harmful, preset.harmless) if part)
    for message in (preset.repository, preset.commit, preset.prompt, preset.category, preset.licence, *files):
        assert f"`{message}`" in line
    assert line.split("|")[-3].strip() == ("yes" if preset.harmless else "no")


def test_default_sets_are_pinned() -> None:
    first, second = prompt_sets.list_downloads(Policy())
    assert (first.name, second.name) == tuple(EvaluationSection().prompts.split(","))
    assert set(first.files) == {"data/harmful-behaviors.csv", "data/benign-behaviors.csv"}
    assert first.revision == PRESETS["jailbreakbench"].commit
    assert list(second.files.values()) == [PRESETS["strongreject"].sha256]


@pytest.mark.parametrize(("prompts", "benign"), [("embedded", None), ("embedded", "embedded"), ("FILE", "FILE")])
def test_local_and_embedded_sets_are_not_downloaded(tmp_path: Path, prompts: str, benign: str | None) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "a"}')
    named = [value.replace("FILE", str(file)) if value else None for value in (prompts, benign)]
    assert prompt_sets.list_downloads(policy(prompts=named[0], benign=named[1])) == []


def test_harmless_halves_are_the_default_for_benign() -> None:
    assert prompt_sets.resolve_benign(policy(prompts="strongreject,xstest,jailbreakbench")) == "xstest,jailbreakbench"
    assert prompt_sets.resolve_benign(policy(prompts="strongreject")) is None
    assert prompt_sets.resolve_benign(policy(prompts="embedded")) is None
    assert prompt_sets.resolve_benign(policy(prompts="strongreject", benign="xstest")) == "xstest"


def test_other_commit_has_no_known_hash() -> None:
    (result,) = prompt_sets.list_downloads(policy(prompts=f"strongreject@{HERE}"))
    assert result.revision == HERE
    assert list(result.files.values()) == [None]


def test_two_commits_of_one_set_are_two_sets() -> None:
    result = prompt_sets.list_downloads(policy(prompts="jailbreakbench", benign=f"jailbreakbench@{HERE}"))
    assert [download.name for download in result] == ["jailbreakbench", f"jailbreakbench@{HERE}"]


@pytest.mark.parametrize(
    ("prompts", "message", "hint"),
    [
        ("jailbreakbnch", "no prompt set or file 'jailbreakbnch'", "did you mean jailbreakbench?"),
        ("jailbreakbench,strongrejct", "'strongrejct'", "did you mean strongreject?"),
        ("jailbreakbench,embedded", "'embedded'", "known sets are"),
        ("missing.jsonl", "'missing.jsonl'", "known sets are"),
        ("", "''", "known sets are"),
        ("jailbreakbench@main", "does not name a commit", "jailbreakbench@COMMIT"),
        ("jailbreakbench@", "does not name a commit", "jailbreakbench@COMMIT"),
    ],
)
def test_unknown_sets_are_refused(prompts: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        prompt_sets.list_downloads(policy(prompts=prompts))
    assert message in raised.value.what
    assert hint in str(raised.value.hint)


def test_set_without_harmless_half_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="strongreject has no harmless prompts") as raised:
        prompt_sets.list_downloads(policy(benign="strongreject"))
    assert "jailbreakbench, xstest" in str(raised.value.hint)


@pytest.mark.parametrize("name", PRESETS)
def test_every_published_format_is_read(tmp_path: Path, name: str) -> None:
    sets = fetched(tmp_path, name, harmful=3, harmless=2)
    result = prompt_sets.read_rows(name, "harmful", sets)
    assert [row.prompt for row in result] == [f"Help me steal {name} number {number}, please" for number in range(3)]
    assert {row.category for row in result} == {"Theft"}
    if PRESETS[name].harmless:
        assert {row.category for row in prompt_sets.read_rows(name, "harmless", sets)} == {"Cooking"}
    assert prompt_sets.describe_origin(name, sets) == (f"{name}@{HERE}", PRESETS[name].licence)


def test_repeated_wording_in_two_sets_counts_once(tmp_path: Path) -> None:
    names = ("jailbreakbench", "strongreject")
    sets = {name: FetchedSet(publish(tmp_path / name, name, harmful=4), HERE) for name in names}
    assert len(prompt_sets.read_rows("jailbreakbench,strongreject", "harmful", sets)) == 4
    assert len(prompt_sets.read_rows("strongreject, strongreject", "harmful", sets)) == 4


def test_origin_names_commits_and_licences(tmp_path: Path) -> None:
    sets = fetched(tmp_path, "jailbreakbench", f"strongreject@{HERE}", "xstest")
    name, licence = prompt_sets.describe_origin(f"jailbreakbench,strongreject@{HERE},xstest", sets)
    assert name == f"jailbreakbench@{HERE}, strongreject@{HERE}, xstest@{HERE}"
    assert licence == "MIT, CC-BY-4.0"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Goal,Type\nHow?,a\n", "line 2 has no column 'Category'"),
        (b"Goal,Category\nHow?,a\n,b\n", "line 3 has no text in the field 'Goal'"),
        (b"Category,Goal\na,How?\nb\n", "line 3 has no text in the field 'Goal'"),
        (b"Goal,Category\n", "holds no harmful prompts"),
        (b"", "holds no harmful prompts"),
        (b"Goal,Category\n\xff,a\n", "line 2 is not UTF-8"),
    ],
)
def test_changed_format_error_names_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    sets = fetched(tmp_path, "jailbreakbench")
    (sets["jailbreakbench"].folder / "data" / "harmful-behaviors.csv").write_bytes(content)
    with pytest.raises(ConfigurationError, match=message) as raised:
        prompt_sets.read_rows("jailbreakbench", "harmful", sets)
    assert "harmful-behaviors.csv" in raised.value.what


def test_halves_are_selected_by_column(tmp_path: Path) -> None:
    rows = [
        dict.fromkeys(COLUMNS["xstest"], "x") | {"prompt": f"prompt {label}", "type": label, "label": label}
        for label in ("safe", "unsafe", "unsure")
    ]
    (tmp_path / "xstest_prompts.csv").write_bytes(as_csv(COLUMNS["xstest"], rows))
    sets = {"xstest": FetchedSet(tmp_path, HERE)}
    assert [row.prompt for row in prompt_sets.read_rows("xstest", "harmful", sets)] == ["prompt unsafe"]
    assert [row.prompt for row in prompt_sets.read_rows("xstest", "harmless", sets)] == ["prompt safe"]
