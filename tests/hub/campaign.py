"""A pull and a publish against a loopback Hub with seeded faults, and the conditions that must hold afterwards."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
from huggingface_hub import close_session, constants, file_download
from huggingface_hub.utils import _http, _xet
from safetensors.numpy import save_file

from antidote_ci.errors import AntidoteError
from antidote_ci.hub import commits, pull
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.commits import ATTRIBUTES, CommitMarker, read_content
from antidote_ci.hub.destination import Destination, check_destination
from antidote_ci.hub.publish import PublishRequest, publish_result_files
from antidote_ci.hub.pull_requests import COMMENT_MARKER, PullRequestText
from antidote_ci.hub.retry import RetryPolicy
from antidote_ci.records import DestinationMode, Manifest, PublishResult, WeightFile, to_json
from loopback_hub import LoopbackHub
from loopback_hub.faults import FaultInjector
from loopback_hub.records import Commit
from loopback_hub.strictness import read_strictness
from tests.builders import ignore
from tests.hub.hub_samples import CARD, MANIFEST, TOKEN, Clock

Rule = Literal[
    "no duplicates",
    "no incomplete head",
    "no wrong bytes accepted",
    "only typed errors",
    "published after success",
    "repaired by another run",
]
MODES: tuple[DestinationMode, ...] = ("pull-request", "branch", "repo")
SHARES = (0.1, 0.3)
SOURCE = "org/model"
BRANCH = "repaired"
TARGET = "demo/repaired"
POLICY = "c" * 64
SHARDS = [f"model-{number:05}-of-00003.safetensors" for number in (1, 2, 3)]
RUNS = (1, 2)


@dataclass(frozen=True)
class Material:
    """A sharded model and the results of two runs: the same repaired weights, with different cards and reports."""

    folder: Path

    @property
    def source(self) -> Path:
        return self.folder / "source"

    def repaired(self, run: int) -> Path:
        """The result of a run."""
        return self.folder / f"run-{run}"


def write_material(folder: Path, columns: int = 16) -> Material:
    """Write a model of three shards of 64 * columns bytes and its repairs, in which every shard differs."""
    material = Material(folder)
    _write_checkpoint(material.source, CARD, seed=0, columns=columns)
    for run in RUNS:
        place = material.repaired(run)
        _write_checkpoint(place, f"{CARD}\nRepaired by run {run}.\n", seed=1, columns=columns)
        (place / "antidote").mkdir()
        (place / "antidote" / "report.json").write_text(json.dumps({"verdict": "repaired", "run": run}))
        (place / "antidote" / "manifest.json").write_text(to_json(_manifest(material, run)))
    return material


def _manifest(material: Material, run: int) -> Manifest:
    before, after = sums(material.source), sums(material.repaired(run))
    files = [WeightFile(name, before[name], after[name]) for name in SHARDS]
    return replace(MANIFEST, run_id=f"{run:032x}", source_files=before, files=files)


def _write_checkpoint(place: Path, card: str, seed: int, columns: int) -> None:
    place.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    for number, name in enumerate(SHARDS):
        weights = draw.standard_normal((16, columns), np.float32)
        save_file({f"layers.{number}.weight": weights}, place / name, metadata={"format": "pt"})
    weight_map = {f"layers.{number}.weight": name for number, name in enumerate(SHARDS)}
    index = {"metadata": {"total_size": len(SHARDS) * 64 * columns}, "weight_map": weight_map}
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


@contextmanager
def client(endpoint: str, cache: Path) -> Iterator[HubAccess]:
    """The real client for a loopback Hub, with a separate cache and without real sleeps."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_HUB_DISABLE_XET", not read_strictness().has_xet)
        patch.setenv("HF_ENDPOINT", endpoint)
        for module in (_http, file_download):
            patch.setattr(module, "time", SimpleNamespace(sleep=clock.sleep))
        # Hubs of one process can have the same port, and the client caches for the life of the process: the address of
        # the Xet storage by that of the Hub, and the account of a token, so each Hub has another token.
        patch.setattr(_xet, "XET_CONNECTION_INFO_CACHE", {})
        yield HubAccess(f"{TOKEN}{endpoint.rpartition(':')[2]}", RetryPolicy(clock=clock, sleep=clock.sleep))
    close_session()


@dataclass(frozen=True)
class Case:
    """One pull and one publish."""

    seed: int
    share: float
    mode: DestinationMode


@dataclass(frozen=True)
class Broken:
    """A violated condition."""

    rule: Rule
    what: str


@dataclass(frozen=True)
class Outcome:
    """The result of a case."""

    pulled: int | None
    """The exit code: 0 for success, None for an exception other than AntidoteError."""
    published: int | None
    struck: int
    requests: int
    broken: list[Broken]


