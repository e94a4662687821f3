"""Pulls with the real client from a loopback Hub."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, constants

from antidote_ci.errors import ConfigurationError, InfrastructureError, UnsafeCheckpoint
from antidote_ci.hub import datasets
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.pull import count_missing_bytes, download_snapshot, resolve_revision
from antidote_ci.hub.remote import RemoteFile, RepositoryInfo, count_remote_bytes
from antidote_ci.hub.retry import RetryPolicy
from antidote_ci.records import Progress
from loopback_hub import LoopbackHub
from loopback_hub.strictness import VARIANTS, read_strictness
from tests.builders import ignore
from tests.hub.canned import Canned, CannedHub, Request, forward
from tests.hub.hub_samples import NO_RETRY, TOKEN, MakeModel, full_text

SCRIPT = """
import signal, sys
from antidote_ci.errors import AntidoteError
from antidote_ci.hub.access import HubAccess
from antidote_ci.hub.pull import download_snapshot, resolve_revision
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background commands ignore it
for revision in sys.argv[1:]:
    try:
        print(download_snapshot(resolve_revision('org/model', revision, HubAccess()), HubAccess(), lambda _: None))
    except AntidoteError as error:
        print(error.what, error.cause, error.hint)
"""

SENT_BY_XET = {"model.safetensors"} if read_strictness().has_xet else set()
"""Files for which the client asks the Hub nothing: the file list has named their Xet hash."""


def patient(mend: Callable[[], object]) -> HubAccess:
    """Access whose retry policy repairs the Hub instead of sleeping."""

    def wait(_: float) -> None:
        mend()

    return HubAccess(retry_policy=RetryPolicy(sleep=wait))


def pull_in_a_new_process(environment: dict[str, str], *revisions: str) -> str:
    """Pull in a new process, since the client reads its environment at import."""
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, *revisions],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return ran.stdout + ran.stderr


def flip(path: Path) -> None:
    """Flip one bit."""
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_pull_downloads_the_allowed_files_of_one_commit(hub: LoopbackHub, model: MakeModel) -> None:
    folder = model()
    revision = hub.add("org/model", folder)
    remote = resolve_revision("org/model", None, HubAccess())
    assert remote.revision == revision
    assert {file.path for file in remote.files} == {"README.md", "config.json", "model.safetensors"}
    assert remote.skipped == ["nested/notes.txt"]
    assert remote.licence == "apache-2.0"
    assert not any("/resolve/" in request for request in hub.requests), "metadata only"

    seen: list[Progress] = []
    pulled = download_snapshot(remote, HubAccess(), seen.append)
    for file in remote.files:
        assert (pulled / file.path).read_bytes() == (folder / file.path).read_bytes()
    assert not (pulled / "nested").exists()
    paths = {unquote(request).rpartition(f"/{revision}/")[2] for request in hub.requests if "/resolve/" in request}
    assert paths == {file.path for file in remote.files} - SENT_BY_XET, "no other file is requested"
    received = [step for step in seen if step.what == "download"]
    assert received[-1] == Progress("download", count_remote_bytes(remote), count_remote_bytes(remote))
    assert [step.done for step in received] == sorted(step.done for step in received)
    assert seen[-1] == Progress("verify", count_remote_bytes(remote), count_remote_bytes(remote))


def test_repository_info(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model(), gated=True)

    info = resolve_revision("org/model", None, HubAccess(TOKEN)).info
    assert info is not None
    assert info.name == "org/model"
    for moment in (info.created, info.modified):
        assert moment is not None
        assert abs((datetime.now(UTC) - moment).total_seconds()) < 3600


def fetch_info(hub: LoopbackHub, patch: pytest.MonkeyPatch, **changes: object) -> RepositoryInfo:
    """Resolve org/model, with other fields in its description."""

    def answer(request: Request) -> Canned:
        return Canned.of({**forward(hub.endpoint, request).json(), **changes})

    with CannedHub(answer) as front:
        patch.setenv("HF_ENDPOINT", front.endpoint)
        info = resolve_revision("org/model", None, NO_RETRY).info
        assert "securityStatus=true" in front.requests[0].path
    assert info is not None
    return info


def test_renamed_repository(hub: LoopbackHub, model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("org/model", model())
    info = fetch_info(hub, monkeypatch, id="new-org/model", safetensors={"parameters": {"F32": 5}, "total": 5})
    assert (info.name, info.parameters) == ("new-org/model", 5)


def test_findings_of_the_scanners(
    hub: LoopbackHub, model: MakeModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub.add("org/model", model())

    def status(path: str, level: str) -> dict[str, object]:
        return {"scansDone": True, "filesWithIssues": [{"path": path, "level": level}]}

    accepted: list[object] = [
        status("nested/x.bin", "unsafe"),
        status("config.json", "caution"),
        *(None, [], {"filesWithIssues": 3}, {"filesWithIssues": ["x", None]}),
    ]
    for value in accepted:
        fetch_info(hub, monkeypatch, securityRepoStatus=value)
    assert caplog.messages == []
    for level in ("queued", "error", "a new\nword"):
        fetch_info(hub, monkeypatch, securityRepoStatus=status("model.safetensors", level))
        (message,) = caplog.messages
        assert message == f"the Hub's scanners do not call 'model.safetensors' of org/model safe: {level!r}"
        caplog.clear()
    with pytest.raises(UnsafeCheckpoint, match=r"scanners call model\.safetensors"):
        fetch_info(hub, monkeypatch, securityRepoStatus=status("model.safetensors", "unsafe"))


def test_cached_commit_sends_no_request(hub: LoopbackHub, model: MakeModel) -> None:
    revision = hub.add("org/model", model())
    first = resolve_revision("org/model", "main", HubAccess())
    folder = download_snapshot(first, HubAccess(), ignore)
    before = hub.requests
    hub.__exit__(None, None, None)
    cached = resolve_revision("org/model", revision, NO_RETRY)
    assert cached == replace(first, info=None)
    assert download_snapshot(cached, NO_RETRY, ignore) == folder
    assert hub.requests == before
    assert count_missing_bytes(cached) == 0


def test_partial_download_is_completed(hub: LoopbackHub, model: MakeModel) -> None:
    revision = hub.add("org/model", model())
    remote = resolve_revision("org/model", None, HubAccess())
    folder = download_snapshot(remote, HubAccess(), ignore)
    weights = folder / "model.safetensors"
    size = weights.stat().st_size
    weights.resolve().unlink()
    assert resolve_revision("org/model", revision, HubAccess()) == remote
    assert count_missing_bytes(remote) == size
    before = len(hub.requests)
    seen: list[Progress] = []
    download_snapshot(remote, HubAccess(), seen.append)
    assert weights.stat().st_size == size
    assert seen[0] == Progress("download", count_remote_bytes(remote), count_remote_bytes(remote)), (
        "cached files count as received"
    )
    assert {request.rpartition("/")[2] for request in hub.requests[before:]} == {"model.safetensors"} - SENT_BY_XET


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_cache_without_links_is_not_trusted(hub: LoopbackHub, model: MakeModel, name: str) -> None:
    revision = hub.add("org/model", model())
    remote = resolve_revision("org/model", None, HubAccess())
    file = download_snapshot(remote, HubAccess(), ignore) / name
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content)
    assert resolve_revision("org/model", revision, HubAccess()) == remote, "from the Hub"
    assert (download_snapshot(remote, NO_RETRY, ignore) / name).read_bytes() == content


def test_resolved_commit_is_kept_when_main_moves(hub: LoopbackHub, model: MakeModel) -> None:
    first = model("first", seed=1)
    revision = hub.add("org/model", first)
    remote = resolve_revision("org/model", None, HubAccess())
    assert hub.add("org/model", model("second", seed=2)) != revision
    pulled = download_snapshot(remote, HubAccess(), ignore) / "model.safetensors"
    assert pulled.read_bytes() == (first / "model.safetensors").read_bytes()
    assert resolve_revision("org/model", revision, HubAccess()) == replace(remote, info=None)


@pytest.mark.parametrize("token", [None, TOKEN])
def test_unknown_id(hub: LoopbackHub, token: str | None) -> None:
    with pytest.raises(InfrastructureError, match="org/nothing is not on") as raised:
        resolve_revision("org/nothing", None, HubAccess(token))
    assert raised.value.hint is not None
    assert "HF_TOKEN" in raised.value.hint


def test_malformed_id(hub: LoopbackHub) -> None:
    for revision in (None, "0" * 40):
        with pytest.raises(ConfigurationError, match="not a model name"):
            resolve_revision("a/b/c", revision, HubAccess())
    assert hub.requests == []


def test_unknown_revision(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model())
    for revision in ("nowhere", "0" * 40, "refs/pr/1"):
        with pytest.raises(InfrastructureError, match="no such revision"):
            resolve_revision("org/model", revision, HubAccess())


def test_gated_id(hub: LoopbackHub, model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)  # not ours to use unless it is passed
    hub.add("org/gated", model(), gated=True)
    with pytest.raises(InfrastructureError, match="org/gated is gated") as raised:
        resolve_revision("org/gated", None, HubAccess())
    assert f"{hub.endpoint}/org/gated" in str(raised.value.hint)
    remote = resolve_revision("org/gated", None, HubAccess(TOKEN))
    with pytest.raises(InfrastructureError, match="org/gated is gated"):
        download_snapshot(remote, HubAccess(), ignore)
    assert download_snapshot(remote, HubAccess(TOKEN), ignore).is_dir()


def test_only_pickled_weights(hub: LoopbackHub, pickled: Path) -> None:
    hub.add("org/pickled", pickled)
    with pytest.raises(UnsafeCheckpoint, match=r"pytorch_model\.bin") as raised:
        resolve_revision("org/pickled", None, HubAccess())
    assert raised.value.hint is not None
    assert "safetensors/convert" in raised.value.hint


def test_no_weights(hub: LoopbackHub, pickled: Path) -> None:
    (pickled / "pytorch_model.bin").unlink()
    hub.add("org/empty", pickled)
    with pytest.raises(ConfigurationError, match="no weights in safetensors"):
        resolve_revision("org/empty", None, HubAccess())


def test_pickles_beside_safetensors_stay_on_the_hub(hub: LoopbackHub, model: MakeModel, pickled: Path) -> None:
    folder = model()
    shutil.copy(pickled / "pytorch_model.bin", folder)
    hub.add("org/both", folder)
    remote = resolve_revision("org/both", None, HubAccess())
    assert "pytorch_model.bin" in remote.skipped
    assert not (download_snapshot(remote, HubAccess(), ignore) / "pytorch_model.bin").exists()
    assert not any("pytorch_model" in request for request in hub.requests)


def add_wrong_bytes(hub: LoopbackHub, folder: Path, name: str) -> Path:
    """Add a model, and flip a bit of a file in the Hub's storage, which is returned."""
    commit = hub.add("org/model", folder)
    blob = hub.store.blobs.path(hub.store.commit("org/model", commit).files[name].sha256)
    assert blob is not None
    flip(blob)
    return blob


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_wrong_bytes_of_the_right_size(hub: LoopbackHub, model: MakeModel, client_settings: Path, name: str) -> None:
    """A file in large-file storage and a file in git."""
    blob = add_wrong_bytes(hub, model(), name)
    remote = resolve_revision("org/model", None, HubAccess())
    with pytest.raises(InfrastructureError, match=f"{name} .*does not have the hash") as raised:
        download_snapshot(remote, NO_RETRY, ignore)
    assert raised.value.hint == "run the same command again"
    remaining = [
        path for path in client_settings.rglob("*") if path.is_file() and path.read_bytes() == blob.read_bytes()
    ]
    assert remaining == [], "wrong bytes are removed"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_wrong_bytes_are_downloaded_again(
    hub: LoopbackHub, model: MakeModel, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = model()
    good, blob = (source / name).read_bytes(), add_wrong_bytes(hub, source, name)
    remote = resolve_revision("org/model", None, HubAccess())
    seen: list[Progress] = []
    folder = download_snapshot(remote, patient(lambda: flip(blob) if blob.read_bytes() != good else None), seen.append)
    assert (folder / name).read_bytes() == good
    assert f"{name} of org/model does not have the hash that the Hub names; retrying" in caplog.text
    assert seen[-1] == Progress("verify", count_remote_bytes(remote), count_remote_bytes(remote))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "README.md"])
