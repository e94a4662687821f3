"""A child's lines on their way to the runner: shown, never obeyed, and folded where the program itself says so."""

import json
import tracemalloc
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from action import commands, log
from tests.action.test_outputs import HOSTILE
from tests.action.workflow_runner import Runner, read_lines

MARK = log.create_mark()
TEXTS = st.builds(lambda text, end: text + end, HOSTILE, st.sampled_from(["", "\n", "\r", "\r\n"])).map(
    lambda text: ("text", text)
)
STEPS = st.tuples(st.sampled_from(["begin", "end"]), HOSTILE)
CUTS = st.lists(st.integers(1, 40), min_size=1)


def written(said: list[tuple[str, str]]) -> bytes:
    """What a child with these words and steps writes; a mark comes on a line of its own."""
    stream = ""
    for what, words in said:
        if what != "text" and stream and not stream.endswith(("\n", "\r")):
            stream += "\n"
        stream += words if what == "text" else f"{MARK}{what} {json.dumps(words)}\n"
    return stream.encode("utf-8", "replace")


def pieces(stream: bytes, cuts: list[int]) -> Iterator[bytes]:
    """The stream as a pipe may give it."""
    while stream:
        for size in cuts:
            yield stream[:size]
            stream = stream[size:]


def passed_on(stream: bytes, cuts: list[int]) -> tuple[str, log.RunnerLog]:
    """What reaches the runner."""
    said: list[bytes] = []
    shown = log.RunnerLog(said.append, MARK, {})
    for line in log.split_lines(pieces(stream, cuts)):
        shown.show(line)
    shown.close()
    return b"".join(said).decode(), shown


@settings(max_examples=300)
@given(st.lists(TEXTS | STEPS, max_size=8), CUTS)
def test_only_the_steps_are_obeyed_and_every_line_is_shown(said: list[tuple[str, str]], cuts: list[int]) -> None:
    stream = written(said)
    reached, _ = passed_on(stream, cuts)
    runner = Runner()
    begun = [("group", words) for what, words in said if what == "begin"]
    assert [each for each in runner.read(reached) if each[0] != "endgroup"] == [
        (name, words.encode("utf-8", "replace").decode()) for name, words in begun
    ]
    assert runner.stop_token is None
    assert len(set(runner.tokens)) == len(runner.tokens)
    hidden = {mask for token in runner.tokens for mask in (f"::stop-commands::{token}", f"::{token}::")}
    groups = {f"::group::{commands.escape_data(words)}" for _, words in begun} | {"::endgroup::"}
    shown = [line for line in read_lines(reached) if line and line not in hidden | groups]
    assert shown == [line for line in read_lines(stream.decode()) if line and not line.startswith(MARK)]


@given(st.lists(TEXTS | STEPS, max_size=8))
def test_every_group_that_begins_ends(said: list[tuple[str, str]]) -> None:
    runner = Runner()
    names = [name for name, _ in runner.read(passed_on(written(said), [64])[0])]
    assert names == ["group", "endgroup"] * (len(names) // 2)


def test_a_step_holds_its_own_lines() -> None:
    said = [
        ("text", "before\n"),
        ("begin", "pull the model"),
        ("text", "  waiting\n::error::x"),
        ("end", ""),
        ("begin", "measure"),
        ("text", "measure: 1.0 s\n"),
        ("end", ""),
        ("text", "after\n"),
    ]
    runner = Runner()
    runner.read(passed_on(written(said), [7])[0])
    folded = [
        (name, [line for line in lines if "***" not in line and not line.startswith("::stop-commands")])
        for name, lines in runner.groups
    ]
    assert [(name, [line for line in lines if line]) for name, lines in folded if name or any(lines)] == [
        ("", ["before"]),
        ("pull the model", ["  waiting", "::error::x"]),
        ("measure", ["measure: 1.0 s"]),
        ("", ["after"]),
    ]


def test_between_two_steps_the_log_holds_nothing_of_ours() -> None:
    runner = Runner()
    runner.read(passed_on(written([("begin", "a"), ("text", "x\n"), ("end", ""), ("begin", "b"), ("end", "")]), [9])[0])
    assert [lines for name, lines in runner.groups if not name] == [[], [""]]


@given(HOSTILE, HOSTILE, HOSTILE)
def test_what_went_wrong_is_kept_and_shown(what: str, cause: str, hint: str) -> None:
    said = [("error", f"--publish-to {what}"), ("cause", cause), ("hint", hint)]
    reached, shown = passed_on(written([("text", "a part of a line"), *said]), [5])
    assert shown.told[0].startswith("input publish-to ")
    assert [each.partition(": ")[0] for each in shown.told[1:]] == ["cause", "hint"]
    assert "\nerror: input publish-to " in reached
    assert Runner().read(reached) == []


@given(st.sampled_from(["begin", "end", "error"]), st.text(), st.booleans())
def test_a_mark_that_is_not_ours_or_not_at_the_beginning_is_text(what: str, words: str, ours: bool) -> None:
    mark = f"x{MARK}" if ours else log.create_mark()
    line = f"{mark}{what} {json.dumps(words)}\n"
    reached, shown = passed_on(line.encode(), [100])
    assert Runner().read(reached) == []
    assert shown.told == []
    assert line in reached


def test_a_mark_within_a_long_line_is_text() -> None:
    line = b"x" * log.LINE_BYTES + f'{MARK}begin "a"\n'.encode()
    assert Runner().read(passed_on(line, [log.LINE_BYTES])[0]) == []


def test_a_line_that_was_cut_short_is_no_step() -> None:
    for rest in ('begin "a', "begin {", "weather", "", 'begin "\\ud8'):
        reached, shown = passed_on(f"{MARK}{rest}".encode(), [100])
        assert Runner().read(reached) in ([], [("group", "")])
        assert shown.told == []


def test_megabytes_without_a_new_line_are_not_held() -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(1000):
            yield b"x" * 64 * 1024

    tracemalloc.start()
    length = sum(map(len, log.split_lines(endless())))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert length == 1000 * 64 * 1024
    assert peak < 1024 * 1024


@given(st.lists(st.binary(max_size=50)))
def test_lines_are_the_same_bytes(chunks: list[bytes]) -> None:
    assert b"".join(log.split_lines(chunks)) == b"".join(chunks)
