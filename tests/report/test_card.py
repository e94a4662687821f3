"""The card: the owner's text and metadata survive, ours is valid, and a second run changes nothing."""

import dataclasses
import io
import re

import pytest
import yaml
from huggingface_hub import ModelCard, ModelCardData
from hypothesis import example, given, settings
from hypothesis import strategies as st

from antidote_ci.checkpoint.card import CardParts, split_card
from antidote_ci.records import Report, ReportedReference
from antidote_ci.report.card import BEGIN, END, render_card
from tests.report.card_samples import CARDS, OWNERS
from tests.report.samples import BARE, EVERY_KIND, REPAIRED, SERVED, SHA, TWO_JUDGES, hostile_reports


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(EVERY_KIND) | hostile_reports, CARDS)
@example(REPAIRED, OWNERS)
@example(REPAIRED, OWNERS.replace("\n", "\r\n"))
@example(BARE, "a\r")
@example(BARE, "---\n" + "[" * 3000 + "\n---\n")
@example(BARE, f"{BEGIN} stray\ntext {END}{END}{BEGIN}\n")
def test_a_second_time_changes_nothing(report: Report, source_card: str) -> None:
    once = render_card(report, source_card)
    assert render_card(report, once) == once


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(EVERY_KIND), CARDS.filter(lambda text: text and not ours(text)))
def test_the_owners_text_is_kept_byte_for_byte(report: Report, source_card: str) -> None:
    body, old = split_card(render_card(report, source_card)).body, split_card(source_card).body
    # Without metadata of its own a card is set off from ours by one blank line.
    body = body if split_card(source_card).opening else body.lstrip("\r\n") if not old[:1].isspace() else body
    kept = body[: body.rindex(BEGIN)]
    assert old in kept
    assert not kept.replace(old, "", 1).strip()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(EVERY_KIND), CARDS)
def test_the_owners_metadata_is_kept(report: Report, source_card: str) -> None:
    old, new = loaded(split_card(source_card)), loaded(split_card(render_card(report, source_card)))
    if old is None:
        assert split_card(render_card(report, source_card)).metadata == split_card(source_card).metadata
        return
    assert new is not None
    assert [key for key in new if key in old] == list(old)
    for key in old.keys() - {"tags", "model-index"}:
        assert repr(new[key]) == repr(old[key])


def test_keys_that_are_not_ours_keep_their_very_characters() -> None:
    merged = render_card(REPAIRED, OWNERS)
    for line in OWNERS.splitlines():
        if not re.match(r"  - recipes|- name|  results|  - task|    dataset|    metrics|    - \{", line):
            assert line in merged.splitlines()
    assert merged.index("# who trained it") < merged.index("datasets:")


def test_metadata_is_merged_and_results_are_replaced_by_key() -> None:
    worse = dataclasses.replace(REPAIRED, verdict="fail")
    data = yaml.safe_load(split_card(render_card(REPAIRED, render_card(worse, OWNERS))).metadata)
    assert data["base_model"] == "owner/base"
    assert data["tags"] == ["recipes", "antidote-ci", "antidote", "safety-repair"]
    (index,) = data["model-index"]
    assert index["name"] == "recipes"
    metrics = [(metric["type"], metric["value"]) for result in index["results"] for metric in result["metrics"]]
    assert metrics == [("exact_match", 0.5), ("non_refusal_rate", 0.17), ("over_refusal", 0.05), ("accuracy", 0.86)]


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(EVERY_KIND) | hostile_reports)
def test_the_hubs_own_reader_takes_the_card(report: Report) -> None:
    for source_card in ("", "# Mine\n", OWNERS):
        data = ModelCard(render_card(report, source_card)).data
        assert isinstance(data, ModelCardData)
        assert data.eval_results
        for result in data.eval_results:
            assert 0 <= result.metric_value <= 1
        assert data.tags
        assert "antidote-ci" in data.tags
        assert isinstance(data.model_name, str)
        assert data.model_name


def test_a_result_carries_its_bounds_and_its_judge() -> None:
    data = yaml.safe_load(split_card(render_card(TWO_JUDGES, "")).metadata)
    guard, rules, *_ = (metric for each in data["model-index"][0]["results"] for metric in each["metrics"])
    assert (guard["type"], rules["type"]) == ("harmful_score", "non_refusal_rate")
    assert guard["args"] == {
        "lower_bound": 0.014,
        "upper_bound": 0.051,
        "confidence": 0.975,
        "n": 413,
        "threshold": 0.1,
        "judge": "qwen3guard: Qwen/Qwen3Guard-Gen-0.6B@0123456789ab, strict mode",
    }


def test_of_a_served_model_no_library_is_claimed() -> None:
    assert "library_name" not in yaml.safe_load(split_card(render_card(SERVED, "")).metadata)


@pytest.mark.parametrize(
    ("identity", "revision", "base"),
    [
        ("demo/aligned", SHA, "demo/aligned"),
        ("models/aligned", None, None),
        ("../aligned", SHA, None),
        (REPAIRED.source.id, SHA, None),
    ],
)
def test_a_card_from_nothing_names_a_base_only_on_the_hub(
    identity: str, revision: str | None, base: str | None
) -> None:
    report = dataclasses.replace(REPAIRED, reference=ReportedReference(identity, revision, "option"))
    data = yaml.safe_load(split_card(render_card(report, "")).metadata)
    assert data.get("base_model") == base
    assert data.get("base_model_relation") == (base and "adapter")
    assert data["library_name"] == "peft"


def test_the_failed_weights_figures_do_not_become_the_cards() -> None:
    failed = dataclasses.replace(REPAIRED, verdict="fail")
    data = yaml.safe_load(split_card(render_card(failed, "")).metadata)
    assert data["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.88
    assert data["tags"] == ["antidote-ci"]


def test_the_blocks_of_earlier_runs_become_one() -> None:
    block = render_card(REPAIRED, "")[render_card(REPAIRED, "").index(BEGIN) :]
    merged = render_card(BARE, f"# Mine\n\n{block}\nbetween\n{block}\nafter\n")
    assert merged.count(BEGIN) == merged.count(END) == 1
    assert "between\n" in merged
    assert "after\n" in merged
    assert "88.0 %" not in merged


def test_metadata_that_unfolds_into_billions_is_merged_at_once() -> None:
    """Each list holds the one before twice: comparing two copies of it would take 2**40 steps."""
    levels = "".join(f"k{index}: &a{index} [*a{index - 1}, *a{index - 1}]\n" for index in range(1, 41))
    merged = render_card(REPAIRED, f"---\nk0: &a0 [x]\n{levels}---\n")
    assert "antidote-ci" in yaml.safe_load(split_card(merged).metadata)["tags"]


def ours(text: str) -> bool:
    return BEGIN in text and END in text


def loaded(parts: CardParts) -> dict[object, object] | None:
    """The metadata, where it is a mapping that PyYAML can read."""
    try:
        data = yaml.safe_load(io.StringIO(parts.metadata))
    except (yaml.YAMLError, ValueError, IndexError, RecursionError):
        return None
    return {} if data is None else data if isinstance(data, dict) else None
