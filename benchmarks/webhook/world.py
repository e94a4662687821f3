"""The loopback Hub of a storm: repositories that really get commits, and repairs of ours that are really merged."""

import base64
import json
import shutil
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from antidote_ci import records
from antidote_ci.checkpoint.swap import MANIFEST_FILE
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.destination import Destination, check_destination
from antidote_ci.pipeline import publishing
from antidote_ci.records import ReportedSource, WeightFile
from antidote_ci.repair.manifest import seal_manifest
from benchmarks.hub.pull import run_hub_process
from benchmarks.webhook.plan import ALLOWED, FOREIGN, Plan
from loopback_hub import LoopbackHub
from tests.hub import hub_samples
from tests.hub.campaign import client, sums
from tests.report.samples import REPAIR, REPAIRED

OWNER, OURS = "hf_tokenOfTheOwner", "hf_tokenOfTheBot"
WEIGHTS = "model.safetensors"


class World:
    """What the repositories hold, as the storm goes on."""

    def __init__(self, endpoint: str, plan: Plan, shas: dict[str, list[str]]) -> None:
        """`shas`: the first commit of each repository."""
        self.endpoint = endpoint
        self.shas = shas
        self._merged = {each.name for each in plan.repositories if each.role == "merged"}
        self._changing = {each.name: threading.Lock() for each in plan.repositories}

    def reach(self, name: str, commit: int | None) -> Sequence[str]:
        """The repository's commits, made up to `commit` where they are not there yet."""
        with self._changing[name]:
            shas = self.shas[name]
            while len(shas) <= (commit or 0):
                shas.append(self._merge(name) if name in self._merged else self._push(name, len(shas)))
            return list(shas)

    def _push(self, name: str, commit: int) -> str:
        file = {"path": "notes.txt", "encoding": "base64", "content": base64.b64encode(b"%d" % commit).decode()}
        lines = [{"key": "header", "value": {"summary": f"Commit {commit}"}}, {"key": "file", "value": file}]
        return str(self._asked(f"{name}/commit/main", "\n".join(map(json.dumps, lines)))["commitOid"])

    def _merge(self, name: str) -> str:
        return str(self._asked(f"{name}/discussions/1/merge", "{}")["mergeCommitId"])

    def _asked(self, place: str, body: str) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the loopback Hub
            f"{self.endpoint}/api/models/{place}", body.encode(), {"Authorization": f"Bearer {OWNER}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
            return found


@contextmanager
def running(folder: Path, plan: Plan, policy_sha256: str) -> Iterator[World]:
    """The Hub with the repositories of the plan."""
    shas = _prepared(folder, plan, policy_sha256)
    with run_hub_process(folder / "hub") as endpoint:
        yield World(endpoint, plan, shas)


def _prepared(folder: Path, plan: Plan, policy_sha256: str) -> dict[str, list[str]]:
    """Every repository with one commit; upon some of them waits a pull request of ours."""
    shas = {}
    with LoopbackHub(folder / "hub") as hub:
        hub.add_account("owner", OWNER, organisations=(ALLOWED, FOREIGN))
        hub.add_account("bot", OURS)
        for number, repository in enumerate(plan.repositories):
            model = _write(folder / "models" / repository.name, seed=number)
            shas[repository.name] = [hub.add(repository.name, model)]
        with client(hub.endpoint, folder / "cache"):
            for repository in plan.repositories:
                if repository.role == "merged":
                    source = ReportedSource(repository.name, shas[repository.name][0], "full")
                    _propose(source, folder / "models" / repository.name, policy_sha256)
    return shas


def _propose(source: ReportedSource, model: Path, policy_sha256: str) -> None:
    """A repair of ours as a run publishes it: other weights, their manifest and report, one pull request."""
    assert source.revision is not None  # noqa: S101 - it lies on the Hub
    repaired = shutil.copytree(model, model.with_name(f"{model.name}-repaired"))
    _write(repaired, seed=-1)
    files = [WeightFile(WEIGHTS, sums(model)[WEIGHTS], sums(repaired)[WEIGHTS])]
    manifest = replace(
        hub_samples.MANIFEST,
        source=source,
        policy_sha256=policy_sha256,
        source_files={WEIGHTS: sums(model)[WEIGHTS]},
        files=files,
    )
    report = replace(
        REPAIRED,
        run_id=manifest.run_id,
        source=source,
        policy_sha256=policy_sha256,
        repair=replace(REPAIR, files=files),
    )
    (repaired / "antidote").mkdir()
    (repaired / MANIFEST_FILE).write_text(records.to_json(seal_manifest(manifest)))
    (repaired / publishing.REPORT_PATH).write_text(records.to_json(report))
    destination, access = Destination("pull-request", source.id, source.revision, source.id), HubAccess(OURS)
    standing = check_destination(destination, access, access)
    publishing.publish_model(publishing.PublishTarget(destination, standing, access), report, repaired)


def _write(folder: Path, seed: int) -> Path:
    """A checkpoint of one kilobyte."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed + 1)
    save_file({"layer.weight": draw.standard_normal((16, 16), np.float32)}, folder / WEIGHTS, {"format": "pt"})
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "README.md").write_text(hub_samples.CARD)
    return folder