@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_damaged_cached_file_is_downloaded_again(
    hub: LoopbackHub, model: MakeModel, name: str, damage: Callable[[Path], object]
) -> None:
    revision = hub.add("org/model", model())
    remote = resolve_revision("org/model", None, HubAccess())
    file = download_snapshot(remote, HubAccess(), ignore) / name
    good = file.read_bytes()
    damage(file.resolve())
    before = len(hub.requests)
    for cached in (remote, resolve_revision("org/model", revision, HubAccess())):
        assert (download_snapshot(cached, patient(lambda: None), ignore) / name).read_bytes() == good
    assert {request.rpartition("/")[2] for request in hub.requests[before:]} == {name} - SENT_BY_XET, (
        "valid files are kept"
    )


@pytest.mark.parametrize("linked", ["the blob", "the file"])
def test_files_outside_the_cache_folder_are_not_removed(
    hub: LoopbackHub, model: MakeModel, tmp_path: Path, linked: str
) -> None:
    """A blob shared by several repositories, or any other target of a link."""
    hub.add("org/model", model())
    remote = resolve_revision("org/model", None, HubAccess())
    file = download_snapshot(remote, HubAccess(), ignore) / "model.safetensors"
    link, shared = file.resolve() if linked == "the blob" else file, tmp_path / "shared"
    good = file.read_bytes()
    shared.write_bytes(b"of another repository")
    link.unlink()
    link.symlink_to(shared)
    with pytest.raises(InfrastructureError, match="does not have the hash") as raised:
        download_snapshot(remote, NO_RETRY, ignore)
    assert raised.value.hint == f"delete {shared}, then run the same command again"
    assert shared.read_bytes() == b"of another repository"
    assert (download_snapshot(remote, NO_RETRY, ignore) / "model.safetensors").read_bytes() == good


