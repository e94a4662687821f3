"""Pulling with the real client over real HTTP."""

import os
import shutil
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from antidote_ci.demo.hub import LoopbackHub
from antidote_ci.errors import ConfigurationError, InfrastructureError, UnsafeCheckpoint
from antidote_ci.hub.pull import Remote, download, ensure_space, is_local, resolve, total_bytes
from antidote_ci.records import Progress
from tests.hub.hub_samples import TOKEN, MakeModel, ignore


def test_a_branch_becomes_one_commit_and_its_allowed_files(hub: LoopbackHub, model: MakeModel) -> None:
    folder = model()
    revision = hub.add("org/model", folder)
    remote = resolve("org/model", None, None)
    assert remote.revision == revision
    assert {file.path for file in remote.files} == {"README.md", "config.json", "model.safetensors"}
    assert remote.skipped == ["nested/notes.txt"]
    assert remote.licence == "apache-2.0"
    assert not any("/resolve/" in request for request in hub.history), "metadata only"

    seen: list[Progress] = []
    pulled = download(remote, None, seen.append)
    for file in remote.files:
        assert (pulled / file.path).read_bytes() == (folder / file.path).read_bytes()
    assert not (pulled / "nested").exists()
    downloaded = [step for step in seen if step.what == "download"]
    assert downloaded[-1] == Progress("download", total_bytes(remote), total_bytes(remote))
    assert [step.done for step in downloaded] == sorted(step.done for step in downloaded)
    assert seen[-1] == Progress("verify", total_bytes(remote), total_bytes(remote))


def test_a_commit_in_the_cache_needs_no_request(hub: LoopbackHub, model: MakeModel) -> None:
    revision = hub.add("org/model", model())
    first = resolve("org/model", "main", None)
    folder = download(first, None, ignore)
    before = hub.history
    assert resolve("org/model", revision, None) == first
    assert download(first, None, ignore) == folder
    assert hub.history == before


def test_a_commit_half_in_the_cache_is_completed(hub: LoopbackHub, model: MakeModel) -> None:
    revision = hub.add("org/model", model())
    remote = resolve("org/model", None, None)
    folder = download(remote, None, ignore)
    (folder / "config.json").resolve().unlink()
    assert resolve("org/model", revision, None) == remote
    seen: list[Progress] = []
    assert (download(remote, None, seen.append) / "config.json").read_text()
    assert seen[0].done == total_bytes(remote), "what is there already counts as done"


def test_the_commit_stays_when_main_moves(hub: LoopbackHub, model: MakeModel) -> None:
    first = model("first", seed=1)
    revision = hub.add("org/model", first)
    remote = resolve("org/model", None, None)
    assert hub.add("org/model", model("second", seed=2)) != revision
    pulled = download(remote, None, ignore) / "model.safetensors"
    assert pulled.read_bytes() == (first / "model.safetensors").read_bytes()
    assert resolve("org/model", revision, None) == remote


@pytest.mark.parametrize("token", [None, TOKEN])
def test_unknown_id(hub: LoopbackHub, token: str | None) -> None:
    with pytest.raises(InfrastructureError, match="org/nothing is not on") as raised:
        resolve("org/nothing", None, token)
    assert raised.value.hint is not None
    assert "HF_TOKEN" in raised.value.hint


def test_malformed_id(hub: LoopbackHub) -> None:
    with pytest.raises(ConfigurationError, match="not a model's name"):
        resolve("a/b/c", None, None)
    assert hub.history == []


def test_unknown_revision(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model())
    for revision in ("nowhere", "0" * 40, "refs/pr/1"):
        with pytest.raises(InfrastructureError, match="no such revision"):
            resolve("org/model", revision, None)


def test_gated_id(hub: LoopbackHub, model: MakeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)  # not ours to use unless it is passed
    hub.add("org/gated", model(), gated=True)
    with pytest.raises(InfrastructureError, match="org/gated is gated") as raised:
        resolve("org/gated", None, None)
    assert raised.value.hint == (f"accept the conditions at {hub.endpoint}/org/gated, then set HF_TOKEN")
    remote = resolve("org/gated", None, TOKEN)
    with pytest.raises(InfrastructureError, match="org/gated is gated"):
        download(remote, None, ignore)
    assert download(remote, TOKEN, ignore).is_dir()


def test_only_pickled_weights(hub: LoopbackHub, pickled: Path) -> None:
    hub.add("org/pickled", pickled)
    with pytest.raises(UnsafeCheckpoint, match=r"pytorch_model\.bin") as raised:
        resolve("org/pickled", None, None)
    assert raised.value.hint is not None
    assert "safetensors/convert" in raised.value.hint


def test_no_weights(hub: LoopbackHub, pickled: Path) -> None:
    (pickled / "pytorch_model.bin").unlink()
    hub.add("org/empty", pickled)
    with pytest.raises(ConfigurationError, match="no weights in safetensors"):
        resolve("org/empty", None, None)


