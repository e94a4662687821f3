"""Folders of links hold exactly the listed files, and the fingerprint covers them."""

import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import pytest

from antidote_ci.checkpoint import links
from antidote_ci.checkpoint.files import allow_link_targets, display_name, list_files
from antidote_ci.checkpoint.links import link_checkpoint, list_model_files, list_states, model_fingerprint
from antidote_ci.errors import ConfigurationError, UnsafeCheckpoint
from antidote_ci.records import Model

NAMES = ["additional_chat_templates/tools.jinja", "config.json", "model.safetensors"]


def write_folder(folder: Path) -> Path:
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")
    return folder


def write_snapshot(cache: Path) -> Path:
    """A snapshot as the Hub client writes it: each file is a link to a blob."""
    repository = cache / "models--org--name"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for name in ("config.json", "model.safetensors"):
        (repository / "blobs" / name[:3]).write_text(f"content of {name}")
        (snapshot / name).symlink_to(f"../../blobs/{name[:3]}")
    return snapshot


def test_links_are_hard_and_hold_the_listed_files_only(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "my model")
    linked = link_checkpoint(source, NAMES[:2], tmp_path / "links")
    assert linked.folder == tmp_path / "links" / "my model"
    assert linked.targets == []
    files = {path.relative_to(linked.folder).as_posix(): path for path in linked.folder.rglob("*") if path.is_file()}
    assert sorted(files) == NAMES[:2]
    for name, path in files.items():
        assert not path.is_symlink()
        assert path.samefile(source / name)


def test_file_on_another_disk_is_a_symbolic_link_with_a_target(tmp_path: Path) -> None:
    shared_memory = Path("/dev/shm")  # noqa: S108 - a second file system
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("the machine has one file system")
    done = subprocess.run(["mktemp", "-d", "-p", str(shared_memory)], capture_output=True, text=True, check=True)  # noqa: S607
    elsewhere = Path(done.stdout.strip())
    try:
        source = write_folder(elsewhere / "model")
        (source / "generation_config.json").symlink_to("config.json")
        linked = link_checkpoint(source, [*NAMES, "generation_config.json"], tmp_path / "links")
        assert linked.targets == [*(source / name for name in NAMES), source / "config.json"]
        assert (linked.folder / "config.json").read_text() == "content of config.json"
        # A reader refuses these links, which leave the folder, unless it is told of their targets.
        with pytest.raises(UnsafeCheckpoint, match="outside"):
            list_files(linked.folder)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("antidote_ci.checkpoint.files._link_targets", [])
            allow_link_targets(linked.targets)
            assert list_files(linked.folder) == sorted([*NAMES, "generation_config.json"])
    finally:
        subprocess.run(["rm", "-r", str(elsewhere)], check=True)  # noqa: S607


def test_snapshot_of_the_cache_keeps_its_display_name(tmp_path: Path) -> None:
    snapshot = write_snapshot(tmp_path / "cache")
    linked = link_checkpoint(snapshot, ["config.json", "model.safetensors"], tmp_path / "links")
    assert display_name(linked.folder) == display_name(snapshot) == "org/name"
    assert list_files(linked.folder) == ["config.json", "model.safetensors"]
    assert not any(path.is_symlink() for path in linked.folder.iterdir())


def test_relative_folder_is_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    linked = link_checkpoint(Path("model"), NAMES, tmp_path / "links")
    assert list_files(linked.folder) == NAMES


@pytest.mark.skipif(os.getuid() != 0, reason="only root can change the owner of a file")
@pytest.mark.parametrize(("owner", "mode", "copied"), [(65534, 0o600, True), (65534, 0o644, False), (0, 0o400, False)])
def test_file_that_only_root_can_read_is_copied(tmp_path: Path, owner: int, mode: int, copied: bool) -> None:
    source = write_folder(tmp_path / "model")
    os.chown(source / "config.json", owner, owner)
    (source / "config.json").chmod(mode)
    link = link_checkpoint(source, NAMES, tmp_path / "links").folder / "config.json"
    assert link.read_text() == "content of config.json"
    assert link.samefile(source / "config.json") is not copied
    assert link.stat().st_uid == (os.getuid() if copied else owner)


