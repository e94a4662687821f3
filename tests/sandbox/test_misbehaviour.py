"""A child that an attacker has taken over cannot confuse, hold or exhaust its parent by what it replies and starts."""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from antidote_ci.errors import InfrastructureError, UnsafeCheckpoint
from antidote_ci.records import Progress
from antidote_ci.sandbox.child import PROGRESS_SECONDS
from antidote_ci.sandbox.client import Sandbox
from antidote_ci.sandbox.replies import MAX_COUNT, CallLimits
from tests.builders import ignore
from tests.sandbox import child_functions
from tests.sandbox.child_functions import Named, RawReply

INVALID = "sent an invalid reply"


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (RawReply("no JSON\n"), INVALID),
        (RawReply('{"result": 5}\n'), INVALID),
        (RawReply('{"result": {"a": 1}}\n'), INVALID),
        (RawReply('{"progress": {"what": "steps"}}\n'), INVALID),
        (RawReply('{"error": "no"}\n'), INVALID),
        (RawReply("[" * 100_000 + "\n"), INVALID),
        (RawReply("x" * (1 << 20), repeat=65), INVALID),
        (RawReply('{"result": ["a"', then="exit"), r"died \(exit 7\)"),
        (RawReply("", then="close"), r"died \(killed\)"),
        (RawReply(""), "took more than 2 s without progress"),
        (RawReply('{"result": ["a"'), "took more than 2 s without progress"),
    ],
    ids=lambda value: value.text[:20] if isinstance(value, RawReply) else "",
)
def test_invalid_reply_is_one_error_and_the_next_call_works(own: Sandbox, reply: RawReply, message: str) -> None:
    started = time.monotonic()
    with pytest.raises(InfrastructureError, match=message) as raised:
        own.call(child_functions.write_raw, reply, ignore, limits=CallLimits(silence=2 if "2 s" in message else 60))
    assert raised.value.hint
    assert time.monotonic() - started < 60
    assert own.call(child_functions.report_twice, Named("again"), ignore, limits=CallLimits(silence=60)) == "again"


def test_error_of_the_child_is_bounded_text(own: Sandbox) -> None:
    error = {"kind": "UnsafeCheckpoint", "what": "\x1b[2J" + "x" * 100_000, "hint": "run\nthis"}
    with pytest.raises(UnsafeCheckpoint) as raised:
        own.call(child_functions.write_raw, RawReply(json.dumps({"error": error}) + "\n"), ignore)
    assert len(raised.value.what) <= 2000
    assert raised.value.hint == "runthis"
    assert raised.value.what.isprintable()
    own.end_children()  # it sleeps after its reply


def test_error_of_an_unknown_class_is_an_infrastructure_error(own: Sandbox) -> None:
    reply = RawReply('{"error": {"kind": "SystemExit", "what": "0"}}\n')
    with pytest.raises(InfrastructureError, match="unexpected SystemExit while the model ran: 0"):
        own.call(child_functions.write_raw, reply, ignore)
    # The child sleeps after its reply, so it does not answer again.
    with pytest.raises(InfrastructureError, match="without progress"):
        own.call(child_functions.get_process, Named(""), ignore, limits=CallLimits(silence=2))


@pytest.mark.parametrize("name", ["/etc/passwd", "{output}/../secret", "{output}-2/file", "file"])
def test_path_outside_of_the_outputs_is_an_invalid_reply(own: Sandbox, tmp_path: Path, name: str) -> None:
    output = tmp_path / "output"
    inside = str(output / "folder" / "file")
    assert own.call(child_functions.return_path, Named(inside), ignore, outputs=[output]) == [Path(inside)]
    with pytest.raises(InfrastructureError, match=INVALID):
        own.call(child_functions.return_path, Named(name.format(output=output)), ignore, outputs=[output])


def test_reply_to_an_interrupted_call_is_not_read_by_the_next(own: Sandbox) -> None:
    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        own.call(child_functions.report_twice, Named("first"), interrupt)
    assert own.call(child_functions.report_twice, Named("second"), ignore) == "second"


def test_progress_text_holds_no_control_characters(own: Sandbox) -> None:
    reports: list[Progress] = []
    assert own.call(child_functions.report_twice, Named("steps"), reports.append) == "steps"
    assert reports == [Progress("[31msteps", 1, 2), Progress("steps", 2, 2)]


def test_floods_of_progress_are_thinned_out(own: Sandbox) -> None:
    updates = [{"progress": {"what": "steps", "done": number, "total": 20_000}} for number in range(20_000)]
    flood = RawReply("".join(json.dumps(update) + "\n" for update in updates), then="return")
    reports: list[Progress] = []
    began = time.monotonic()
    assert own.call(child_functions.write_raw, flood, reports.append) == []
    assert 1 <= len(reports) <= (time.monotonic() - began) / PROGRESS_SECONDS + 2
    assert reports[-1].done == 19_999


@pytest.mark.parametrize(
    ("done", "total", "expected"),
    [(5, 0, (0, 0)), (-5, 0, (0, 0)), (-(10**400), 10**400, (0, MAX_COUNT)), (10**400, 1, (1, 1))],
)
def test_numbers_of_progress_are_bounded(own: Sandbox, done: int, total: int, expected: tuple[int, int]) -> None:
    reply = RawReply(
        json.dumps({"progress": {"what": "a\nb\x1b[31m", "done": done, "total": total}}) + "\n", then="return"
    )
    reports: list[Progress] = []
    own.call(child_functions.write_raw, reply, reports.append)
    assert reports == [Progress("ab[31m", *expected)]


def test_a_second_reply_does_not_answer_the_next_call(own: Sandbox) -> None:
    twice = RawReply('{"result": ["a"]}\n{"result": ["b"]}\n')
    assert own.call(child_functions.write_raw, twice, ignore) == ["a"]
    with pytest.raises(InfrastructureError, match=INVALID):
        own.call(child_functions.write_raw, twice, ignore)


def test_protections_are_not_believed_after_the_start(own: Sandbox) -> None:
    with pytest.raises(InfrastructureError, match=INVALID):
        own.call(child_functions.write_raw, RawReply('{"protections": ["forged"]}\n'), ignore)
    assert "forged" not in own.protections


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows the processes of a session in /proc")
@pytest.mark.parametrize(
    ("misbehave", "message"),
    [
        (child_functions.fork_many, "started more than 256 processes"),
        (child_functions.fill_home, r"died \(exit 3\)"),
    ],
)
def test_a_child_ends_with_everything_it_made(
    own: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, misbehave: Callable[..., None], message: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own.end_children()
    began = time.monotonic()
    with pytest.raises(InfrastructureError, match=message):
        own.call(misbehave, Named(""), ignore)
    assert time.monotonic() - began < 30
    assert not list(tmp_path.iterdir())
    server = own._server._process.pid
    assert list_session(server) == [server]


def list_session(leader: int) -> list[int]:
    """The processes of a session, which a child cannot leave."""
    members = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] != "Z":
                members.append(int(process.name))
    return members
