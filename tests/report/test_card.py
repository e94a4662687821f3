"""The model card: the owner's text and metadata are kept, results are valid, and rendering is idempotent."""

import dataclasses
import io
import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from huggingface_hub import HfApi, ModelCard, ModelCardData
from huggingface_hub.repocard import metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results
from hypothesis import example, given, settings
from hypothesis import strategies as st

from antidote_ci.checkpoint.card import split_card
from antidote_ci.records import Report, ReportedReference, ReportedSource
from antidote_ci.report import LOCAL_CARD, CardLocation
from antidote_ci.report.card import BEGIN, DATASET, END, render_card
from antidote_ci.report.front_matter import find_fault
from loopback_hub import LoopbackHub
from tests.report.card_samples import CARDS, CHANGED_KEYS, LOCATIONS, OWNER_CARD, valid_cards
from tests.report.samples import (
    BARE,
    CALIBRATED_REPAIR,
    EVERY_KIND,
    KEPT,
    NOT_REPAIRED,
    REPAIRED,
    SERVED,
    SHA,
    TWO_JUDGES,
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
    """Run the Hub's validation, as the client does before a commit."""
    try:
        with warnings.catch_warnings(action="ignore"):
            client._validate_yaml(text)
    except ValueError:
        return False
    return True


@settings(max_examples=100, deadline=None)
@given(LARGE, valid_cards(), LOCATIONS)
def test_other_text_and_keys_keep_their_exact_bytes(
    report: Report, source: tuple[str, dict[str, str]], location: CardLocation
) -> None:
    text, chunks = source
    written = split_card(render_card(report, text, dataclasses.replace(location, card=location.card and text)))
    for key in chunks.keys() - CHANGED_KEYS:
        assert chunks[key] in written.metadata
    body = split_card(text).body
    assert BEGIN in body or body in written.body


@settings(max_examples=60, deadline=None)
@given(LARGE | hostile_reports, CARDS | valid_cards().map(lambda card: card[0]), LOCATIONS)
@example(REPAIRED, OWNER_CARD, LOCAL_CARD)
@example(REPAIRED, OWNER_CARD.replace("\n", "\r\n"), LOCAL_CARD)
@example(BARE, "a\r", LOCAL_CARD)
@example(BARE, "---\n" + "[" * 1000 + "\n---\n", LOCAL_CARD)
@example(BARE, f"{BEGIN} stray\ntext {END}{END}{BEGIN}\n", LOCAL_CARD)
def test_rendering_twice_equals_rendering_once(report: Report, source_card: str, location: CardLocation) -> None:
    once = render_card(report, source_card, location)
    if location.own:
        republished = dataclasses.replace(location, card=once)
        assert render_card(report, source_card, republished) == once
    if location.card is None:
        assert render_card(report, once, location) == once


@settings(max_examples=60, deadline=None)
@given(LARGE | hostile_reports, valid_cards() | CARDS.map(lambda text: (text, {})), LOCATIONS)
def test_a_card_without_faults_is_read_by_every_hub_parser(
    client: HfApi,
    tmp_path_factory: pytest.TempPathFactory,
    report: Report,
    source: tuple[str, object],
    location: CardLocation,
) -> None:
    text, _ = source
    location = dataclasses.replace(location, card=location.card and text)
    if find_fault(text) is not None:
        return
    written = render_card(report, text, location)
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
    metrics = [result.metric_value for result in results if result.dataset_type == DATASET]
    assert metrics
    assert all(0 <= value <= 1 for value in metrics)
    assert is_accepted(client, written) or not is_accepted(client, text)


def test_the_base_model_of_repaired_weights_is_their_source() -> None:
    data = metadata(render_card(MERGED, SOURCE, CLEAN))
    assert (data["base_model"], data["base_model_relation"]) == ("demo/recipes", "finetune")
    for key in ("license", "license_name", "license_link", "language", "datasets", "extra_gated_prompt"):
        assert data[key] == metadata(SOURCE)[key]
    assert (data["library_name"], data["pipeline_tag"]) == ("transformers", "text-generation")
    assert data["tags"] == ["antidote", "safety-repair", "antidote-ci"]
    assert "license: other   # as the base's\n" in render_card(MERGED, SOURCE, CLEAN)


def test_the_base_model_of_a_repaired_adapter_is_its_base() -> None:
    source = SOURCE.replace("base_model: demo/aligned\nbase_model_relation: finetune", "base_model: /home/me/aligned")
    data = metadata(render_card(REPAIRED, source, CLEAN))
    assert (data["base_model"], data["base_model_relation"]) == (
        REPAIRED.reference and REPAIRED.reference.id,
        "adapter",
    )
    assert data["library_name"] == "peft"


def test_the_cards_base_model_stays_when_the_source_is_not_on_the_hub() -> None:
    local = dataclasses.replace(MERGED, source=ReportedSource("out/recipes", None, "full"))
    data = metadata(render_card(local, SOURCE, CLEAN))
    assert (data["base_model"], data["base_model_relation"]) == ("demo/aligned", "finetune")


@pytest.mark.parametrize(
    "location", [LOCAL_CARD, CardLocation("demo/recipes"), CardLocation("demo/recipes", branch="b")]
)
def test_the_sources_card_keeps_its_base_model_and_results(location: CardLocation) -> None:
    data = metadata(render_card(MERGED, SOURCE, location))
    for key, value in metadata(SOURCE).items():
        if key != "model-index":
            assert data[key] == value
    assert [result["dataset"]["type"] for result in data["model-index"][0]["results"]][:2] == ["owner/recipes", DATASET]
    assert data["model-index"][0]["name"] == "recipes"


def test_a_new_repository_does_not_inherit_results_and_successor() -> None:
    data = metadata(render_card(MERGED, SOURCE, CLEAN))
    assert "new_version" not in data
    (index,) = data["model-index"]
    assert index["name"] == "clean"
    assert {result["dataset"]["type"] for result in index["results"]} == {DATASET}


def test_in_a_new_repository_the_block_precedes_the_sources_text() -> None:
    written = render_card(MERGED, SOURCE, CLEAN)
    assert written.index(END) < written.index("# Recipes")
    assert split_card(written).body.endswith(split_card(SOURCE).body)
    assert "weights of demo/recipes@0123456789ab" in written
    assert "Its names, figures and code samples then describe the source." in written


@pytest.mark.parametrize("source", ["", "# Recipes\n", SOURCE, render_card(MERGED, SOURCE)])
def test_the_card_of_weights_that_did_not_pass_says_so_first(source: str) -> None:
    body = split_card(render_card(KEPT, source)).body
    assert body.count(BEGIN) == body.count(END) == 1
    above, _, block = body.partition(BEGIN)
    assert above.strip() == ("" if source else "# smollm2-135m-recipes-lora")
    assert "# Recipes" in block or "Recipes" not in source
    first, rest = block.strip().split("\n\n", 1)
    assert first == "## These weights did NOT pass: safety report"
    assert rest.startswith("**The repaired weights did NOT pass the policy.")
    assert rest.index("not published") < rest.index("**Fails.**")
    assert "did NOT pass" not in render_card(NOT_REPAIRED, source)


def test_the_card_of_weights_that_did_not_pass_has_their_results() -> None:
    data = metadata(render_card(KEPT, SOURCE))
    assert data["tags"] == ["antidote-ci"]
    own = [result for result in data["model-index"][0]["results"] if result["dataset"]["type"] == DATASET]
    assert KEPT.evaluations.after is not None
    assert own[0]["metrics"][0]["value"] == KEPT.evaluations.after.harmful_score


def test_an_existing_card_keeps_its_owners_text_and_keys() -> None:
    existing = "---\nlicense: mit\nbase_model: [other/base]\nlanguage: [de]\nwidget: []\n---\n\n# Existing\n"
    written = render_card(MERGED, SOURCE, dataclasses.replace(CLEAN, card=existing))
    data = metadata(written)
    assert (data["license"], data["base_model"], data["language"]) == ("mit", ["other/base"], ["de"])
    # Licence and lineage are copied together or not at all.
    assert not data.keys() & {"license_name", "license_link", "base_model_relation", "new_version"}
    assert (data["datasets"], data["extra_gated_prompt"]) == (["owner/recipes"], "Be kind.")
    assert split_card(written).body.startswith("\n# Existing\n\n" + BEGIN)
    assert "Recipes" not in written.replace("Prompts", "")


def test_an_existing_card_without_metadata_gets_licence_and_lineage() -> None:
    data = metadata(render_card(MERGED, SOURCE, dataclasses.replace(CLEAN, card="# Ours\n")))
    assert (data["license"], data["license_name"]) == ("other", "demo-licence")
    assert (data["base_model"], data["base_model_relation"]) == ("demo/recipes", "finetune")


def test_no_model_is_its_own_base_model() -> None:
    aligned = CardLocation("demo/smollm2-135m-aligned", own=True)
    assert "base_model" not in metadata(render_card(REPAIRED, "", aligned))
    assert metadata(render_card(MERGED, "", aligned))["base_model"] == "demo/recipes"
    assert metadata(render_card(MERGED, "", CardLocation("demo/recipes")))["base_model"] == "demo/aligned"


def test_results_are_replaced_in_place() -> None:
    data = metadata(render_card(CALIBRATED_REPAIR, OWNER_CARD))
    index = data["model-index"]
    other_result = {"task": {"type": "text-generation"}, "dataset": {"type": "b", "name": "b"}, "metrics": []}
    index[0]["results"].append(other_result)
    card = f"---\n{yaml.safe_dump(data, sort_keys=False)}---\n"
    second = metadata(render_card(TWO_JUDGES_REPAIR, card))["model-index"][0]["results"]

    def metric_names(results: list[dict[str, Any]]) -> list[str]:
        metrics = [result["metrics"][0] if result["metrics"] else {"name": "b"} for result in results]
        return [metric.get("name") or metric["type"] for metric in metrics]

    assert metric_names(index[0]["results"]) == [
        "exact_match",
        "Harmful score (judge: qwen3guard)",
        "Over-refusal",
        "Task accuracy",
        "b",
    ]
    assert metric_names(second) == [*metric_names(index[0]["results"]), "Harmful score (judge: llama-guard)"]
    assert second[1]["metrics"][0]["value"] == 0.0291
    # Results of a judge that is no longer used are removed.
    assert metric_names(
        metadata(render_card(CALIBRATED_REPAIR, render_card(TWO_JUDGES_REPAIR, card)))["model-index"][0]["results"]
    ) == metric_names(index[0]["results"])


def test_a_result_names_all_its_prompt_sets() -> None:
    result = metadata(render_card(CALIBRATED_REPAIR, ""))["model-index"][0]["results"][0]
    name = "confirmation prompts (jailbreakbench@0123456789ab, beavertails@0123456789ab)"
    assert result["dataset"] == {"name": name, "type": DATASET, "config": "confirmation"}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([report for report in EVERY_KIND if report != KEPT]),
    CARDS.filter(lambda text: text and not (BEGIN in text and END in text)),
)
def test_the_owners_text_keeps_its_exact_bytes(report: Report, source_card: str) -> None:
    body, old = split_card(render_card(report, source_card)).body, split_card(source_card).body
    # A card without metadata is separated from the added metadata by one blank line.
    body = body if split_card(source_card).opening else body.lstrip("\r\n") if not old[:1].isspace() else body
    above = body[: body.rindex(BEGIN)]
    assert old in above
    assert not above.replace(old, "", 1).strip()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(EVERY_KIND), CARDS)
