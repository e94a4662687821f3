"""A child that an attacker has taken over cannot confuse, hold or exhaust its parent by what it replies and starts."""

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from antidote_ci.errors import InfrastructureError
from antidote_ci.model.conversations import single_turn
from antidote_ci.model.generation import EncodeRequest, encode_conversations
from antidote_ci.records import Model, Progress
from antidote_ci.sandbox import child, replies
from antidote_ci.sandbox.client import Sandbox
from antidote_ci.sandbox.replies import MAX_COUNT
from tests.builders import ignore
from tests.sandbox.scene import write_interpreter

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the child finds its pipe in /proc")


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sandbox, Path]]:
    """A sandbox whose children misbehave as the file says."""
    folder = tmp_path_factory.mktemp("attacked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", None)
        interpreter = write_interpreter(folder, "misbehave_inside", folder / "behaviour.json")
        patch.setattr(sys, "executable", str(interpreter))
        running = Sandbox(folder / "child.log")
        with running:
            patch.undo()
            yield running, folder
    assert not list(folder.glob("antidote-*"))


@pytest.fixture
def sandbox(attacked: tuple[Sandbox, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    monkeypatch.setattr(tempfile, "tempdir", str(attacked[1]))
    yield attacked[0]
    attacked[0].end_children()


def call(sandbox: Sandbox, folder: Path, on_progress: Callable[[Progress], None] = ignore) -> list[list[int]]:
    request = EncodeRequest(Model(folder), [single_turn("Tell me")], True)
    return sandbox.call(encode_conversations, request, on_progress).rows


def misbehave(sandbox: Sandbox, behaviour: str) -> None:
    (sandbox._log_path.parent / "behaviour.json").write_text(json.dumps(behaviour))


def test_floods_of_progress_are_thinned_out(sandbox: Sandbox, tiny_llama: Path) -> None:
    misbehave(sandbox, "flood")
    reports: list[Progress] = []
    began = time.monotonic()
    assert call(sandbox, tiny_llama, reports.append)
    assert 1 <= len(reports) <= (time.monotonic() - began) / child.PROGRESS_SECONDS + 2
    assert reports[-1].done == 19_999


def test_progress_is_clean(sandbox: Sandbox, tiny_llama: Path) -> None:
    misbehave(sandbox, "count_wrongly")
    reports: list[Progress] = []
    assert call(sandbox, tiny_llama, reports.append)
    # Some may be left out: they come in a flood when the parent is slow.
    counts = [(report.done, report.total) for report in reports]
    assert {*counts} <= {(0, 0), (0, MAX_COUNT), (1, 1)}
    assert counts[-1] == (1, 1)
    assert {report.what for report in reports} == {"ab[31m"}


def test_a_reply_never_answers_a_later_call(sandbox: Sandbox, tiny_llama: Path) -> None:
    misbehave(sandbox, "answer_twice")
    with pytest.raises(InfrastructureError, match="invalid reply"):
        call(sandbox, tiny_llama)
    misbehave(sandbox, "flood")
    rows = call(sandbox, tiny_llama)

    class Stop(Exception):
        pass

    def stop(_: Progress) -> None:
        raise Stop

    sandbox.end_children()
    with pytest.raises(Stop):
        call(sandbox, tiny_llama, stop)
    assert call(sandbox, tiny_llama) == rows
    sandbox._children[-1].child._buffer += b"{}\n"
    with pytest.raises(InfrastructureError, match="invalid reply"):
        call(sandbox, tiny_llama)


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("close_and_stay", r"died \(killed\)"),
        ("fork_many", "started more than 256 processes"),
        ("fill_home", r"died \(exit 3\)"),
        ("send_much", "invalid reply"),
        ("forge_protections", "invalid reply"),
    ],
)
def test_the_child_ends_with_everything_it_made(
    sandbox: Sandbox, tiny_llama: Path, behaviour: str, message: str
) -> None:
    misbehave(sandbox, behaviour)
    began = time.monotonic()
    with pytest.raises(InfrastructureError, match=message):
        call(sandbox, tiny_llama)
    assert "forged" not in sandbox.protections
    assert time.monotonic() - began < 30
    folder = sandbox._log_path.parent
    assert not list(folder.glob("antidote-child-*"))
    server = sandbox._server._process.pid
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


def test_a_forged_error_is_one_clean_line(sandbox: Sandbox, tiny_llama: Path) -> None:
    misbehave(sandbox, "forge_error")
    with pytest.raises(InfrastructureError) as raised:
        call(sandbox, tiny_llama)
    text = str(raised.value.what)
    assert text.isprintable()
    assert len(text) < replies.MAX_TEXT + 200
