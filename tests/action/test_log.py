"""The log of a step: lines of a child are shown and never obeyed, and marks begin and end groups."""

import json
import tracemalloc
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from action import log
from tests.action.test_outputs import HOSTILE
from tests.action.workflow_runner import Runner, read_lines

MARK = log.create_mark()
TEXTS = st.builds(lambda text, end: text + end, HOSTILE, st.sampled_from(["", "\n", "\r", "\r\n"])).map(
    lambda text: ("text", text)
)
STEPS = st.tuples(st.sampled_from(["begin", "end"]), HOSTILE)
CUTS = st.lists(st.integers(1, 40), min_size=1)


def written(events: list[tuple[str, str]]) -> bytes:
    """The output of a child with these texts and steps. A mark is at the beginning of a line."""
    stream = ""
    for what, words in events:
        if what != "text" and stream and not stream.endswith(("\n", "\r")):
            stream += "\n"
        stream += words if what == "text" else f"{MARK}{what} {json.dumps(words)}\n"
    return stream.encode("utf-8", "replace")


def pieces(stream: bytes, cuts: list[int]) -> Iterator[bytes]:
    """The stream in chunks of any size."""
    while stream:
        for size in cuts:
            yield stream[:size]
            stream = stream[size:]


def passed_on(stream: bytes, cuts: list[int]) -> tuple[str, log.RunnerLog]:
    """The bytes that reach the runner."""
    written_lines: list[bytes] = []
    runner_log = log.RunnerLog(written_lines.append, MARK)
    for line in log.split_lines(pieces(stream, cuts)):
        runner_log.show(line)
    runner_log.close()
    return b"".join(written_lines).decode(), runner_log


@settings(max_examples=300)
@given(st.lists(TEXTS | STEPS, max_size=8), CUTS)
def test_only_marks_are_obeyed_and_every_line_is_shown(events: list[tuple[str, str]], cuts: list[int]) -> None:
    stream = written(events)
    reached, _ = passed_on(stream, cuts)
    runner = Runner()
    begun = [("group", words) for what, words in events if what == "begin"]
    assert [command for command in runner.read(reached) if command[0] != "endgroup"] == [
        (name, words.encode("utf-8", "replace").decode()) for name, words in begun
    ]
    assert runner.stop_token is None
    assert len(set(runner.tokens)) == len(runner.tokens)
    hidden = {mask for token in runner.tokens for mask in (f"::stop-commands::{token}", f"::{token}::")}
    groups = {f"::group::{log.escape_data(words)}" for _, words in begun} | {"::endgroup::"}
    shown = [line for line in read_lines(reached) if line and line not in hidden | groups]
    assert shown == [line for line in read_lines(stream.decode()) if line and not line.startswith(MARK)]


@given(st.lists(TEXTS | STEPS, max_size=8))
def test_every_group_ends(events: list[tuple[str, str]]) -> None:
    runner = Runner()
    names = [name for name, _ in runner.read(passed_on(written(events), [64])[0])]
    assert names == ["group", "endgroup"] * (len(names) // 2)


def test_group_contains_the_lines_of_its_step() -> None:
    events = [
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
    runner.read(passed_on(written(events), [7])[0])
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


def test_nothing_is_added_between_two_steps() -> None:
    runner = Runner()
    runner.read(passed_on(written([("begin", "a"), ("text", "x\n"), ("end", ""), ("begin", "b"), ("end", "")]), [9])[0])
    assert [lines for name, lines in runner.groups if not name] == [[], [""]]


@given(HOSTILE, HOSTILE, HOSTILE)
def test_errors_are_kept_and_shown(what: str, cause: str, hint: str) -> None:
    messages = [("error", f"--publish-to {what}"), ("cause", cause), ("hint", hint)]
    reached, runner_log = passed_on(written([("text", "a part of a line"), *messages]), [5])
    assert runner_log.errors[0].startswith("--publish-to ")
    assert [message.partition(": ")[0] for message in runner_log.errors[1:]] == ["cause", "hint"]
    assert "\nerror: --publish-to " in reached
    assert Runner().read(reached) == []


@given(st.sampled_from(["begin", "end", "error"]), st.text(), st.booleans())
def test_wrong_or_misplaced_mark_is_text(kind: str, words: str, is_ours: bool) -> None:
    mark = f"x{MARK}" if is_ours else log.create_mark()
    line = f"{mark}{kind} {json.dumps(words)}\n"
    reached, runner_log = passed_on(line.encode(), [100])
    assert Runner().read(reached) == []
    assert runner_log.errors == []
    assert line in reached


def test_mark_within_a_long_line_is_text() -> None:
    line = b"x" * log.MAX_LINE_BYTES + f'{MARK}begin "a"\n'.encode()
    assert Runner().read(passed_on(line, [log.MAX_LINE_BYTES])[0]) == []


def test_incomplete_mark_is_ignored() -> None:
    for rest in ('begin "a', "begin {", "weather", "", 'begin "\\ud8'):
        reached, runner_log = passed_on(f"{MARK}{rest}".encode(), [100])
        assert Runner().read(reached) == []
        assert runner_log.errors == []


def test_long_line_is_not_kept_in_memory() -> None:
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
def test_split_lines_keeps_every_byte(chunks: list[bytes]) -> None:
    assert b"".join(log.split_lines(chunks)) == b"".join(chunks)
