"""A whole pull and a whole publish against a Hub that fails by seed, and what must hold however they end."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
from huggingface_hub import close_session, constants, file_download
from huggingface_hub.utils import _http
from safetensors.numpy import save_file

from antidote_ci.errors import AntidoteError
from antidote_ci.hub import commits, pull
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.commits import ATTRIBUTES, CommitMarker, read_content
from antidote_ci.hub.destination import Destination, check_destination
from antidote_ci.hub.publish import PublishRequest, publish_result_files
from antidote_ci.hub.pull_requests import COMMENT_MARKER, PullRequestText
from antidote_ci.hub.retry import RetryPolicy
from antidote_ci.records import Manifest, PublishResult, WeightFile, to_json
from loopback_hub import LoopbackHub
from loopback_hub.faults import FaultInjector
from loopback_hub.records import Commit
from tests.builders import ignore
from tests.hub.hub_samples import CARD, MANIFEST, TOKEN

Mode = Literal["pull-request", "branch", "repo"]
Rule = Literal[
    "no duplicates",
    "no half-published head",
    "no wrong bytes accepted",
    "every ending typed",
    "there after success",
    "mended by another run",
]
MODES: tuple[Mode, ...] = ("pull-request", "branch", "repo")
SHARES = (0.1, 0.3)
SOURCE = "org/model"
BRANCH = "repaired"
TARGET = "demo/repaired"
POLICY = "c" * 64
SHARDS = [f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]
RUNS = (1, 2)


@dataclass(frozen=True)
class Material:
    """A sharded model, and what runs that repair it publish: the same weights, each with its own card and report."""

    folder: Path

    @property
    def source(self) -> Path:
        """The model."""
        return self.folder / "source"

    def repaired(self, run: int) -> Path:
        """What that run made."""
        return self.folder / f"run-{run}"


def write_material(folder: Path) -> Material:
    """A model of three shards of a few kB, and the same repair of it by each run, with every shard changed."""
    made = Material(folder)
    _write_checkpoint(made.source, CARD, seed=0)
    for run in RUNS:
        place = made.repaired(run)
        _write_checkpoint(place, f"{CARD}\nRepaired by run {run}.\n", seed=1)
        (place / "antidote").mkdir()
        (place / "antidote" / "report.json").write_text(json.dumps({"verdict": "repaired", "run": run}))
        (place / "antidote" / "manifest.json").write_text(to_json(_manifest(made, run)))
    return made


def _manifest(made: Material, run: int) -> Manifest:
    before, after = sums(made.source), sums(made.repaired(run))
    files = [WeightFile(name, before[name], after[name]) for name in SHARDS]
    return replace(MANIFEST, run_id=f"{run:032x}", source_files=before, files=files)


def _write_checkpoint(place: Path, card: str, seed: int) -> None:
    place.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    for number, name in enumerate(SHARDS):
        weights = draw.standard_normal((16, 16), np.float32)
        save_file({f"layers.{number}.weight": weights}, place / name, metadata={"format": "pt"})
    weight_map = {f"layers.{number}.weight": name for number, name in enumerate(SHARDS)}
    index = {"metadata": {"total_size": len(SHARDS) * 1024}, "weight_map": weight_map}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))
    (place / "config.json").write_text('{"model_type": "llama"}')
    (place / "tokenizer.json").write_text('{"version": "1.0"}')
    (place / "README.md").write_text(card)


def sums(folder: Path) -> dict[str, str]:
    """Path -> sha256 of every file."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@dataclass
class Clock:
    """Time that passes only in sleep, for many threads."""

    now: float = 0.0
    passing: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self.passing:
            self.now += seconds


