"""The card where it will stand: on the source, or in a repository of the repaired weights' own."""

import dataclasses
import math
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from huggingface_hub import HfApi, ModelCard, ModelCardData
from huggingface_hub.repocard import metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results
from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.checkpoint.card import split_card
from antidote_ci.records import Report, ReportedReference, ReportedSource
from antidote_ci.report import LOCAL_CARD, CardLocation
from antidote_ci.report.card import BEGIN, END, render_card
from antidote_ci.report.front_matter import find_fault
from antidote_ci.report.metadata import DATASET
from loopback_hub import LoopbackHub
from tests.report.card_samples import CARDS, OURS, OWNERS, PLACES, sound_cards
from tests.report.samples import (
    CALIBRATED_REPAIR,
    EVERY_KIND,
    REPAIRED,
    SHA,
    TWO_JUDGES_REPAIR,
    hostile_reports,
)

CLEAN = CardLocation("demo/clean", own=True)
MERGED = dataclasses.replace(
    CALIBRATED_REPAIR,
    source=ReportedSource("demo/recipes", SHA, "full"),
    reference=ReportedReference("demo/aligned", SHA, "option"),
)
"""A repair of full weights."""
SOURCE = """---
license: other   # as the base's
license_name: demo-licence
license_link: https://example.org/licence
language: [en]
datasets: [owner/recipes]
extra_gated_prompt: Be kind.
base_model: demo/aligned
base_model_relation: finetune
new_version: demo/recipes-2
model-index:
- name: recipes
  results:
  - task: {type: text-generation}
    dataset: {type: owner/recipes, name: Recipes}
    metrics:
    - {type: exact_match, value: 0.5}
---

# Recipes

`from_pretrained("demo/recipes")`
"""
LARGE = st.sampled_from([*EVERY_KIND, MERGED])


def metadata(text: str) -> dict[str, Any]:
    return dict(yaml.safe_load(split_card(text).metadata))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HfApi]:
    with LoopbackHub(tmp_path_factory.mktemp("hub")) as hub:
        yield HfApi(endpoint=hub.endpoint, token="hf_write")


def is_accepted(client: HfApi, text: str) -> bool:
    """By the Hub's validation, asked as the client asks before a commit."""
    try:
        with warnings.catch_warnings(action="ignore"):
            client._validate_yaml(text)
    except ValueError:
        return False
    return True


@settings(max_examples=100, deadline=None)
@given(LARGE, sound_cards(), PLACES)
def test_foreign_text_and_keys_are_byte_identical(
    report: Report, source: tuple[str, dict[str, str]], place: CardLocation
) -> None:
    text, chunks = source
    written = split_card(render_card(report, text, dataclasses.replace(place, card=place.card and text)))
    for key in chunks.keys() - OURS:
        assert chunks[key] in written.metadata
    body = split_card(text).body
    assert BEGIN in body or body in written.body


@settings(max_examples=100, deadline=None)
@given(LARGE | hostile_reports, CARDS | sound_cards().map(lambda made: made[0]), PLACES)
def test_a_second_time_changes_nothing_anywhere(report: Report, source_card: str, place: CardLocation) -> None:
    once = render_card(report, source_card, place)
    if place.own:
        standing = dataclasses.replace(place, card=once)
        assert render_card(report, source_card, standing) == once
    if place.card is None:
        assert render_card(report, once, place) == once


@settings(max_examples=60, deadline=None)
@given(LARGE | hostile_reports, sound_cards() | CARDS.map(lambda text: (text, {})), PLACES)
def test_a_card_without_faults_is_read_by_every_reader_of_the_hub(
    client: HfApi,
    tmp_path_factory: pytest.TempPathFactory,
    report: Report,
    source: tuple[str, object],
    place: CardLocation,
) -> None:
    text, _ = source
    place = dataclasses.replace(place, card=place.card and text)
    if find_fault(text) is not None:
        return
    written = render_card(report, text, place)
    data = ModelCard(written.removeprefix("\ufeff")).data
    assert isinstance(data, ModelCardData)
    assert data.eval_results
    assert "antidote-ci" in (data.tags or [])
    path = tmp_path_factory.getbasetemp() / "README.md"
    path.write_bytes(written.encode())
    read = metadata_load(path)
    assert read is not None
    name, results = model_index_to_eval_results(read["model-index"])
    assert isinstance(name, str)
    ours = [each for each in results if each.dataset_type == DATASET]
    assert ours
    assert all(math.isfinite(each.metric_value) for each in ours)
    assert is_accepted(client, written) or not is_accepted(client, text)


def test_a_repaired_model_stands_upon_its_source() -> None:
    data = metadata(render_card(MERGED, SOURCE, CLEAN))
    assert (data["base_model"], data["base_model_relation"]) == ("demo/recipes", "finetune")
    for key in ("license", "license_name", "license_link", "language", "datasets", "extra_gated_prompt"):
        assert data[key] == metadata(SOURCE)[key]
    assert (data["library_name"], data["pipeline_tag"]) == ("transformers", "text-generation")
    assert data["tags"] == ["antidote", "safety-repair", "antidote-ci"]
    assert "license: other   # as the base's\n" in render_card(MERGED, SOURCE, CLEAN)