def test_interrupted_transfer_is_resumed(hub: LoopbackHub, model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model()
    hub.add("org/model", folder)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)
    cuts = [20, 3000]

    def respond(request: Request) -> Canned:
        answer = forward(hub.endpoint, request)
        weights = request.method == "GET" and request.path.endswith(".safetensors")
        return replace(answer, cut=cuts.pop()) if weights and cuts else answer

    with CannedHub(respond) as front:
        monkeypatch.setenv("HF_ENDPOINT", front.endpoint)
        pulled = download_snapshot(resolve_revision("org/model", None, NO_RETRY), NO_RETRY, ignore)
        spans = [request.headers["range"] for request in front.requests if "range" in request.headers]
    begins = [int(span.removeprefix("bytes=").removesuffix("-")) for span in spans]
    size = (folder / "model.safetensors").stat().st_size
    assert [size - 3000 - begins[0] < 100, size - 20 - begins[1] < 100, len(begins)] == [True, True, 2]
    assert (pulled / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_download_longer_than_described_ends(
    hub: LoopbackHub, model: MakeModel, client_settings: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It could fill the disk: the client compares the size at the end."""
    hub.add("org/model", model())
    longest = 0

    def respond(request: Request) -> Canned:
        answer = forward(hub.endpoint, request)
        if request.method == "GET" and request.path.endswith(name):
            return Canned(200, answer.body + b"x" * 50_000_000)
        return answer

    def measure(_: float) -> None:
        nonlocal longest
        sizes = [file.stat().st_size for file in client_settings.rglob("*") if file.is_file()]
        longest = max(longest, *sizes)

    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100_000)
    with CannedHub(respond) as front:
        monkeypatch.setenv("HF_ENDPOINT", front.endpoint)
        remote = resolve_revision("org/model", None, NO_RETRY)
        with pytest.raises(InfrastructureError, match=f"{name} of org/model has more than the .* bytes"):
            download_snapshot(remote, HubAccess(retry_policy=RetryPolicy(3, sleep=measure)), ignore)
    assert longest < 1_000_000


def test_branch_with_the_name_of_a_commit_is_refused(
    hub: LoopbackHub, model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git allows it, and the Hub may prefer the branch. A revision of 40 digits is this commit or nothing."""
    folder = model()
    hub.add("org/model", folder)
    hub.add("org/model", folder, kind="dataset")

    def respond(request: Request) -> Canned:
        return forward(hub.endpoint, replace(request, path=request.path.replace("d" * 40, "main")))

    with CannedHub(respond) as front:
        monkeypatch.setenv("HF_ENDPOINT", front.endpoint)
        with pytest.raises(InfrastructureError, match=f"names commit .* for {'d' * 40} of org/model"):
            resolve_revision("org/model", "d" * 40, NO_RETRY)
        with pytest.raises(InfrastructureError, match=f"names commit .* for {'d' * 40} of datasets/org/model"):
            datasets.fetch_dataset("org/model", "d" * 40, {"a.jsonl": None}, NO_RETRY)


def test_signal_ends_a_slow_download(hub: LoopbackHub, model: MakeModel, client_settings: Path) -> None:
    """A file of gigabytes may arrive for an hour."""
    hub.add("org/model", model())
    asked = threading.Event()

    def respond(request: Request) -> Canned:
        if request.method == "GET" and request.path.endswith(".safetensors"):
            asked.set()
            time.sleep(20)
        return forward(hub.endpoint, request)

    with CannedHub(respond) as front:
        variables = {"HF_ENDPOINT": front.endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_CACHE": str(client_settings)}
        command = [sys.executable, "-c", SCRIPT, "main"]
        with subprocess.Popen(command, env=os.environ | variables, stderr=subprocess.PIPE, text=True) as process:
            assert asked.wait(30)
            process.send_signal(signal.SIGINT)
            assert "KeyboardInterrupt" in process.communicate(timeout=10)[1]


def test_short_file_is_downloaded_again(hub: LoopbackHub, model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Content-Length matches the body, so only the size in the metadata reveals the error."""
    hub.add("org/model", model())
    short = [True]

    def respond(request: Request) -> Canned:
        answer = forward(hub.endpoint, request)
        if request.method == "GET" and request.path.endswith(".safetensors") and short:
            return Canned(200, answer.body[:-1])
        return answer

    with CannedHub(respond) as front:
        monkeypatch.setenv("HF_ENDPOINT", front.endpoint)
        remote = resolve_revision("org/model", None, NO_RETRY)
        with pytest.raises(InfrastructureError, match="arrived incomplete"):
            download_snapshot(remote, NO_RETRY, ignore)
        assert download_snapshot(remote, patient(short.clear), ignore).is_dir()
        assert len(front.gets("config.json")) == 1, "valid files are kept"


def test_network_down(client_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://user:secret@127.0.0.1:{port}/")
    with pytest.raises(InfrastructureError, match=f"127.0.0.1:{port} cannot be reached") as raised:
        resolve_revision("org/model", None, NO_RETRY)
    assert "secret" not in full_text(raised.value)


def test_too_little_disk_space_is_refused_before_the_download(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model())
    honest = resolve_revision("org/model", None, HubAccess())
    files = [RemoteFile(file.path, 10**18, file.digest) for file in honest.files]
    with pytest.raises(InfrastructureError, match="not enough disk space"):
        download_snapshot(replace(honest, files=files), HubAccess(), ignore)
    assert not any("/resolve/" in request for request in hub.requests)


def test_offline(hub: LoopbackHub, model: MakeModel, client_settings: Path) -> None:
    revision = hub.add("org/model", model())
    folder = download_snapshot(resolve_revision("org/model", None, HubAccess()), HubAccess(), ignore)
    before = hub.requests
    environment = {**hub.environment, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(client_settings)}
    assert str(folder) in pull_in_a_new_process(environment, revision)
    (folder / "config.json").resolve().unlink()
    output = pull_in_a_new_process(environment, revision, "main")
    assert output.count("HF_HUB_OFFLINE is set") == output.count("unset HF_HUB_OFFLINE") == 2
    assert hub.requests == before


def test_pull_request_can_be_pulled(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model())
    HfApi(endpoint=hub.endpoint, token=TOKEN).create_commit(
        "org/model",
        [CommitOperationAdd("config.json", b'{"model_type": "qwen2"}')],
        commit_message="Change the configuration",
        create_pr=True,
    )
    folder = download_snapshot(resolve_revision("org/model", "refs/pr/1", HubAccess()), HubAccess(), ignore)
    assert "qwen2" in (folder / "config.json").read_text()


def test_only_the_given_token_is_sent(
    hub: LoopbackHub, model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a saved token, and not HF_TOKEN."""
    hub.add("org/model", model())
    home = tmp_path / "home"
    home.mkdir()
    (home / "token").write_text(TOKEN)
    with CannedHub(partial(forward, hub.endpoint)) as front:
        environment = {
            "HF_HOME": str(home),
            "HF_TOKEN": "hf_ofThisMachine",
            "HF_ENDPOINT": front.endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_CACHE": str(home / "hub"),
        }
        assert "snapshots" in pull_in_a_new_process(environment, "main")
        assert front.gets("config.json")
        assert [request for request in front.requests if "authorization" in request.headers] == []
        monkeypatch.setenv("HF_ENDPOINT", front.endpoint)
        before = len(front.requests)
        download_snapshot(resolve_revision("org/model", None, HubAccess(TOKEN)), HubAccess(TOKEN), ignore)
        assert {request.headers.get("authorization") for request in front.requests[before:]} == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    "card",
    [
        "---\nself: hello\n---\n",
        "---\nignore_metadata_errors: 1\n---\n",
        "---\nlicense: [\n---\n",
        "---\n- a\n---\n",
        "---\n1: a\n---\n",
        "---\na:\tb\n---\n",
        "---\nwhen: 2024-13-45\n---\n",
        "---\nlicense: caf\xe9\n---\n",
    ],
)
def test_model_with_an_invalid_card_can_be_pulled(hub: LoopbackHub, model: MakeModel, card: str) -> None:
    folder = model()
    (folder / "README.md").write_bytes(card.encode("latin-1"))
    revision = hub.add("org/model", folder)
    first = resolve_revision("org/model", None, HubAccess(TOKEN, RetryPolicy(0)))
    download_snapshot(first, HubAccess(TOKEN), ignore)
    before = len(hub.requests)
    again = resolve_revision("org/model", revision, HubAccess(TOKEN, RetryPolicy(0)))
    assert (again.revision, again.files) == (revision, first.files)
    assert len(hub.requests) == before, "all files are in the cache"


def test_token_is_not_sent_to_the_storage_host(
    hub: LoopbackHub, model: MakeModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The Hub redirects downloads of large files to another host."""
    folder = model()
    hub.add("org/model", folder, gated=True)
    refused = [True]

    def store(request: Request) -> Canned:
        if refused:
            refused.clear()
            return Canned(403, b"expired")
        return Canned(200, (folder / request.path.rpartition("/")[2]).read_bytes())

    with CannedHub(store) as elsewhere:

        def respond(request: Request) -> Canned:
            answer = forward(hub.endpoint, request)
            if "/resolve/" in request.path and request.path.endswith(".safetensors"):
                redirect = {
                    "Location": f"{elsewhere.endpoint}/model.safetensors",
                    "X-Linked-Etag": answer.headers["ETag"],
                    "X-Linked-Size": str((folder / "model.safetensors").stat().st_size),
                    "X-Repo-Commit": answer.headers["X-Repo-Commit"],
                }
                return Canned(302, b"", redirect)
            return answer

        with CannedHub(respond) as front:
            monkeypatch.setenv("HF_ENDPOINT", front.endpoint)
            access = HubAccess(TOKEN, RetryPolicy(0))
            remote = resolve_revision("org/model", None, access)
            with pytest.raises(InfrastructureError) as raised:
                download_snapshot(remote, access, ignore)
            pulled = download_snapshot(remote, access, ignore)
        assert [request.method for request in elsewhere.requests] == ["GET", "GET"]
        assert [request for request in elsewhere.requests if "authorization" in request.headers] == []
    assert (pulled / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert TOKEN not in full_text(raised.value)
    assert TOKEN not in caplog.text


def test_files_in_the_shared_store_of_xet(
    model: MakeModel, tmp_path: Path, client_settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client links to them twice, and names them by their Xet hash."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    with LoopbackHub(tmp_path / "hub", strictness=VARIANTS["xet"]) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        revision = hub.add("org/model", model())
        first = resolve_revision("org/model", "main", HubAccess())
        folder = download_snapshot(first, HubAccess(), ignore)
        weights = folder / "model.safetensors"
        good, stored = weights.read_bytes(), weights.resolve()
        assert stored.is_relative_to(client_settings / "blobs")
        before = hub.requests
        cached = resolve_revision("org/model", revision, NO_RETRY)
        assert cached == replace(first, info=None)
        assert download_snapshot(cached, NO_RETRY, ignore) == folder
        assert hub.requests == before
        flip(stored)
        assert download_snapshot(cached, patient(lambda: None), ignore) == folder
        assert weights.read_bytes() == good
