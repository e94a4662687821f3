"""Whatever a Hub lists: what is no listing is refused, and nothing but a model's files is ever asked for."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from huggingface_hub.hf_api import ModelInfo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antidote_ci.checkpoint import files
from antidote_ci.checkpoint.files import is_allowed_file
from antidote_ci.errors import AntidoteError, ConfigurationError, InfrastructureError, UnsafeCheckpoint
from antidote_ci.hub.pull import download_snapshot, resolve_revision
from antidote_ci.hub.remote import MAX_FILES, RemoteRepository, parse_repository
from tests.builders import ignore
from tests.hub.front import Answer, Asked, Front
from tests.hub.hub_samples import HASTY

DOCUMENT = Path(__file__).parents[2] / "docs" / "pulling.md"
CONTENT = b"x"
GIT_ID = hashlib.sha1(b"blob 1\0x", usedforsecurity=False).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HOSTILE = ["../x", "..", "/etc/x", "a/../../x", "..\\x", "\\x", "a\0.json", "", "./config.json", "a//../b", "C:\\..\\x"]
ODD = [
    "a\\b",
    "config.json\n",
    "CONFIG.JSON",
    "x.py",
    "nested/config.json",
    "%2e%2e/x",
    "~",
    "x" * 5000,
    "*.json",
    "é.txt",
]
GOOD = ["config.json", "README.md", "tokenizer.json", "antidote/report.json", "additional_chat_templates/a.jinja"]
PATHS = st.one_of(
    st.sampled_from(HOSTILE + ODD + GOOD),
    st.text(st.sampled_from("./\\ab\0\n*%~ é"), max_size=12),
    st.lists(st.sampled_from(["..", ".", "a", "config.json", ""]), max_size=4).map("/".join),
)


class Lister:
    """A Hub with one file of one byte under any name: every repository lists `names`."""

    commits = 0

    def __init__(self) -> None:
        self.names: list[str] = []
        self.extra: dict[str, Any] = {}

    def __call__(self, asked: Asked, _: Callable[[], Answer]) -> Answer:
        path = unquote(asked.path.partition("?")[0])
        if "/resolve/" in path:
            return Answer(200, {"ETag": f'"{self.tag(path)}"', "X-Repo-Commit": self.commit}, CONTENT)
        if "/tree/" in path:
            return Answer(
                200, {"Content-Type": "application/json"}, json.dumps([self.entry(n) for n in self.names]).encode()
            )
        return Answer.of(self.description())

    def describe(self, names: list[str], **extra: object) -> None:
        """What is listed from now on, at another commit."""
        Lister.commits += 1
        self.commit = f"{Lister.commits:040x}"
        self.names, self.extra = names, extra

    def description(self) -> dict[str, Any]:
        siblings = [{"rfilename": name, "size": 1, **self.hashes(name)} for name in self.names]
        return {"id": "org/model", "sha": self.commit, "siblings": siblings, **self.extra}

    def hashes(self, name: str) -> dict[str, Any]:
        large = {"lfs": {"sha256": SHA256, "size": 1, "pointerSize": 1}} if name.endswith(".safetensors") else {}
        return {"blobId": GIT_ID, **large}

    def entry(self, name: str) -> dict[str, Any]:
        large = {"lfs": {"oid": SHA256, "size": 1, "pointerSize": 1}} if name.endswith(".safetensors") else {}
        return {"type": "file", "path": name, "oid": GIT_ID, "size": 1, **large}

    def tag(self, path: str) -> str:
        return SHA256 if path.endswith(".safetensors") else GIT_ID


@pytest.fixture
def lister(client_settings: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Lister, Front]]:
    made = Lister()
    with Front("", made) as front:
        monkeypatch.setenv("HF_ENDPOINT", front.endpoint)
        yield made, front


def read(**description: object) -> RemoteRepository:
    """What is made of a description of org/model."""
    info = ModelInfo(**{"id": "org/model", "sha": "0" * 40, **description})  # type: ignore[no-untyped-call]
    return parse_repository("org/model", info)


def listed(**changes: object) -> RemoteRepository:
    """What is made of a description with one good file that is described otherwise."""
    file = {"rfilename": "model.safetensors", "size": 1, "lfs": {"sha256": SHA256, "size": 1, "pointerSize": 1}}
    return read(siblings=[{**file, **changes}])


@given(names=st.lists(PATHS, max_size=6))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_is_asked_for_or_written_but_a_models_files(
    lister: tuple[Lister, Front], tmp_path: Path, client_settings: Path, names: list[str]
) -> None:
    hub, front = lister
    hub.describe([*names, "model.safetensors"])
    before = len(front.asked)
    outside = {path for path in tmp_path.rglob("*") if not path.is_relative_to(client_settings)}
    refused, folder = None, Path()
    try:
        folder = download_snapshot(resolve_revision("org/model", None, HASTY), HASTY, ignore)
    except AntidoteError as error:
        refused = error
    if refused is not None:
        assert isinstance(refused, UnsafeCheckpoint) or len(set(names)) < len(names)
        assert len(front.asked) == before + 1, "refused by the description alone"
    else:
        there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert there == {name for name in [*names, "model.safetensors"] if is_allowed_file(name)}
        assert not set(names) & set(HOSTILE)
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(client_settings)} == outside
    for asked in front.asked[before:]:
        _, resolved, name = unquote(asked.path).partition(f"/resolve/{hub.commit}/")
        assert not resolved or is_allowed_file(name)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_leaves_the_repository(name: str) -> None:
    with pytest.raises(UnsafeCheckpoint, match="a file outside the repository"):
        read(siblings=[{"rfilename": name, "size": 1}])


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name_stays_where_it_is(name: str) -> None:
    found = read(siblings=[{"rfilename": name, "size": -1}])
    assert (found.files, found.skipped) == ([], [name])


def test_ten_thousand_files(lister: tuple[Lister, Front]) -> None:
    hub, front = lister
    hub.describe(["model.safetensors", *(f"checkpoints/{number}/rng.pth" for number in range(10_000))])
    remote = resolve_revision("org/model", None, HASTY)
    assert (len(remote.files), len(remote.skipped)) == (1, 10_000)
    assert download_snapshot(remote, HASTY, ignore).is_dir()
    hub.describe([f"model-{number}.safetensors" for number in range(10_000)])
    with pytest.raises(ConfigurationError, match=f"10,000 files of a model, more than {MAX_FILES:,}"):
        resolve_revision("org/model", None, HASTY)
    assert not front.gets("model-")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"size": -1}, "has -1 bytes"),
        ({"size": None}, "has None bytes"),
        ({"size": "1"}, "has '1' bytes"),
        ({"size": True}, "has True bytes"),
        ({"size": 1.5}, "has 1.5 bytes"),
        ({"size": 1 << 60}, "has 1152921504606846976 bytes"),
        ({"lfs": None}, "names no hash for model.safetensors"),
        ({"lfs": {"sha256": "../x", "size": 1, "pointerSize": 1}}, "names no hash for model.safetensors"),
        ({"lfs": {"sha256": None, "size": 1, "pointerSize": 1}}, "names no hash for model.safetensors"),
    ],
)
def test_sizes_and_hashes_that_cannot_be(changes: dict[str, object], fault: str) -> None:
    with pytest.raises(InfrastructureError, match="is not valid") as raised:
        listed(**changes)
    assert fault in str(raised.value.cause)
    assert listed().files[0].sha256 == SHA256


def test_a_size_that_is_another(lister: tuple[Lister, Front]) -> None:
    """Of a file that has the right hash: the disk was then looked at in vain."""
    hub, _ = lister
    hub.describe(["model.safetensors"])
    hub.extra = {"siblings": [{**hub.description()["siblings"][0], "size": 2}]}
    with pytest.raises(InfrastructureError, match=r"model\.safetensors .*does not have the hash"):
        download_snapshot(resolve_revision("org/model", None, HASTY), HASTY, ignore)


@pytest.mark.parametrize("identifier", [None, 3, "", "a/b/c", "org/model\n::error::", "../x/y", "hf://x"])
def test_a_repository_that_has_no_name(identifier: object) -> None:
    with pytest.raises(InfrastructureError, match="is not valid"):
        read(id=identifier, siblings=[])


@given(name=st.from_regex(files._ALLOWED, fullmatch=True))
@settings(max_examples=200, deadline=None)
def test_every_allowed_name_is_in_the_document(name: str) -> None:
    listed, _ = documented()
    assert name.startswith(".") or any(fnmatchcase(name, pattern) for pattern in listed), name


def test_every_name_in_the_document_is_treated_so() -> None:
    listed, kept_away = documented()
    assert [pattern for pattern in listed if not is_allowed_file(pattern.replace("*", "x"))] == []
    assert [pattern for pattern in kept_away if is_allowed_file(pattern.replace("*", "x"))] == []
    assert len(kept_away) == 7


def documented() -> tuple[list[str], list[str]]:
    """The patterns that docs/pulling.md says are downloaded, and never downloaded."""
    section = DOCUMENT.read_text().partition("## What is downloaded")[2].partition("\n## ")[0]
    rows, _, rest = section.partition("\nNo ")
    return re.findall("`([^`]+)`", rows), re.findall("`([^`]+)`", rest)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["rfilename", "size", "lfs", "sha256", "total"]), inner, max_size=3)
        ),
        max_leaves=6,
    ),
    st.sampled_from(
        [
            "id",
            "sha",
            "siblings",
            "gated",
            "private",
            "cardData",
            "safetensors",
            "securityRepoStatus",
            "createdAt",
            "tags",
        ]
    ),
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_description_is_read_or_refused(lister: tuple[Lister, Front], value: object, key: str) -> None:
    hub, _ = lister
    hub.describe(["model.safetensors"], **{key: value})
    with suppress(AntidoteError):
        resolve_revision("org/model", None, HASTY)
