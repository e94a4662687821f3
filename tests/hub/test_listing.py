"""File lists of a Hub: invalid lists are refused, and only files of a model are requested."""

import hashlib
import re
from collections.abc import Iterator
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
from tests.hub.canned import Canned, CannedHub, Request
from tests.hub.hub_samples import NO_RETRY

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
    """A Hub on which every repository lists `names`, each a file of one byte."""

    commits = 0

    def __init__(self) -> None:
        self.names: list[str] = []
        self.extra: dict[str, Any] = {}

    def __call__(self, request: Request) -> Canned:
        path = unquote(request.path.partition("?")[0])
        if "/resolve/" in path:
            return Canned(200, CONTENT, {"ETag": f'"{self.tag(path)}"', "X-Repo-Commit": self.commit})
        if "/tree/" in path:
            return Canned.of([self.entry(name) for name in self.names])
        return Canned.of(self.description())

    def describe(self, names: list[str], **extra: object) -> None:
        """Set the list, at a new commit."""
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
def lister(client_settings: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Lister, CannedHub]]:
    listing = Lister()
    with CannedHub(listing) as front:
        monkeypatch.setenv("HF_ENDPOINT", front.endpoint)
        yield listing, front


def read(**description: object) -> RemoteRepository:
    """Parse a description of org/model."""
    info = ModelInfo(**{"id": "org/model", "sha": "0" * 40, **description})  # type: ignore[no-untyped-call]
    return parse_repository("org/model", info)


def listed(**changes: object) -> RemoteRepository:
    """Parse a description with one file, whose fields are changed."""
    file = {"rfilename": "model.safetensors", "size": 1, "lfs": {"sha256": SHA256, "size": 1, "pointerSize": 1}}
    return read(siblings=[{**file, **changes}])


@given(names=st.lists(PATHS, max_size=6))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_only_files_of_a_model_are_requested_and_written(
    lister: tuple[Lister, CannedHub], tmp_path: Path, client_settings: Path, names: list[str]
) -> None:
    hub, front = lister
    hub.describe([*names, "model.safetensors"])
    before = len(front.requests)
    outside = {path for path in tmp_path.rglob("*") if not path.is_relative_to(client_settings)}
    refused, folder = None, Path()
    try:
        folder = download_snapshot(resolve_revision("org/model", None, NO_RETRY), NO_RETRY, ignore)
    except AntidoteError as error:
        refused = error
    if refused is not None:
        assert isinstance(refused, UnsafeCheckpoint) or len(set(names)) < len(names)
        assert len(front.requests) == before + 1, "refused by the description alone"
    else:
        written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert written == {name for name in [*names, "model.safetensors"] if is_allowed_file(name)}
        assert not set(names) & set(HOSTILE)
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(client_settings)} == outside
    for request in front.requests[before:]:
        _, resolved, name = unquote(request.path).partition(f"/resolve/{hub.commit}/")
        assert not resolved or is_allowed_file(name)


@pytest.mark.parametrize("name", HOSTILE)
def test_path_outside_the_repository_is_refused(name: str) -> None:
    with pytest.raises(UnsafeCheckpoint, match="a file outside the repository"):
        read(siblings=[{"rfilename": name, "size": 1}])


@pytest.mark.parametrize("name", ODD)
def test_other_files_are_skipped(name: str) -> None:
    remote = read(siblings=[{"rfilename": name, "size": -1}])
    assert (remote.files, remote.skipped) == ([], [name])


def test_repository_with_ten_thousand_files(lister: tuple[Lister, CannedHub]) -> None:
    hub, front = lister
    hub.describe(["model.safetensors", *(f"checkpoints/{number}/rng.pth" for number in range(10_000))])
    remote = resolve_revision("org/model", None, NO_RETRY)
    assert (len(remote.files), len(remote.skipped)) == (1, 10_000)
    assert download_snapshot(remote, NO_RETRY, ignore).is_dir()
    hub.describe([f"model-{number}.safetensors" for number in range(10_000)])
    with pytest.raises(ConfigurationError, match=f"10,000 files of a model, more than {MAX_FILES:,}"):
        resolve_revision("org/model", None, NO_RETRY)
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
def test_impossible_sizes_and_hashes_are_refused(changes: dict[str, object], fault: str) -> None:
    with pytest.raises(InfrastructureError, match="is not valid") as raised:
        listed(**changes)
    assert fault in str(raised.value.cause)
    assert listed().files[0].digest == SHA256


def test_wrong_size_is_refused(lister: tuple[Lister, CannedHub]) -> None:
    """Of a file with the right hash: the check of the disk space used the wrong size."""
    hub, _ = lister
    hub.describe(["model.safetensors"])
    hub.extra = {"siblings": [{**hub.description()["siblings"][0], "size": 2}]}
    with pytest.raises(InfrastructureError, match=r"model\.safetensors .*does not have the hash"):
        download_snapshot(resolve_revision("org/model", None, NO_RETRY), NO_RETRY, ignore)


@pytest.mark.parametrize("identifier", [None, 3, "", "a/b/c", "org/model\n::error::", "../x/y", "hf://x"])
def test_invalid_repository_name_is_refused(identifier: object) -> None:
    with pytest.raises(InfrastructureError, match="is not valid"):
        read(id=identifier, siblings=[])


@given(name=st.from_regex(files._ALLOWED, fullmatch=True))
@settings(max_examples=200, deadline=None)
def test_document_lists_every_allowed_file(name: str) -> None:
    listed, _ = documented()
    assert name.startswith(".") or any(fnmatchcase(name, pattern) for pattern in listed), name


def test_listed_files_are_allowed() -> None:
    listed, kept_away = documented()
    assert [pattern for pattern in listed if not is_allowed_file(pattern.replace("*", "x"))] == []
    assert [pattern for pattern in kept_away if is_allowed_file(pattern.replace("*", "x"))] == []
    assert len(kept_away) == 7


def documented() -> tuple[list[str], list[str]]:
    """The patterns that docs/pulling.md lists as downloaded, and as never downloaded."""
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
def test_every_description_is_parsed_or_refused(lister: tuple[Lister, CannedHub], value: object, key: str) -> None:
    hub, _ = lister
    hub.describe(["model.safetensors"], **{key: value})
    with suppress(AntidoteError):
        resolve_revision("org/model", None, NO_RETRY)