@contextmanager
def client(endpoint: str, cache: Path) -> Iterator[HubAccess]:
    """The real client set to speak to a loopback Hub, with a cache of its own; nobody really sleeps."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setenv("HF_ENDPOINT", endpoint)
        for module in (_http, file_download):
            patch.setattr(module, "time", SimpleNamespace(sleep=clock.sleep))
        # The client remembers whose a token is for as long as the process lives.
        yield HubAccess(f"{TOKEN}{endpoint.rpartition(':')[2]}", RetryPolicy(clock=clock, sleep=clock.sleep))
    close_session()


@dataclass(frozen=True)
class Case:
    """One pull and one publish."""

    seed: int
    share: float
    mode: Mode


@dataclass(frozen=True)
class Broken:
    """Something that must never be."""

    rule: Rule
    what: str


@dataclass(frozen=True)
class Outcome:
    """How a case went."""

    pulled: int | None
    """The exit code: 0 for success, None for an exception that is not ours."""
    published: int | None
    struck: int
    requests: int
    broken: list[Broken]


def run(case: Case, material: Material, folder: Path) -> Outcome:
    """The case in a Hub of its own: under faults, then once more in peace where that failed."""
    with LoopbackHub(folder / "hub") as hub, client(hub.endpoint, folder / "cache") as access:
        destination = to(case.mode, hub.add(SOURCE, material.source))
        hub.faults = faults = FaultInjector(case.seed, case.share)
        pulled, broken = _pulled(material, access)
        published = exit_code(lambda: publish_once(destination, material, access, run=1))
        hub.faults = None
        requests = hub.requests
        struck = sum(faults.pick(number, *said.split(" ")) is not None for number, said in enumerate(requests, 1))
        broken += judged(hub, destination, material, finished=published == 0)
        broken += [
            Broken("every ending typed", what)
            for what, code in (("pull", pulled), ("publish", published))
            if code is None
        ]
        if pulled != 0:
            again, wrong = _pulled(material, access)
            broken += [*wrong, *_mended("pull", again)]
        if published != 0:
            broken += _mended("publish", exit_code(lambda: publish_once(destination, material, access, run=2)))
            broken += judged(hub, destination, material, finished=True)
    return Outcome(pulled, published, struck, len(requests), broken)


def _mended(what: str, code: int | None) -> list[Broken]:
    return [] if code == 0 else [Broken("mended by another run", f"in peace, {what} ends in {code}")]


def to(mode: Mode, revision: str) -> Destination:
    """Where each mode publishes in these tests."""
    return Destination(mode, SOURCE, revision, {"pull-request": SOURCE, "branch": BRANCH, "repo": TARGET}[mode])


def publish_once(destination: Destination, material: Material, access: HubAccess, run: int) -> PublishResult:
    """What one run does from the survey to the end; another `run` comes to the same result."""
    mark = CommitMarker(f"{run:032x}", "b" * 64, destination.revision, POLICY, "c" * 64)
    words = PullRequestText(
        comment=lambda published: f"{COMMENT_MARKER}\nRun {run} published {published.revision}.",
        closing=lambda number: f"The same result is in {number}.",
        superseding=lambda number: f"A newer one is {number}.",
    )
    standing = check_destination(destination, access, access)
    contents = {path: read_content(material.repaired(run) / path) for path in sums(material.repaired(run))}
    result = PublishRequest(contents, "Repair with Antidote", f"Run {run}.", words, mark)
    return publish_result_files(destination, standing, result, access)


def exit_code(call: Callable[[], object]) -> int | None:
    """0 when `call` returns, the exit code of the error of ours that it raises, None for any other."""
    try:
        call()
    except AntidoteError as error:
        return error.exit_code
    except Exception:  # noqa: BLE001 - whether others come out is the question
        return None
    return 0


def judged(
    hub: LoopbackHub, destination: Destination, material: Material, finished: bool, rivals: int = 0
) -> list[Broken]:
    """What is wrong with what the Hub holds.

    `finished`: the result must be there, once. `rivals`: how many runs were there besides, each of which may have
    opened and closed a pull request, or commented at the same moment: the Hub knows no comment on a condition.
    """
    old, results = sums(material.source), [sums(material.repaired(run)) for run in RUNS]
    broken, ours, holding = [], set(), []
    for name in hub.store.names():
        repository = hub.store.repository(name)
        opened = [each for each in repository.pull_requests if each.status == "open"]
        closed = {each.ref for each in repository.pull_requests if each.status == "closed"}
        for ref, revision in repository.refs.items():
            if ref in closed:
                continue
            files = {path: entry.sha256 for path, entry in hub.store.commit(name, revision).files.items()}
            # What the Hub itself puts into a new repository.
            files.pop(ATTRIBUTES, None)
            before = old if name == SOURCE else {}
            if files in [{**before, **result} for result in results]:
                holding.append((name, ref))
            elif files != before:
                broken.append(Broken("no half-published head", f"{ref} of {name}"))
            ours |= {(name, each.revision) for each in history(hub, name, revision) if commits.parse_marker(each.body)}
        comments = [sum(said.content.startswith(COMMENT_MARKER) for said in each.comments) for each in opened]
        if len(opened) > 1 or len(closed) > rivals or max(comments, default=0) > 1 + rivals:
            counted = f"{len(opened)} open and {len(closed)} closed pull requests, comments of ours: {comments}"
            broken.append(Broken("no duplicates", counted))
        if finished and 0 in comments:
            broken.append(Broken("there after success", "a pull request without our comment"))
    if len(ours) > 1:
        broken.append(Broken("no duplicates", f"{len(ours)} commits carry our mark"))
    expected = [(destination.repository, "refs/pr/1" if destination.mode == "pull-request" else destination.branch)]
    if holding != expected and (holding or finished):
        broken.append(Broken("there after success", f"the result is at {holding}, and belongs at {expected}"))
    return broken


def history(hub: LoopbackHub, name: str, revision: str | None) -> Iterator[Commit]:
    """A commit and what it stands upon."""
    while revision is not None:
        commit = hub.store.commit(name, revision)
        yield commit
        revision = commit.parent


def _pulled(material: Material, access: HubAccess) -> tuple[int | None, list[Broken]]:
    """The exit code of a whole pull, and which files it accepted with wrong bytes."""
    wrong: list[Broken] = []

    def whole() -> None:
        folder = pull.download_snapshot(pull.resolve_revision(SOURCE, None, access), access, ignore)
        for path, sha256 in sums(material.source).items():
            if hashlib.sha256((folder / path).read_bytes()).hexdigest() != sha256:
                wrong.append(Broken("no wrong bytes accepted", path))

    return exit_code(whole), wrong
