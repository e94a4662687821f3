"""Outputs, annotations and summaries, parsed by a port of the runner's parsers."""

import json
import secrets
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from action import log, outputs
from antidote_ci.records import PublishResult, to_json
from tests.action.workflow_runner import Runner, parse_outputs
from tests.report.samples import BARE, REPAIRED, SHA

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
EXIT_CODES = st.sampled_from([0, *outputs.FAILURE_TEXTS, 99])


def report(text: str) -> dict[str, Any]:
    """A report with `text` in every field that may contain untrusted text."""
    return {
        "verdict": text,
        "reason": text,
        "source": {"id": text, "revision": text},
        "evaluations": {"before": {"harmful_score": 0.625}, "after": {"harmful_score": text}},
        "publish": {"url": text},
    }


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        ("out", "out"),
        ("./a/../out", "./a/../out"),
        ("/github/workspace/out", "out"),
        ("/github/workspace", "."),
        ("/github/workspaces/out", "/github/workspaces/out"),
        ("/github/runner_temp/out", "/home/runner/work/_temp/out"),
        ("/github/runner_temp", "/home/runner/work/_temp"),
        ("/elsewhere", "/elsewhere"),
    ],
)
def test_folder_is_named_as_later_steps_find_it(folder: str, found: str) -> None:
    """What the variables are in the container: tests/image/test_container_action.py."""
    environ = {
        "GITHUB_WORKSPACE": "/github/workspace",
        "RUNNER_TEMP": "/github/runner_temp",
        "RUNNER_WORKSPACE": "/home/runner/work/name",
    }
    assert outputs.find_on_machine(folder, environ) == found
    assert outputs.find_on_machine(folder, {}) == folder


def test_outputs_of_a_repair() -> None:
    """Every output has its value from the report that the program writes."""
    published = PublishResult("pull-request", "https://hub/org/model/discussions/1", "f" * 40)
    document = json.loads(to_json(replace(REPAIRED, publish=published)))
    assert outputs.build_outputs(document, 7, "out") == {
        "verdict": "repaired",
        "exit-code": "7",
        "harmful-score-before": "0.88",
        "harmful-score-before-lower": "0.813",
        "harmful-score-before-upper": "0.929",
        "harmful-score-after": "0.17",
        "harmful-score-after-lower": "0.111",
        "harmful-score-after-upper": "0.244",
        "source-sha": SHA,
        "clean-revision": "f" * 40,
        "pull-request-url": "https://hub/org/model/discussions/1",
        "report-json": "out/report.json",
        "report-html": "out/report.html",
    }


def test_outputs_of_a_local_model_that_passes() -> None:
    values = outputs.build_outputs(json.loads(to_json(BARE)), 0, "out")
    empty = {name for name, text in values.items() if not text}
    after = {"harmful-score-after", "harmful-score-after-lower", "harmful-score-after-upper"}
    assert empty == {*after, "source-sha", "clean-revision", "pull-request-url"}
    assert values["verdict"] == "pass"


def test_the_commit_of_a_verdict_alone_is_no_clean_revision() -> None:
    """It has the tested weights, and a workflow may deploy what the output names."""
    published = {"url": "https://hub/org/model/discussions/1", "revision": "a" * 40}
    for mode in ("pull-request", "branch", "repo", "report"):
        values = outputs.build_outputs({"publish": {"mode": mode, **published}}, 1, "out")
        assert values["clean-revision"] == ("" if mode == "report" else "a" * 40)
        assert values["pull-request-url"] == published["url"]


@settings(max_examples=500)
@given(text=HOSTILE, exit_code=EXIT_CODES, out=HOSTILE)
def test_hostile_text_adds_no_output(text: str, exit_code: int, out: str) -> None:
    values = outputs.build_outputs(report(text), exit_code, out)
    rendered = outputs.render_outputs(values, secrets.token_hex(16))
    assert parse_outputs(rendered) == list(values.items())
    assert values["exit-code"] == str(exit_code)
    assert values["harmful-score-before"] == "0.625"