@example(REPAIRED, "---\n{language: 2000-01-01, widget: no, version: '2000-01-01'}\n---\n")
def test_the_owners_metadata_keeps_its_values(report: Report, source_card: str) -> None:
    try:
        old = yaml.safe_load(io.StringIO(split_card(source_card).metadata)) or {}
    except ValueError:
        return  # a date that does not exist, which only this parser refuses
    except (yaml.YAMLError, IndexError, RecursionError):
        old = None
    rendered = split_card(render_card(report, source_card)).metadata
    if not isinstance(old, dict):
        assert rendered == split_card(source_card).metadata
        return
    new = yaml.safe_load(io.StringIO(rendered))
    assert [key for key in new if key in old] == list(old)
    for key in old.keys() - {"tags", "model-index"}:
        # A licence is a name, also one that looks like a date.
        assert repr(new[key]) in {repr(old[key]), repr(str(old[key])) if key == "license" else ""}


def test_other_keys_keep_their_exact_characters() -> None:
    merged = render_card(REPAIRED, OWNER_CARD)
    for line in OWNER_CARD.splitlines():
        if not re.match(r"  - recipes|- name|  results|  - task|    dataset|    metrics|    - \{", line):
            assert line in merged.splitlines()
    assert merged.index("# who trained it") < merged.index("datasets:")