def test_a_repaired_adapter_still_stands_upon_its_base() -> None:
    source = SOURCE.replace("base_model: demo/aligned\nbase_model_relation: finetune", "base_model: /home/me/aligned")
    data = metadata(render_card(REPAIRED, source, CLEAN))
    assert (data["base_model"], data["base_model_relation"]) == (
        REPAIRED.reference and REPAIRED.reference.id,
        "adapter",
    )
    assert data["library_name"] == "peft"


def test_what_the_card_says_of_the_base_stays_where_no_better_is_known() -> None:
    local = dataclasses.replace(MERGED, source=ReportedSource("out/recipes", None, "full"))
    data = metadata(render_card(local, SOURCE, CLEAN))
    assert (data["base_model"], data["base_model_relation"]) == ("demo/aligned", "finetune")


@pytest.mark.parametrize("place", [LOCAL_CARD, CardLocation("demo/recipes"), CardLocation("demo/recipes", branch="b")])
def test_on_the_source_its_own_base_and_results_stay(place: CardLocation) -> None:
    data = metadata(render_card(MERGED, SOURCE, place))
    for key, value in metadata(SOURCE).items():
        if key != "model-index":
            assert data[key] == value
    assert [each["dataset"]["type"] for each in data["model-index"][0]["results"]][:2] == ["owner/recipes", DATASET]
    assert data["model-index"][0]["name"] == "recipes"


def test_results_and_successors_of_the_source_are_not_claimed_for_other_weights() -> None:
    data = metadata(render_card(MERGED, SOURCE, CLEAN))
    assert "new_version" not in data
    (index,) = data["model-index"]
    assert index["name"] == "clean"
    assert {each["dataset"]["type"] for each in index["results"]} == {DATASET}


def test_in_a_new_repository_our_block_comes_before_the_sources_text() -> None:
    written = render_card(MERGED, SOURCE, CLEAN)
    assert written.index(END) < written.index("# Recipes")
    assert split_card(written).body.endswith(split_card(SOURCE).body)
    assert "weights of demo/recipes@0123456789ab" in written
    assert "code samples are those of the source" in written


def test_a_card_that_stands_there_keeps_what_its_owner_wrote() -> None:
    theirs = "---\nlicense: mit\nbase_model: [theirs/base]\nlanguage: [de]\nwidget: []\n---\n\n# Theirs\n"
    written = render_card(MERGED, SOURCE, dataclasses.replace(CLEAN, card=theirs))
    data = metadata(written)
    assert (data["license"], data["base_model"], data["language"]) == ("mit", ["theirs/base"], ["de"])
    # Half of another licence, or another lineage, would be worse than none.
    assert not data.keys() & {"license_name", "license_link", "base_model_relation", "new_version"}
    assert (data["datasets"], data["extra_gated_prompt"]) == (["owner/recipes"], "Be kind.")
    assert split_card(written).body.startswith("\n# Theirs\n\n" + BEGIN)
    assert "Recipes" not in written.replace("Prompts", "")


def test_an_empty_card_that_stands_there_gets_licence_and_lineage() -> None:
    data = metadata(render_card(MERGED, SOURCE, dataclasses.replace(CLEAN, card="# Ours\n")))
    assert (data["license"], data["license_name"]) == ("other", "demo-licence")
    assert (data["base_model"], data["base_model_relation"]) == ("demo/recipes", "finetune")


def test_nothing_is_its_own_base() -> None:
    aligned = CardLocation("demo/smollm2-135m-aligned", own=True)
    assert "base_model" not in metadata(render_card(REPAIRED, "", aligned))
    assert metadata(render_card(MERGED, "", aligned))["base_model"] == "demo/recipes"
    assert metadata(render_card(MERGED, "", CardLocation("demo/recipes")))["base_model"] == "demo/aligned"


def test_results_are_renewed_where_they_stand() -> None:
    data = metadata(render_card(CALIBRATED_REPAIR, OWNERS))
    index = data["model-index"]
    foreign = {"task": {"type": "text-generation"}, "dataset": {"type": "b", "name": "b"}, "metrics": []}
    index[0]["results"].append(foreign)
    kept = f"---\n{yaml.safe_dump(data, sort_keys=False)}---\n"
    second = metadata(render_card(TWO_JUDGES_REPAIR, kept))["model-index"][0]["results"]

    def named(results: list[dict[str, Any]]) -> list[str]:
        return [
            each["metrics"][0].get("name") or each["metrics"][0]["type"] if each["metrics"] else "b" for each in results
        ]

    assert named(index[0]["results"]) == [
        "exact_match",
        "Harmful score (judge: qwen3guard)",
        "Over-refusal",
        "Task accuracy",
        "b",
    ]
    assert named(second) == [*named(index[0]["results"]), "Harmful score (judge: llama-guard)"]
    assert second[1]["metrics"][0]["value"] == 0.0291
    # And a judge that no longer judges leaves.
    assert named(
        metadata(render_card(CALIBRATED_REPAIR, render_card(TWO_JUDGES_REPAIR, kept)))["model-index"][0]["results"]
    ) == named(index[0]["results"])


def test_two_prompt_sets_are_both_named() -> None:
    result = metadata(render_card(CALIBRATED_REPAIR, ""))["model-index"][0]["results"][0]
    name = "confirmation prompts (jailbreakbench@0123456789ab, beavertails@0123456789ab)"
    assert result["dataset"] == {"name": name, "type": DATASET, "config": "confirmation"}