@settings(max_examples=500)
@given(text=HOSTILE, exit_code=EXIT_CODES)
def test_hostile_text_adds_no_command(text: str, exit_code: int) -> None:
    line = outputs.build_annotation(report(text), exit_code, [text, text])
    [(name, data)] = Runner().read(line)
    assert name == "error"
    assert data.startswith(f"{text}\n{text}\n")
    assert text.strip()[1:] in data.removeprefix(f"{text}\n{text}\n")
    assert data.endswith(f"(exit {exit_code})")


@given(errors=st.lists(st.text(), max_size=3), length=st.integers(0, 3000), exit_code=EXIT_CODES)
def test_annotation_fits_the_limit(errors: list[str], length: int, exit_code: int) -> None:
    """The runner counts UTF-16 code units: a character outside the basic plane has two."""
    words = [error + "\U0001f9ea" * length for error in errors]
    [(_, data)] = Runner().read(outputs.build_annotation(report("\U0001f9ea" * length), exit_code, words))
    assert len(data.encode("utf-16-le", "replace")) <= 2 * log.MAX_ANNOTATION
    assert data.endswith(f"(exit {exit_code})")


@given(secret=HOSTILE)
def test_secret_and_its_lines_are_masked(secret: str) -> None:
    runner = Runner()
    runner.read("\n".join(log.mask_commands(secret)))
    assert runner.masks >= {part for part in (secret, *map(str.strip, secret.splitlines())) if part.strip()}
    assert all(name == "add-mask" for name, _ in runner.obeyed)


@given(head=HOSTILE, tail=HOSTILE)
def test_value_with_the_delimiter_is_refused(head: str, tail: str) -> None:
    delimiter = secrets.token_hex(16)
    with pytest.raises(ValueError, match="output verdict contains the delimiter"):
        outputs.render_outputs({"verdict": head + delimiter + tail}, delimiter)


def test_outputs_without_a_report() -> None:
    values = outputs.build_outputs(None, 3, "out")
    assert {name: text for name, text in values.items() if text} == {"exit-code": "3"}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(list(report(""))), inner),
)


@given(document=st.dictionaries(st.sampled_from(list(report(""))), JSON))
def test_invalid_report_gives_every_output(document: dict[str, Any]) -> None:
    assert list(outputs.build_outputs(document, 1, "out")) == list(outputs.build_outputs(None, 1, "out"))


def test_links_to_the_model_the_run_and_its_artifacts() -> None:
    document = {"source": {"id": "org/my_model", "revision": "0123456789abcdef" * 2 + "01234567"}}
    github = {
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_REPOSITORY": "team/models",
        "GITHUB_RUN_ID": "42",
    }
    commit, page = document["source"]["revision"], "https://github.example/team/models/actions/runs/42"
    hub = f"[the model at 0123456789ab](https://huggingface.co/org/my_model/tree/{commit})"
    run = f"[the run]({page}), [its artifacts]({page}#artifacts), with the report if a step uploads it"
    assert outputs.build_links(document, github) == f"Links: {hub}, {run}.\n"
    own = outputs.build_links(document, {"HF_ENDPOINT": "http://127.0.0.1:8000/"})
    assert own == f"Links: {hub.replace('https://huggingface.co', 'http://127.0.0.1:8000')}.\n"
    assert outputs.build_links({"source": {"id": "./folder", "revision": None}}, {}) == ""
    assert outputs.build_links(document, {"HF_ENDPOINT": "https://user:secret@hub.example"}) == ""


@given(name=HOSTILE, commit=HOSTILE)
def test_hostile_text_is_in_no_link(name: str, commit: str) -> None:
    assert outputs.build_links({"source": {"id": name, "revision": commit}}, {}) == ""


def test_zero_score_is_not_empty() -> None:
    document = {"evaluations": {"before": {"harmful_score": 0.0}, "after": None}}
    values = outputs.build_outputs(document, 0, "out")
    assert values["harmful-score-before"] == "0.0"
    assert values["harmful-score-after"] == ""


def test_bounds_of_the_score() -> None:
    document = {"evaluations": {"before": {"harmful_score": 0.5, "bounds": [0.0, 0.75]}, "after": {"bounds": []}}}
    values = outputs.build_outputs(document, 0, "out")
    assert (values["harmful-score-before-lower"], values["harmful-score-before-upper"]) == ("0.0", "0.75")
    assert (values["harmful-score-after-lower"], values["harmful-score-after-upper"]) == ("", "")