def test_metadata_is_merged_and_results_are_replaced_by_key() -> None:
    worse = dataclasses.replace(REPAIRED, verdict="fail")
    data = yaml.safe_load(split_card(render_card(REPAIRED, render_card(worse, OWNER_CARD))).metadata)
    assert data["base_model"] == "owner/base"
    assert data["tags"] == ["recipes", "antidote-ci", "antidote", "safety-repair"]
    (index,) = data["model-index"]
    assert index["name"] == "recipes"
    metrics = [(metric["type"], metric["value"]) for result in index["results"] for metric in result["metrics"]]
    assert metrics == [("exact_match", 0.5), ("non_refusal_rate", 0.17), ("over_refusal", 0.05), ("accuracy", 0.86)]


def test_a_result_has_its_bounds_and_its_judge() -> None:
    data = yaml.safe_load(split_card(render_card(TWO_JUDGES, "")).metadata)
    guard, rules, *_ = (metric for result in data["model-index"][0]["results"] for metric in result["metrics"])
    assert (guard["type"], rules["type"]) == ("harmful_score", "non_refusal_rate")
    assert guard["args"] == {
        "lower_bound": 0.014,
        "upper_bound": 0.051,
        "confidence": 0.975,
        "n": 413,
        "threshold": 0.1,
        "judge": "qwen3guard: Qwen/Qwen3Guard-Gen-0.6B@0123456789ab, strict mode",
    }


