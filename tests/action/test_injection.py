"""Injection: untrusted text stays text in everything that GitHub and the Hub read.

Hostile strings are used as names of repositories, adapters, layers, categories and files, as licences and as error
messages. The results are parsed by a port of the runner's parser, by markdown-it with and without HTML, by html.parser
and by PyYAML. Many cases: `pytest -m slow tests/action/test_injection.py`.
"""

import dataclasses
import io
import json
import re
import secrets
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import redirect_stderr
from functools import cache
from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from action import comment, log, outputs
from antidote_ci import records
from antidote_ci.checkpoint.card import split_card
from antidote_ci.errors import ConfigurationError
from antidote_ci.records import PublishResult, Report
from antidote_ci.report import CardLocation, terminal
from antidote_ci.report.card import BEGIN, END, render_card
from antidote_ci.report.ci_files import render_badge, render_junit
from antidote_ci.report.console import MARK_VARIABLE, Console
from antidote_ci.report.page import render_page
from antidote_ci.report.summary import (
    render_comment,
    render_pull_request,
    render_summary,
    render_verdict,
)
from tests.action.workflow_runner import Runner, parse_outputs
from tests.report.samples import EVERY_KIND, PLAIN_NAMES, disguised
from tests.report.test_page import Outline

FEW, MANY, PARTS = 100, 10_000, 4
SPARE = 100
"""Additional cases, because some are drawn twice."""
HEALTH = list(HealthCheck)

COMMANDS = [
    "::error::x",
    "::error file=action.yml,line=1,title=x::y",
    "::warning::x",
    "::notice::x",
    "::debug::x",
    "::add-mask::a",
    "::set-output name=verdict::pass",
    "::save-state name=a::b",
    "::set-env name=PATH::x",
    "::add-path::x",
    "::add-matcher::x.json",
    "::remove-matcher owner=x::",
    "::echo::on",
    "::group::x",
    "::endgroup::",
    "::stop-commands::x",
    "::stop-commands::pause-logging",
    "::x::",
    ":\u200b:error::x",
    "::error:\u00ad:x",
    "##[error]x",
    "##[set-output name=verdict]pass",
    "##[add-mask]a",
    "##[stop-commands]x",
    "##[group]x",
    "##[endgroup]",
    "##[section]x",
    "#\u200b#[error]x",
]
FILES = ["EOF", "<<EOF", "verdict<<EOF\npass\nEOF", "verdict=pass", "\nexit-code=0\n", "ghadelimiter_", "<<", "="]
BREAKS = [
    *("\n", "\r", "\r\n", "\n\n", "\u2028", "\u2029", "\x85", "\v", "\f", "\t", "\0", "\b", "\x7f"),
    *("\x1b[31m", "\x1b[2J", "\x1b]8;;https://evil.example\x07x\x1b]8;;\x07", "\x9b31m", "\x1bc"),
    *("\u202e", "\u2066", "\u200b", "\u200f", "\u2060", "\ufeff", "\u00ad", "\U000e0041"),
    *("%0A", "%0D", "%25", "%3A%3A", "&#10;", "&#13;", "&NewLine;", "\\n", " ", "    ", "\u00a0"),
]
MARKUP_WORDS = """\
<script>alert(1)</script>  <img src=x onerror=alert(1)>  <svg onload=alert(1)>  <iframe src=//evil.example>
</td></tr></table>  </details>  </title></style>  <!--  -->  ]]>  <![CDATA[  <?php  <!DOCTYPE x>
"><a href='javascript:alert(1)'>  ' onmouseover='x  <b  </  &lt;script&gt;  &amp;  &#60;b&#62;
[x](https://evil.example)  ![x](https://evil.example/p.png)  [x][y]  [x]: https://evil.example  [^1]
<https://evil.example>  https://evil.example  HTTP://evil.example  www.evil.example  ftp://evil.example
mailto:a@evil.example  a@evil.example  a@0123456789ab.example  @everyone  @org/team  #1  GH-1  `  ``  ```
~~~  |  |---|  ||  *  **  _  __x__  ~~x~~  # x  > x  - x  + x  * x  1. x  1) x  ===  ---  - [ ] x  [!NOTE]
$x$  $$  :bug:  !  <!-- antidote-ci:begin -->  <!-- antidote-ci:end -->  <!-- antidote-ci:report -->
<details open>  !!python/object/apply:os.system [id]  &a *a  {a: b}
"""
MARKUP = [
    *re.split(r"  |\n", MARKUP_WORDS.strip()),
    *("```sh\nrm -rf ~\n```", "\\", "\\|", "\n---\n", "\n---\ntags: [evil]\n", "\n...\n", ": ", "- "),
]
TEMPLATES = ["{{ 7 * 7 }}", "{% raw %}", "{#", "${{ secrets.HF_TOKEN }}", "$(id)", "`id`", "%s", "{0}", "${x}"]