def test_pickles_beside_safetensors_stay_on_the_hub(hub: LoopbackHub, model: MakeModel, pickled: Path) -> None:
    folder = model()
    shutil.copy(pickled / "pytorch_model.bin", folder)
    hub.add("org/both", folder)
    remote = resolve("org/both", None, None)
    assert "pytorch_model.bin" in remote.skipped
    assert not (download(remote, None, ignore) / "pytorch_model.bin").exists()


def test_wrong_bytes_of_the_right_size(hub: LoopbackHub, model: MakeModel, tmp_path: Path) -> None:
    hub.add("org/model", model())
    remote = resolve("org/model", None, None)
    weights = next(file for file in remote.files if file.sha256)
    blob = tmp_path / "hub" / "blobs" / str(weights.sha256)
    good = blob.read_bytes()
    blob.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(InfrastructureError, match=r"model\.safetensors.*sha256") as raised:
        download(remote, None, ignore)
    # What the hint says to delete is enough to go on from, once the Hub serves the right bytes.
    blob.write_bytes(good)
    hint = str(raised.value.hint)
    Path(hint.removeprefix("delete ").partition(" and ")[0]).unlink()
    assert (download(remote, None, ignore) / "model.safetensors").read_bytes() == good


def test_a_cached_file_cut_short(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model())
    remote = resolve("org/model", None, None)
    card = download(remote, None, ignore) / "README.md"
    card.resolve().write_text("")
    with pytest.raises(InfrastructureError, match=r"README\.md .*not downloaded whole"):
        download(remote, None, ignore)


def test_network_down(client_settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://user:secret@127.0.0.1:{port}/")
    with pytest.raises(InfrastructureError, match=f"127.0.0.1:{port} cannot be reached") as raised:
        resolve("org/model", None, None)
    assert "secret" not in f"{raised.value.what} {raised.value.cause} {raised.value.hint}"


def test_a_closed_hub_stops_answering(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model())
    resolve("org/model", None, None)
    hub.__exit__(None, None, None)
    with pytest.raises(InfrastructureError, match="cannot be reached"):
        resolve("org/model", None, None)


def test_hub_in_trouble(hub: LoopbackHub, model: MakeModel, tmp_path: Path) -> None:
    hub.add("org/model", model())
    (tmp_path / "hub" / "repositories" / "org" / "model" / "state.json").write_text("{")
    with pytest.raises(InfrastructureError, match="answered 500") as raised:
        resolve("org/model", None, None)
    assert raised.value.hint == "run the same command again later"


@pytest.mark.parametrize("answer", [b"<html>Log in to this network</html>", b'{"id": "org/model"}'])
def test_what_answers_is_no_hub(client_settings: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(InfrastructureError) as raised:
            resolve("org/model", None, None)
        thread.join()
    assert "HF_ENDPOINT" in str(raised.value.hint)


def test_disk_too_small(tmp_path: Path) -> None:
    ensure_space(tmp_path / "not" / "yet", 1)
    with pytest.raises(InfrastructureError, match=r"1,000,000,000,000\.0 MB needed, [\d,]+\.\d MB free"):
        ensure_space(tmp_path / "not" / "yet", 10**18)


def test_an_absurd_repository_is_refused_before_the_download(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model())
    honest = resolve("org/model", None, None)
    files = [type(file)(file.path, 10**18, file.sha256) for file in honest.files]
    with pytest.raises(InfrastructureError, match="not enough disk space"):
        download(Remote(honest.id, honest.revision, files, [], None), None, ignore)
    assert not any("/resolve/" in request for request in hub.history)


def test_offline(hub: LoopbackHub, model: MakeModel, tmp_path: Path) -> None:
    """In a process of its own, since the client reads HF_HUB_OFFLINE at import."""
    revision = hub.add("org/model", model())
    download(resolve("org/model", None, None), None, ignore)
    before = hub.history
    script = (
        "from antidote_ci.errors import InfrastructureError\n"
        "from antidote_ci.hub.pull import download, resolve\n"
        f"print(download(resolve('org/model', '{revision}', None), None, lambda _: None))\n"
        "try: resolve('org/model', None, None)\n"
        "except InfrastructureError as error: print(error.cause)\n"
    )
    environment = {
        **os.environ,
        **hub.environment,
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_CACHE": str(tmp_path / "cache"),
    }
    ran = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert revision in ran.stdout
    assert "HF_HUB_OFFLINE is set" in ran.stdout
    assert hub.history == before


def test_a_pull_request_can_be_pulled_by_its_ref(hub: LoopbackHub, model: MakeModel) -> None:
    hub.add("org/model", model())
    HfApi(endpoint=hub.endpoint, token=TOKEN).create_commit(
        "org/model",
        [CommitOperationAdd("config.json", b'{"model_type": "qwen2"}')],
        commit_message="Change the configuration",
        create_pr=True,
    )
    folder = download(resolve("org/model", "refs/pr/1", None), None, ignore)
    assert "qwen2" in (folder / "config.json").read_text()


def test_local_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "model").mkdir(parents=True)
    for name in ("org/model", "./missing", "../missing", "/missing", "~/missing", "."):
        assert is_local(name), name
    for name in ("org/other", "gpt2"):
        assert not is_local(name), name