def test_a_served_model_has_no_library_name() -> None:
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
def test_a_minimal_card_names_a_base_model_only_when_it_is_on_the_hub(
    identity: str, revision: str | None, base: str | None
) -> None:
    report = dataclasses.replace(REPAIRED, reference=ReportedReference(identity, revision, "option"))
    data = yaml.safe_load(split_card(render_card(report, "")).metadata)
    assert data.get("base_model") == base
    assert data.get("base_model_relation") == (base and "adapter")
    assert data["library_name"] == "peft"


def test_a_card_has_no_results_of_repaired_weights_that_fail() -> None:
    failed = dataclasses.replace(REPAIRED, verdict="fail")
    data = yaml.safe_load(split_card(render_card(failed, "")).metadata)
    assert data["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.88
    assert data["tags"] == ["antidote-ci"]


def test_several_blocks_are_merged_into_one() -> None:
    block = render_card(REPAIRED, "")[render_card(REPAIRED, "").index(BEGIN) :]
    merged = render_card(BARE, f"# Mine\n\n{block}\nbetween\n{block}\nafter\n")
    assert merged.count(BEGIN) == merged.count(END) == 1
    assert "between\n" in merged
    assert "after\n" in merged
    assert "88.0 %" not in merged


def test_metadata_with_aliases_is_unchanged() -> None:
    """Each list contains the previous one twice, so the values have 2**40 entries."""
    levels = "".join(f"k{index}: &a{index} [*a{index - 1}, *a{index - 1}]\n" for index in range(1, 41))
    assert (
        split_card(render_card(REPAIRED, f"---\nk0: &a0 [x]\n{levels}---\n")).metadata == f"k0: &a0 [x]\n{levels}"[:-1]
    )
