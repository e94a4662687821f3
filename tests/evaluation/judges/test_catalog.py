"""The names of judges and the sources of their weights."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.evaluation.answer_store import AnswerStore
from antidote_ci.evaluation.judges.catalog import (
    NAMES,
    REPOSITORIES,
    FetchedJudge,
    JudgeDownload,
    JudgeSpec,
    build_judge,
    parse_judge_specs,
    resolve_download,
)
from antidote_ci.evaluation.judges.refusal import RefusalJudge
from antidote_ci.policy import EvaluationSection
from antidote_ci.sandbox.client import Sandbox

SETTINGS = EvaluationSection()


@given(st.sampled_from(sorted(REPOSITORIES)), st.sampled_from([None, "main", "refs/pr/3", "./judge", "/judge", "~/j"]))
def test_location_selects_the_download(name: str, where: str | None) -> None:
    [spec] = parse_judge_specs(name if where is None else f"{name}@{where}")
    assert spec == JudgeSpec(name, where)
    if where is not None:
        is_folder = where[0] in "./~"
        expected = JudgeDownload(where, None) if is_folder else JudgeDownload(REPOSITORIES[name].id, where)
        assert resolve_download(spec) == expected


def test_two_judges_can_be_named() -> None:
    assert parse_judge_specs("qwen3guard, refusal") == [JudgeSpec("qwen3guard"), JudgeSpec("refusal")]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("qwen3gard", "no judge 'qwen3gard'", "did you mean qwen3guard"),
        ("zzzz", "no judge 'zzzz'", "endpoint, refusal"),
        ("", "no judge ''", "judges are"),
        ("refusal,", "no judge ''", "judges are"),
        ("refusal,refusal", "different judges", "--judge"),
        ("refusal,endpoint,qwen3guard", "at most 2", "--judge"),
        ("qwen3guard@", "not a valid location", "qwen3guard@REVISION"),
        ("refusal@main", "not a valid location", "--judge refusal"),
    ],
)
def test_invalid_judge_gives_a_hint(text: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        parse_judge_specs(text)
    assert message in f"{raised.value.what} {raised.value.cause}"
    assert raised.value.hint is not None
    assert hint in raised.value.hint


def test_pinned_commits_have_40_hex_digits() -> None:
    for name, repository in REPOSITORIES.items():
        assert re.fullmatch(r"[0-9a-f]{40}", repository.commit), name
        assert resolve_download(JudgeSpec(name)) == JudgeDownload(repository.id, repository.commit)


@pytest.mark.parametrize("name", ["refusal", "endpoint"])
def test_judges_without_weights_download_nothing(name: str) -> None:
    assert resolve_download(JudgeSpec(name)) is None


def test_rule_judge_is_never_a_fallback(tmp_path: Path, sandbox: Sandbox) -> None:
    store = AnswerStore(tmp_path)
    assert isinstance(build_judge(FetchedJudge(JudgeSpec("refusal")), SETTINGS, sandbox, store), RefusalJudge)
    for name in set(NAMES) - {"refusal", "endpoint"}:
        with pytest.raises(ValueError, match=name):
            build_judge(FetchedJudge(JudgeSpec(name)), SETTINGS, sandbox, store)
    with pytest.raises(ConfigurationError, match="the judge endpoint has no address"):
        build_judge(FetchedJudge(JudgeSpec("endpoint")), SETTINGS, sandbox, store)


def test_every_judge_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "judges.md").read_text()
    for name, repository in REPOSITORIES.items():
        assert f"| `{name}` |" in page
        assert repository.id in page
        assert repository.commit in page
