"""The faults of the loopback Hub, and pulls and publishes with faults."""

import itertools
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from hypothesis import given
from hypothesis import strategies as st

from loopback_hub import LoopbackHub
from loopback_hub.faults import FaultInjector, FaultKind
from tests.hub.campaign import MODES, SHARES, Case, Material, run, write_material
from tests.hub.hub_samples import TOKEN, MakeModel

DOWNLOAD = "/org/model/resolve/main/config.json"
QUICK_SEEDS = 12
SEEDS = 200


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return write_material(tmp_path_factory.mktemp("material"))


def first(kind: FaultKind, method: str = "GET", path: str = DOWNLOAD) -> FaultInjector:
    """An injector whose first fault is of this kind."""
    drawn = (FaultInjector(seed, 1.0) for seed in itertools.count())
    return next(faults for faults in drawn if (fault := faults.pick(1, method, path)) and fault.kind == kind)


@given(seed=st.integers(), share=st.floats(0, 1), number=st.integers(1, 10_000))
def test_fault_depends_only_on_seed_and_number(seed: int, share: float, number: int) -> None:
    fault = FaultInjector(seed, share).pick(number, "GET", DOWNLOAD)
    assert fault == FaultInjector(seed, share).pick(number, "GET", DOWNLOAD)
    if fault:
        assert fault == FaultInjector(seed, 1.0).pick(number, "GET", DOWNLOAD), (
            "a larger share has the smaller one's faults"
        )


def kinds(method: str, path: str) -> set[FaultKind]:
    drawn = (FaultInjector(1, 1.0).pick(number, method, path) for number in range(500))
    return {fault.kind for fault in drawn if fault}


def test_kinds_of_faults_by_request() -> None:
    for page in ("/", "/org/model", "/org/model/discussions/1", "/org/model/tree/refs/pr/1"):
        assert kinds("GET", page) == set()
    with_body: set[FaultKind] = {"answer cut short", "answer in slow drips"}
    answers = kinds("POST", "/api/models/org/model/commit/main?create_pr=1")
    assert answers == kinds("PUT", f"/org/model.git/info/lfs/objects/{'a' * 64}") >= with_body
    assert kinds("GET", DOWNLOAD) == answers | {"wrong bytes"}
    assert kinds("HEAD", DOWNLOAD) == answers - with_body


@pytest.mark.parametrize(
    ("kind", "status", "done"),
    [
        ("connection dropped", None, False),
        ("too many requests", 429, False),
        ("internal error", 500, False),
        ("bad gateway", 502, False),
        ("gateway timed out", 504, False),
        ("gateway timed out after all was done", 504, True),
        ("answer lost", None, True),
        ("answer cut short", None, True),
    ],
)
def test_faults_before_and_after_a_commit(
    hub: LoopbackHub, model: MakeModel, kind: FaultKind, status: int | None, done: bool
) -> None:
    """`status`: None if the connection breaks."""
    revision = hub.add("org/model", model())
    hub.faults = first(kind, "POST", "/api/models/org/model/commit/main")
    body = b'{"key": "header", "value": {"summary": "Empty"}}'
    address = f"{hub.endpoint}/api/models/org/model/commit/main"
    answered = None
    with suppress(httpx2.TransportError):
        answer = httpx2.post(address, content=body, headers={"Authorization": f"Bearer {TOKEN}"})
        answered = answer.status_code
        assert answer.headers.get("Retry-After", "").isdigit() == (status == 429)
    assert answered == status
    hub.faults = None
    assert (HfApi(endpoint=hub.endpoint, token=TOKEN).model_info("org/model").sha != revision) == done


def test_fault_flips_one_bit(hub: LoopbackHub, model: MakeModel) -> None:
    folder = model()
    hub.add("org/model", folder)
    path = DOWNLOAD.replace("config.json", "model.safetensors")
    good = (folder / "model.safetensors").read_bytes()
    hub.faults = first("wrong bytes", path=path)
    served = httpx2.get(hub.endpoint + path).content
    assert len(served) == len(good)
    assert sum((one ^ other).bit_count() for one, other in zip(good, served, strict=True)) == 1


def test_slow_answer_is_complete(hub: LoopbackHub, model: MakeModel) -> None:
    folder = model()
    hub.add("org/model", folder)
    hub.faults = first("answer in slow drips")
    assert httpx2.get(hub.endpoint + DOWNLOAD).content == (folder / "config.json").read_bytes()


def test_faults_can_be_switched_off(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model())
    hub.faults = FaultInjector(0, 1.0)
    assert httpx2.get(hub.endpoint + "/org/model").status_code == 200, "pages have no faults"
    hub.faults = None
    HfApi(endpoint=hub.endpoint, token=TOKEN).create_commit(
        "org/model", [CommitOperationAdd("notes.md", b"more")], commit_message="A note"
    )


def check(seed: int, share: float, material: Material, folder: Path) -> None:
    outcome = run(Case(seed, share, MODES[seed % len(MODES)]), material, folder)
    assert outcome.broken == []


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("seed", range(QUICK_SEEDS))
def test_pull_and_publish_with_faults(seed: int, share: float, material: Material, tmp_path: Path) -> None:
    check(seed, share, material, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("seed", range(QUICK_SEEDS, SEEDS))
def test_many_pulls_and_publishes_with_faults(seed: int, share: float, material: Material, tmp_path: Path) -> None:
    check(seed, share, material, tmp_path)