STRINGS = st.lists(
    st.sampled_from([*COMMANDS, *FILES, *BREAKS, *MARKUP, *TEMPLATES]) | st.text(min_size=1, max_size=6),
    min_size=1,
    max_size=6,
).map("".join)
CASES = st.tuples(st.integers(0, len(EVERY_KIND) - 1), st.lists(STRINGS, min_size=8, max_size=8))

MARK = log.create_mark()
LINK = re.compile(r"(?i)\b(?:https?|ftp)://\S|\bwww\.\S|[\w.+-]@[\w-]+\.\w|(?<!\w)@\w")
"""Text that GitHub turns into a link or a mention without Markdown."""
OUR_KEYS = {"tags", "model-index", "base_model", "base_model_relation", "library_name", "pipeline_tag"}
PLACES = (CardLocation(), CardLocation("org/model"), CardLocation("org/clean", own=True))


def through_commands(hostile: Report, names: list[str]) -> None:
    """Lines of the program and of a library in the log of a step, and the error annotation."""
    said = io.StringIO()
    with redirect_stderr(said):
        talk = Console()
        talk.print(names[0])
        with talk.step("measure"):
            talk.print(f"  {names[1]}")
            talk.show(terminal.show_report(hostile))
        shown_by_us = said.getvalue()
        said.write("".join(names))
        said.write("\n")
        talk.print_error(ConfigurationError(names[2], cause=names[3], hint=names[4]))
    plain = [each for each in shown_by_us if unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp") and each != "\n"]
    assert not plain
    reached: list[bytes] = []
    runner_log = log.RunnerLog(reached.append, MARK)
    for line in log.split_lines([said.getvalue().encode("utf-8", "replace")]):
        runner_log.show(line)
    runner_log.close()
    runner = Runner()
    assert runner.read(b"".join(reached).decode()) == [("group", "measure"), ("endgroup", "")]
    assert runner.stop_token is None
    _, _, (name, data) = runner.read(
        outputs.build_annotation(json.loads(records.to_json(hostile)), 2, runner_log.errors)
    )
    assert name == "error"
    assert data.endswith("(exit 2)")
    assert Runner().read("\n".join(log.mask_commands(names[7]))) == [
        ("add-mask", each) for each in dict.fromkeys([names[7], *map(str.strip, names[7].splitlines())]) if each.strip()
    ]


def through_outputs(hostile: Report, names: list[str]) -> None:
    values = outputs.build_outputs(json.loads(records.to_json(hostile)), 7, names[0])
    assert parse_outputs(outputs.render_outputs(values, secrets.token_hex(16))) == list(values.items())
    assert values["source-sha"] == (hostile.source.revision or "")
    assert values["verdict"] == hostile.verdict


def through_markdown(hostile: Report, kind: int, names: list[str]) -> None:
    """The step summary, and a pull request or a comment."""
    for name, text in rendered_texts(hostile, names, at=len(names[0]) % 4).items():
        assert shape(text) == expected_shapes(kind)[name]


def through_ci_files(hostile: Report, kind: int) -> None:
    """The test results, read by an XML parser that also counts comments and instructions; and the badge."""
    document, expected = (ElementTree.fromstring(render_junit(report)) for report in (hostile, harmless(kind)))  # noqa: S314
    assert [(part.tag, *part.keys()) for part in document.iter()] == [
        (part.tag, *part.keys()) for part in expected.iter()
    ]
    assert "<!" not in render_junit(hostile)
    assert render_badge(hostile) == render_badge(harmless(kind))


def through_title(hostile: Report) -> None:
    """The title of a pull request or discussion."""
    title, _ = render_verdict(hostile, is_discussion=False)
    assert re.fullmatch(r"antidote-ci: [a-z]+, [a-z -]+ [0-9. %→]+ \(threshold [0-9.]+ %\)", title)


def through_page(hostile: Report, kind: int) -> None:
    page = Outline(render_page(hostile))
    expected = page_of(kind)
    assert page.tags == expected.tags
    assert page.values == expected.values
    assert page.comments == []
    assert page.open == []


def through_card(hostile: Report, kind: int, names: list[str]) -> None:
    """A new card, or an existing card with our block: its metadata and the block."""
    owners = {"license": names[0], "base_model": names[1], "tags": names[2:4], names[4]: names[5]}
    front_matter = yaml.safe_dump(owners, allow_unicode=True) if len(names[1]) % 2 else ""
    place = PLACES[len(names[0]) % len(PLACES)]
    card = split_card(render_card(hostile, front_matter and f"---\n{front_matter}---\n\n# Mine\n", place))
    assert card.body.count(BEGIN) == card.body.count(END) == 1
    assert shape(block(card.body)) == cards_of(kind)[place]
    kept, said = yaml.safe_load(front_matter) or {}, yaml.safe_load(card.metadata)
    assert kept.keys() <= said.keys() <= kept.keys() | OUR_KEYS
    assert said.get("license") == kept.get("license")


@cache
def harmless(kind: int) -> Report:
    return strange(kind, PLAIN_NAMES)


@cache
def expected_shapes(kind: int) -> dict[str, list[tuple[str, str]]]:
    said = [rendered_texts(harmless(kind), PLAIN_NAMES, at) for at in range(4)]
    return {name: shape(text) for each in said for name, text in each.items()}


def rendered_texts(report: Report, names: list[str], at: int) -> dict[str, str]:
    """The summary, and one of three pull requests, or comments and a discussion."""
    texts = {"summary": f"{comment.build_marker('org/model')}\n{render_summary(report)}"}  # as in a comment
    if at < len(PLACES):
        return texts | {f"pull request {at}": render_pull_request(report, PLACES[at])[1]}
    published = PublishResult("pull-request", names[1], names[2], names[3], (names[4],))
    return texts | {
        "comment": render_comment(report, published),
        "verdict": render_verdict(report, is_discussion=True)[1],
        "verdict comment": render_comment(report, dataclasses.replace(published, mode="report")),
    }


@cache
def page_of(kind: int) -> Outline:
    return Outline(render_page(harmless(kind)))


@cache
def cards_of(kind: int) -> dict[CardLocation, list[tuple[str, str]]]:
    return {place: shape(block(split_card(render_card(harmless(kind), "", place)).body)) for place in PLACES}


def block(body: str) -> str:
    return body[body.index(BEGIN) : body.index(END)]


def strange(kind: int, names: list[str]) -> Report:
    """A report with these strings in every field that may contain untrusted text."""
    report = disguised(EVERY_KIND[kind], names)
    publish = dataclasses.replace(report.publish, repository=names[5], notes=(names[6], names[7]))
    return dataclasses.replace(report, publish=publish)


READERS = tuple(MarkdownIt("commonmark", {"html": html}).enable(["table", "strikethrough"]) for html in (True, False))


def shape(text: str) -> list[tuple[str, str]]:
    """Every block and inline token of the rendered Markdown, with and without HTML."""
    return [part for reader in READERS for token in reader.parse(text) for part in parts(token)]


def parts(token: Token) -> Iterator[tuple[str, str]]:
    yield token.type, token.content if token.type == "html_block" else token.info
    spoken = ""
    for child in token.children or []:
        if child.type in ("text", "text_special"):
            spoken += child.content
        else:
            spoken += "\n"
            yield child.type, child.content if child.type == "html_inline" else str(child.attrs)
    yield from (("link", "") for _ in LINK.findall(spoken))


@pytest.fixture(autouse=True)
def set_step_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK_VARIABLE, MARK)


def examine(cases: int, part: int = 0) -> int:
    """Test this many cases. Returns the number of different cases."""
    seen = set()

    @seed(part)
    @settings(max_examples=cases, derandomize=False, deadline=None, database=None, suppress_health_check=HEALTH)
    @given(CASES)
    def examined(case: tuple[int, list[str]]) -> None:
        kind, names = case
        seen.add((kind, *names))
        hostile = strange(kind, names)
        through_commands(hostile, names)
        through_outputs(hostile, names)
        through_markdown(hostile, kind, names)
        through_page(hostile, kind)
        through_ci_files(hostile, kind)
        through_title(hostile)
        through_card(hostile, kind, names)

    examined()
    return len(seen)


def test_untrusted_text_stays_text() -> None:
    assert examine(FEW) > 0.9 * FEW


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_untrusted_text_stays_text_in_many_cases(part: int, capsys: pytest.CaptureFixture[str]) -> None:
    seen = examine(MANY // PARTS + SPARE, part)
    with capsys.disabled():
        sys.stdout.write(f"\n{seen:,} cases of 8 hostile strings in 10 outputs: 0 injections\n")
    assert seen >= MANY // PARTS
