"""Outputs, annotations and summaries, read back by a port of the runner's own parsers."""

import secrets
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from action import outputs
from tests.action.workflow_runner import Runner, parse_outputs

ATTACKS = st.sampled_from(
    [
        "\n",
        "\r",
        "\r\n",
        "\x85",
        "\u2028",
        "%0A",
        "%25",
        "%",
        "<<",
        "=",
        " ",
        "]",
        "\nverdict=pass\n",
        "\nverdict<<EOF\npass\nEOF\n",
        "\n::set-output name=verdict::pass\n",
        "\r::add-mask::a",
        "::error::",
        "##[set-output name=verdict]pass",
        "\n##[error]",
        "::stop-commands::",
    ]
)
HOSTILE = st.lists(ATTACKS | st.text(max_size=8), max_size=12).map("".join)
EXIT_CODES = st.sampled_from([0, *outputs.FAILURES, 99])


def report(text: str) -> dict[str, Any]:
    """A report with `text` wherever a stranger's words could stand."""
    return {
        "verdict": text,
        "reason": text,
        "source": {"id": text, "revision": text},
        "evaluations": {"before": {"harmful_score": 0.625}, "after": {"harmful_score": text}},
        "publish": {"url": text},
    }


@settings(max_examples=500)
@given(text=HOSTILE, exit_code=EXIT_CODES, out=HOSTILE)
def test_hostile_text_adds_no_output(text: str, exit_code: int, out: str) -> None:
    values = outputs.outputs(report(text), exit_code, out)
    rendered = outputs.render_outputs(values, secrets.token_hex(16))
    assert parse_outputs(rendered) == list(values.items())
    assert values["exit-code"] == str(exit_code)
    assert values["harmful-score-before"] == "0.625"


@settings(max_examples=500)
@given(text=HOSTILE, exit_code=EXIT_CODES)
def test_hostile_text_adds_no_command(text: str, exit_code: int) -> None:
    line = outputs.annotation(report(text), exit_code)
    if exit_code == 0:
        assert line is None
        return
    assert line is not None
    [(name, data)] = Runner().read(line)
    assert name == "error"
    assert text.strip() in data
    assert data.endswith(f"(exit {exit_code})")


@settings(max_examples=500)
@given(before=HOSTILE, text=HOSTILE, after=HOSTILE)
def test_what_a_child_prints_is_no_command(before: str, text: str, after: str) -> None:
    token = secrets.token_hex(16)
    lines = [outputs.stop_commands(token), before, text, after, outputs.resume_commands(token)]
    assert Runner().read("\n".join([*lines, outputs.error("seen")])) == [("error", "seen")]


@given(secret=HOSTILE)
def test_a_secret_is_masked_whole(secret: str) -> None:
    assert Runner().read(outputs.mask(secret)) == [("add-mask", secret)]


@given(head=HOSTILE, tail=HOSTILE)
def test_a_value_that_holds_the_delimiter_is_refused(head: str, tail: str) -> None:
    delimiter = secrets.token_hex(16)
    with pytest.raises(ValueError, match="output verdict holds the delimiter"):
        outputs.render_outputs({"verdict": head + delimiter + tail}, delimiter)


def test_without_a_report_only_the_exit_code_is_known() -> None:
    values = outputs.outputs(None, 3, "out")
    assert {name: text for name, text in values.items() if text} == {"exit-code": "3"}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(list(report(""))), inner),
)


@given(document=st.dictionaries(st.sampled_from(list(report(""))), JSON))
def test_a_report_of_another_shape_still_gives_every_output(document: dict[str, Any]) -> None:
    assert list(outputs.outputs(document, 1, "out")) == list(outputs.outputs(None, 1, "out"))


def test_a_score_of_nothing_is_nought_and_not_empty() -> None:
    document = {"evaluations": {"before": {"harmful_score": 0.0}, "after": None}}
    values = outputs.outputs(document, 0, "out")
    assert values["harmful-score-before"] == "0.0"
    assert values["harmful-score-after"] == ""


@given(line=st.text(min_size=1, max_size=40), used=st.integers(0, 2 * outputs.SUMMARY_BYTES))
def test_a_summary_stays_below_the_limit(line: str, used: int) -> None:
    text = f"{line}\n" * (outputs.SUMMARY_BYTES // len(line) + 1)
    cut = outputs.summary(text, used)
    kept = cut.removesuffix(outputs.SUMMARY_CUT)
    assert len(kept) < len(cut)
    assert text.startswith(kept)
    assert used + len(cut.encode()) <= max(1024 * 1024, used + len(outputs.SUMMARY_CUT.encode()))


@given(text=st.text())
def test_a_short_summary_is_kept_as_it_is(text: str) -> None:
    assert outputs.summary(text) == text