def run(case: Case, material: Material, folder: Path) -> Outcome:
    """Run the case on a new Hub with faults, and repeat failed steps without faults."""
    with LoopbackHub(folder / "hub") as hub, client(hub.endpoint, folder / "cache") as access:
        destination = to(case.mode, hub.add(SOURCE, material.source))
        hub.faults = faults = FaultInjector(case.seed, case.share)
        broken: list[Broken] = []
        pulled = exit_code(lambda: broken.extend(_pull(material, access)))
        published = exit_code(lambda: publish_once(destination, material, access, run=1))
        hub.faults = None
        requests = hub.requests
        struck = sum(faults.pick(number, *request.split(" ")) is not None for number, request in enumerate(requests, 1))
        broken += find_violations(hub, destination, material, finished=published == 0)
        broken += [
            Broken("only typed errors", what)
            for what, code in (("pull", pulled), ("publish", published))
            if code is None
        ]
        if pulled != 0:
            broken += _check_repeated("pull", lambda: broken.extend(_pull(material, access)))
        if published != 0:
            broken += _check_repeated("publish", lambda: publish_once(destination, material, access, run=2))
            broken += find_violations(hub, destination, material, finished=True)
    return Outcome(pulled, published, struck, len(requests), broken)


def _check_repeated(what: str, call: Callable[[], object]) -> list[Broken]:
    try:
        call()
    except Exception as error:  # noqa: BLE001 - whatever comes out is reported
        return [
            Broken(
                "repaired by another run", f"without faults, {what} ends with {error!r}: {getattr(error, 'cause', '')}"
            )
        ]
    return []


def to(mode: DestinationMode, revision: str) -> Destination:
    """The destination of each mode."""
    return Destination(mode, SOURCE, revision, {"pull-request": SOURCE, "branch": BRANCH, "repo": TARGET}[mode])


def publish_once(destination: Destination, material: Material, access: HubAccess, run: int) -> PublishResult:
    """Check the destination and publish. Every `run` has the same result."""
    marker = CommitMarker(f"{run:032x}", "b" * 64, destination.revision, POLICY, "c" * 64)
    texts = PullRequestText(
        comment=lambda published: f"{COMMENT_MARKER}\nRun {run} published {published.revision}.",
        closing=lambda number: f"The same result is in {number}.",
        superseding=lambda number: f"A newer one is {number}.",
    )
    state = check_destination(destination, access, access)
    contents = {path: read_content(material.repaired(run) / path) for path in sums(material.repaired(run))}
    result = PublishRequest(contents, "Repair with Antidote", f"Run {run}.", texts, marker)
    return publish_result_files(destination, state, result, access)


def exit_code(call: Callable[[], object]) -> int | None:
    """0 if `call` returns, the exit code of an AntidoteError, None for another exception."""
    try:
        call()
    except AntidoteError as error:
        return error.exit_code
    except Exception:  # noqa: BLE001 - whether others come out is the question
        return None
    return 0


def find_violations(
    hub: LoopbackHub, destination: Destination, material: Material, finished: bool, rivals: int = 0
) -> list[Broken]:
    """The violated conditions on the Hub.

    `finished`: the result must be published once. `rivals`: the number of concurrent runs. Each may have opened and
    closed a pull request, or commented at the same moment, since the Hub has no conditional comments.
    """
    old, results = sums(material.source), [sums(material.repaired(run)) for run in RUNS]
    broken, marked, holding = [], set(), []
    for name in hub.store.names():
        repository = hub.store.repository(name)
        opened = [pull_request for pull_request in repository.pull_requests if pull_request.status == "open"]
        closed = {pull_request.ref for pull_request in repository.pull_requests if pull_request.status == "closed"}
        for ref, revision in repository.refs.items():
            if ref in closed:
                continue
            files = {path: entry.sha256 for path, entry in hub.store.commit(name, revision).files.items()}
            # The Hub adds this file to a new repository.
            files.pop(ATTRIBUTES, None)
            before = old if name == SOURCE else {}
            if files in [{**before, **result} for result in results]:
                holding.append((name, ref))
            elif files != before:
                broken.append(Broken("no incomplete head", f"{ref} of {name}"))
            marked |= {
                (name, commit.revision) for commit in history(hub, name, revision) if commits.parse_marker(commit.body)
            }
        comments = [
            sum(comment.content.startswith(COMMENT_MARKER) for comment in pull_request.comments)
            for pull_request in opened
        ]
        if len(opened) > 1 or len(closed) > rivals or max(comments, default=0) > 1 + rivals:
            counted = f"{len(opened)} open and {len(closed)} closed pull requests, own comments: {comments}"
            broken.append(Broken("no duplicates", counted))
        if finished and 0 in comments:
            broken.append(Broken("published after success", "a pull request without a comment"))
    if len(marked) > 1:
        broken.append(Broken("no duplicates", f"{len(marked)} commits have a marker"))
    expected = [(destination.repository, "refs/pr/1" if destination.mode == "pull-request" else destination.branch)]
    if holding != expected and (holding or finished):
        broken.append(Broken("published after success", f"the result is at {holding}, not at {expected}"))
    return broken


def history(hub: LoopbackHub, name: str, revision: str | None) -> Iterator[Commit]:
    """A commit and its ancestors."""
    while revision is not None:
        commit = hub.store.commit(name, revision)
        yield commit
        revision = commit.parent


def _pull(material: Material, access: HubAccess) -> list[Broken]:
    """The files that a pull accepts with wrong bytes."""
    folder = pull.download_snapshot(pull.resolve_revision(SOURCE, None, access), access, ignore)
    return [
        Broken("no wrong bytes accepted", path)
        for path, sha256 in sums(material.source).items()
        if hashlib.sha256((folder / path).read_bytes()).hexdigest() != sha256
    ]
