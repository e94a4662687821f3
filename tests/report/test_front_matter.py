"""What is wrong with a card's metadata, said before anything is published."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from antidote_ci.checkpoint.card import split_card
from antidote_ci.report.card import render_card
from antidote_ci.report.front_matter import dump_metadata, find_fault, load_metadata
from tests.report.card_samples import CARDS, OWNERS, sound_cards
from tests.report.samples import REPAIRED


def of(metadata: str) -> str:
    return f"---\n{metadata}\n---\n\n# Title\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            of("license: mit\ntags: [a"),
            "not valid YAML: expected ',' or ']', but got '<stream end>' (line 3 of the file)",
        ),
        (of("license: mit\n\tlanguage: en"), "(line 3 of the file)"),
        (of("a: *nowhere"), "undefined alias"),
        (of("x: 2024-99-99"), "not valid YAML: month must be in 1..12"),
        (of("[" * 3000), "not valid YAML: "),
        (of("a: \x07"), "not valid YAML: "),
        (of("just text"), "not a mapping"),
        (of("- license: mit"), "not a mapping"),
        (of("license: mit\ntags: [a]\nlicense: apache-2.0"), "names license twice"),
        (of("'': 1\n'': 2"), "names  twice"),
        (of("on: 1"), "something True, which YAML does not read as text"),
        (of("off: 1"), "something False, which YAML does not read as text"),
        (of("tags: {a: b}"), "tags are not a list of texts"),
        (of("tags: [1]"), "tags are not a list of texts"),
        (of("model-index: recipes"), "model-index is not a list of models"),
        (of("model-index: [{name: a, results: [{metrics: []}]}]"), "model-index is not a list of models"),
        (of("model-index: [{name: a, results: {}}]"), "model-index is not a list of models"),
        ("# caf\udce9\n", "not UTF-8"),
    ],
)
def test_a_fault_is_named(text: str, said: str) -> None:
    assert said in (find_fault(text) or "")


@pytest.mark.parametrize(
    "text", ["", "# Title\n", OWNERS, OWNERS.replace("\n", "\r\n"), of(""), of("# a comment"), "\ufeff" + OWNERS]
)
def test_these_have_none(text: str) -> None:
    assert find_fault(text) is None


@settings(max_examples=100, deadline=None)
@given(sound_cards())
def test_a_sound_card_has_none(made: tuple[str, object]) -> None:
    assert find_fault(made[0]) is None


@settings(max_examples=200, deadline=None)
@given(CARDS)
def test_without_a_fault_our_results_are_in_the_card(text: str) -> None:
    found = load_metadata(split_card(render_card(REPAIRED, text)).metadata)
    assert find_fault(text) is not None or "antidote-ci" in found["tags"]
    assert find_fault(text) is not None or "Non-refusal rate (judge: refusal)" in str(found["model-index"])


def test_the_fault_shows_nothing_invisible() -> None:
    assert find_fault(of('"\\u202Ea": 1\n"\\u202Ea": 2')) == "it names \ufffda twice"


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("\x85")
def test_what_is_written_reads_as_what_was_said(text: str) -> None:
    assert load_metadata(dump_metadata({"name": text}, "\n")) == {"name": text}
