"""Concurrent publishes of one result, and a commit by a person during a publish."""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from antidote_ci.errors import PublishConflict
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.commits import MAIN, parse_marker
from antidote_ci.hub.destination import Destination
from antidote_ci.records import DestinationMode, PublishResult
from loopback_hub import LoopbackHub
from loopback_hub.faults import FaultInjector
from tests.hub.campaign import (
    MODES,
    SOURCE,
    TARGET,
    Material,
    client,
    exit_code,
    find_violations,
    history,
    publish_once,
    to,
    write_material,
)
from tests.hub.hub_samples import TOKEN

Moment = Literal["before", "after"]
SECONDS = 20
FEWEST_REQUESTS = 10
EDIT = "---\nlicense: apache-2.0\n---\nA person was here.\n"
CONFLICT = PublishConflict.exit_code


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return write_material(tmp_path_factory.mktemp("material"))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def access(hub: LoopbackHub, tmp_path: Path) -> Iterator[HubAccess]:
    with client(hub.endpoint, tmp_path / "cache") as ours:
        yield ours


def is_commit(request: str) -> bool:
    return request.startswith("POST") and "/commit/" in request


def list_marked(hub: LoopbackHub, name: str, revision: str) -> list[bool]:
    """Whether a commit and each of its ancestors has a marker, newest first."""
    return [parse_marker(commit.body) is not None for commit in history(hub, name, revision)]


@pytest.mark.parametrize("mode", MODES)
def test_concurrent_runs_publish_the_same_result_once(
    mode: DestinationMode, hub: LoopbackHub, access: HubAccess, material: Material
) -> None:
    destination = to(mode, hub.add(SOURCE, material.source))
    both = threading.Barrier(2)

    def request_hook(moment: Moment, number: int, request: str) -> None:
        if moment == "before" and is_commit(request) and sum(map(is_commit, hub.requests)) <= 2:
            both.wait(SECONDS)

    hub.request_hook = request_hook
    with ThreadPoolExecutor() as threads:
        runs = [threads.submit(publish_once, destination, material, access, run) for run in (1, 2)]
        first_run, second_run = [run.result(SECONDS) for run in runs]
    assert (first_run.revision, first_run.url) == (second_run.revision, second_run.url)
    notes = first_run.notes + second_run.notes
    if mode == "pull-request":
        first, second = hub.store.repository(SOURCE).pull_requests
        assert (first.status, second.status) == ("open", "closed")
        # Either run may close the later pull request. The run that opened it names the run of the other result.
        assert "Pull request 2 was closed as a duplicate." in notes
        assert [note for note in notes if note.startswith("Pull request 1 contains the same result, from run ")]
        assert "The same result is in 1." in [comment.content for comment in second.comments]
    else:
        (note,) = notes
        assert note.endswith(" had already published the same result.")
    assert find_violations(hub, destination, material, finished=True, rivals=1) == []


def test_concurrent_run_closes_the_new_pull_request(hub: LoopbackHub, access: HubAccess, material: Material) -> None:
    """This run opens the second pull request, and the other run ends before this run receives the answer."""
    destination = to("pull-request", hub.add(SOURCE, material.source))
    other_opened, ours_opened = threading.Event(), threading.Event()
    others: list[Future[PublishResult]] = []
    ours: list[int] = []

    def request_hook(moment: Moment, number: int, request: str) -> None:
        match moment, is_commit(request):
            case "before", True if not ours:
                ours.append(number)
                others.append(threads.submit(publish_once, destination, material, access, 2))
                other_opened.wait(SECONDS)
            case "after", True if number in ours:
                ours_opened.set()
                others[0].result(SECONDS)
            case "after", True:
                other_opened.set()
                ours_opened.wait(SECONDS)

    hub.request_hook = request_hook
    with ThreadPoolExecutor() as threads:
        published = publish_once(destination, material, access, run=1)
    assert published.url == others[0].result().url
    assert find_violations(hub, destination, material, finished=True, rivals=1) == []