UNREADABLE = """
import os, sys
from pathlib import Path
from antidote_ci.checkpoint.links import link_checkpoint
from antidote_ci.errors import ConfigurationError
if os.getuid() == 0:
    os.setuid(65534)
try:
    link_checkpoint(Path(sys.argv[1]), ["config.json"], Path(sys.argv[2]))
except ConfigurationError as error:
    print(error.what)
"""


def test_file_that_cannot_be_read_is_named() -> None:
    """In a folder that the other user can read, unlike `tmp_path`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_folder(folder / "model")
        (source / "config.json").chmod(0)
        (folder / "links").mkdir()
        folder.chmod(0o755)
        (folder / "links").chmod(0o777)
        command = [sys.executable, "-c", UNREADABLE, str(source), str(folder / "links")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == f"{source / 'config.json'} cannot be read or copied: Permission denied\n", done.stderr


@pytest.mark.parametrize("name", ["config.json", "any.name", "additional_chat_templates/tools.jinja"])
def test_link_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    """A checkpoint could otherwise have any file of this machine linked, or copied by root, for its loader."""
    source = write_folder(tmp_path / "model")
    secret = tmp_path / "secret"
    secret.write_text("of another program")
    (source / name).unlink(missing_ok=True)
    (source / name).symlink_to(secret)
    for function in (list_states, lambda folder: model_fingerprint(Model(folder))):
        with pytest.raises(UnsafeCheckpoint, match=f"{name} is a link to a place outside"):
            function(source)


def test_states_change_with_the_files(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    seen = {list_states(folder)}
    assert list_states(folder) in seen
    (folder / "config.json").write_text("longer content than before")
    seen.add(list_states(folder))
    os.utime(folder / "config.json", ns=(1, 1))
    seen.add(list_states(folder))
    (folder / "new").touch()
    seen.add(list_states(folder))
    (folder / "replacement").write_text("longer content than before")
    os.utime(folder / "replacement", ns=(1, 1))
    (folder / "replacement").replace(folder / "config.json")
    seen.add(list_states(folder))
    assert len(seen) == 5


def test_states_of_a_file_and_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (state,) = list_states(tmp_path / "file")
    assert (state.name, state.identity.size) == ("", 1)
    with pytest.raises(ConfigurationError, match="nowhere cannot be read"):
        list_states(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "NOTICE.safetensors", "USE_POLICY", "SHA256SUMS", "any.name"])
def test_fingerprint_covers_every_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"one")
    before = model_fingerprint(Model(tmp_path))
    (tmp_path / name).write_bytes(b"two")
    assert model_fingerprint(Model(tmp_path)) != before


def test_fingerprint_depends_on_the_place_of_a_file(tmp_path: Path) -> None:
    """Templates in different folders, and those of model and adapter, have different meanings."""
    places = ["chat_template.jinja", "additional_chat_templates/chat_template.jinja"]
    folders = [tmp_path / str(number) for number in range(4)]
    for folder, (role, place) in zip(folders, product(("model", "adapter"), places), strict=True):
        for part in ("model", "adapter"):
            (folder / part / "additional_chat_templates").mkdir(parents=True)
        (folder / role / place).write_text("{{ messages }}")
    assert len({model_fingerprint(Model(folder / "model", folder / "adapter")) for folder in folders}) == len(folders)


def test_linked_checkpoint_has_the_fingerprint_of_its_source(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "model")
    linked = link_checkpoint(source, NAMES, tmp_path / "links")
    assert model_fingerprint(Model(linked.folder)) == model_fingerprint(Model(source))
    assert [name for _, name in list_model_files(Model(source)).values()] == NAMES


def test_hash_is_computed_once_while_the_file_stays_the_same(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model")
    links._cached_sha256.cache_clear()
    for _ in range(2):
        model_fingerprint(Model(folder))
    assert links._cached_sha256.cache_info().misses == len(NAMES)
