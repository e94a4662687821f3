"""Faults of a card's metadata are found before anything is published."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from antidote_ci.checkpoint.card import split_card
from antidote_ci.report.card import render_card
from antidote_ci.report.front_matter import dump_metadata, find_fault, load_metadata
from tests.report.card_samples import CARDS, OWNER_CARD, valid_cards
from tests.report.samples import REPAIRED


def card_with(metadata: str) -> str:
    return f"---\n{metadata}\n---\n\n# Title\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            card_with("license: mit\ntags: [a"),
            "not valid YAML: did not find expected ',' or ']' (line 4 of the file)",
        ),
        (card_with("license: mit\n\tlanguage: en"), "(line 3 of the file)"),
        (card_with("a: *nowhere"), "an anchor or an alias"),
        (card_with("a: &x {b: 1}"), "an anchor or an alias"),
        (card_with("a: !!set {b: 1}"), "it has a tag"),
        (card_with("[" * 1000), "not valid YAML: "),
        (card_with("a: \x07"), "not valid YAML: "),
        (card_with("just text"), "not a mapping"),
        (card_with("- license: mit"), "not a mapping"),
        (card_with("license: mit\ntags: [a]\nlicense: apache-2.0"), "has the key license twice"),
        (card_with("'': 1\n'': 2"), "has the key  twice"),
        (card_with("true: 1"), "the key True, which YAML does not read as text"),
        (card_with("7: 1"), "the key 7, which YAML does not read as text"),
        (card_with("tags: {a: b}"), "tags are not a list of strings"),
        (card_with("tags: [1]"), "tags are not a list of strings"),
        (card_with("model-index: recipes"), "model-index is not a list of models"),
        (card_with("model-index: [{name: a, results: [{metrics: []}]}]"), "model-index is not a list of models"),
        (card_with("model-index: [{name: a, results: {}}]"), "model-index is not a list of models"),
        ("# caf\udce9\n", "not UTF-8"),
    ],
)
def test_find_fault_describes_the_fault(text: str, message: str) -> None:
    assert message in (find_fault(text) or "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# Title\n",
        OWNER_CARD,
        OWNER_CARD.replace("\n", "\r\n"),
        card_with(""),
        card_with("# a comment"),
        "\ufeff" + OWNER_CARD,
    ],
)
def test_valid_metadata_has_no_fault(text: str) -> None:
    assert find_fault(text) is None


@settings(max_examples=100, deadline=None)
@given(valid_cards())
def test_a_valid_card_has_no_fault(card: tuple[str, object]) -> None:
    assert find_fault(card[0]) is None


@settings(max_examples=80, deadline=None)
@given(CARDS)
def test_results_are_added_to_every_card_without_a_fault(text: str) -> None:
    metadata = load_metadata(split_card(render_card(REPAIRED, text)).metadata)
    assert find_fault(text) is not None or "antidote-ci" in metadata["tags"]
    assert find_fault(text) is not None or "Non-refusal rate (judge: refusal)" in str(metadata["model-index"])


def test_a_fault_has_no_invisible_characters() -> None:
    assert find_fault(card_with('"\\u202Ea": 1\n"\\u202Ea": 2')) == "it has the key \ufffda twice"


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("\x85")
def test_dump_and_load_are_inverse(text: str) -> None:
    assert load_metadata(dump_metadata({"name": text}, "\n")) == {"name": text}