def interrupt_with_run(number: int, mode: DestinationMode, material: Material, folder: Path) -> bool:
    """Run another complete publish before this request; return whether it ran."""
    with LoopbackHub(folder / "hub") as hub, client(hub.endpoint, folder / "cache") as access:
        destination = to(mode, hub.add(SOURCE, material.source))
        others: list[PublishResult] = []

        def request_hook(moment: Moment, at: int, request: str) -> None:
            if (moment, at) == ("before", number):
                others.append(publish_once(destination, material, access, run=2))

        hub.request_hook = request_hook
        published = publish_once(destination, material, access, run=1)
        for other in others:
            assert (published.revision, published.url) == (other.revision, other.url)
        assert find_violations(hub, destination, material, finished=True, rivals=len(others)) == []
    return bool(others)


def interrupt_with_edit(
    number: int, mode: DestinationMode, material: Material, folder: Path, faults: FaultInjector | None = None
) -> bool:
    """Edit the card as a person before this request; return whether the edit was made.

    The edit waits for the first request at which the repository exists.
    """
    with LoopbackHub(folder / "hub") as hub, client(hub.endpoint, folder / "cache") as access:
        tested = hub.add(SOURCE, material.source)
        destination = Destination("branch", SOURCE, tested, MAIN) if mode == "branch" else to(mode, tested)
        repository = TARGET if mode == "repo" else SOURCE
        # Files are uploaded in several threads, and the edit sends requests, too.
        once, edits = threading.Lock(), list[str]()

        def request_hook(moment: Moment, at: int, request: str) -> None:
            if moment == "before" and at >= number and repository in hub.store.names() and once.acquire(blocking=False):
                hub.faults = None
                edits.append(edit(hub, repository))
                hub.faults = faults

        hub.request_hook = request_hook
        hub.faults = faults
        code = exit_code(lambda: publish_once(destination, material, access, run=1))
        once.acquire(blocking=False)
        hub.faults = None
        if faults is None:
            assert code == 0 or (code == CONFLICT and edits)
        assert code is not None
        if edits:
            assert hub.store.repository(repository).refs[MAIN] == edits[0], "the commit of the person stays the head"
        if code != 0 and edits:
            if mode != "repo":
                destination = Destination(mode, SOURCE, edits[0], destination.name)
            assert exit_code(lambda: publish_once(destination, material, access, run=2)) == 0
            ref = "refs/pr/1" if mode == "pull-request" else MAIN
            head = hub.store.repository(repository).refs[ref]
            assert list_marked(hub, repository, head)[:2] == [True, False]
            assert edits[0] in [commit.revision for commit in history(hub, repository, head)]
    return bool(edits)


def edit(hub: LoopbackHub, name: str) -> str:
    """Commit to main as a person."""
    card = CommitOperationAdd("README.md", EDIT.encode())
    person = HfApi(endpoint=hub.endpoint, token=TOKEN)
    return str(person.create_commit(name, [card], commit_message="Say more").oid)


Interrupt = Callable[[int, DestinationMode, Material, Path], bool]


@pytest.mark.parametrize("interrupt", [interrupt_with_run, interrupt_with_edit])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("number", [1, 6, 8, 10])
def test_interruption_at_some_requests(
    interrupt: Interrupt, mode: DestinationMode, number: int, material: Material, tmp_path: Path
) -> None:
    assert interrupt(number, mode, material, tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_edit_by_a_person_with_faults(seed: int, material: Material, tmp_path: Path) -> None:
    assert interrupt_with_edit(1 + 2 * seed, MODES[seed % len(MODES)], material, tmp_path, FaultInjector(seed, 0.3))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6, 100))
def test_many_edits_by_a_person_with_faults(seed: int, material: Material, tmp_path: Path) -> None:
    number = 1 + seed % 20  # the shortest run has 20 requests
    assert interrupt_with_edit(number, MODES[seed % len(MODES)], material, tmp_path, FaultInjector(seed, 0.3))


@pytest.mark.slow
@pytest.mark.parametrize("interrupt", [interrupt_with_run, interrupt_with_edit])
@pytest.mark.parametrize("mode", MODES)
def test_interruption_at_every_request(
    interrupt: Interrupt, mode: DestinationMode, material: Material, tmp_path: Path
) -> None:
    numbers = itertools.count(1)
    past = next(number for number in numbers if not interrupt(number, mode, material, tmp_path / str(number)))
    assert past > FEWEST_REQUESTS
