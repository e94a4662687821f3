"""Allowed file names, links and special files."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.checkpoint.files import (
    display_name,
    identify_file,
    identify_settled_files,
    is_allowed_file,
    is_pickled,
    is_pickled_weights,
    is_report_file,
    list_files,
    sha256_file,
)
from antidote_ci.errors import UnsafeCheckpoint

WANTED = [
    *("model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "config.json"),
    *("adapter_model.safetensors", "adapter_config.json", "generation_config.json", "tokenizer.json", "vocab.json"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt", "merges.txt", "LICENSE"),
    *("tokenizer.model", "spiece.model", "qwen.tiktoken", "chat_template.jinja", "chat_template.json", "README.md"),
    *("additional_chat_templates/tool_use.jinja", "LICENSE.txt", "NOTICE", "USE_POLICY.md", "antidote/manifest.json"),
    *("processor_config.json", "preprocessor_config.json", "antidote/report.json", "SHA256SUMS"),
]
UNWANTED = [
    *("pytorch_model.bin", "modeling_llama.py", "original/model.safetensors", "LICENSE.py", "training_args.bin"),
    *("../model.safetensors", "/model.safetensors", "a\\model.safetensors", "antidote/../config.json", ".safetensors"),
    *("model.safetensors\n", "C:model.safetensors", "antidote/a/b.json", "antidote//x.json", "model.gguf", ""),
    *("additional_chat_templates/../../x.jinja", "mödel.safetensors", "config.json\0", "..safetensors", "readme.html"),
    *("antidote/report.html", "antidote/SHA256SUMS", "config.json.", "CONFIG.JSON", "con\tfig.json", "~/config.json"),
]
PIECES = st.sampled_from(["..", ".", "/", "\\", "\0", "\n", "~", "C:", "antidote", "config", ".json", ".safetensors"])


@pytest.mark.parametrize("path", WANTED)
def test_files_of_a_model_are_allowed(path: str) -> None:
    assert is_allowed_file(path)
    assert not is_pickled(path)


@pytest.mark.parametrize("path", UNWANTED)
def test_other_files_are_not_allowed(path: str) -> None:
    assert not is_allowed_file(path)


@given(st.lists(PIECES | st.sampled_from(WANTED), max_size=5).map("".join) | st.text())
def test_allowed_path_stays_in_its_folder(path: str) -> None:
    if is_allowed_file(path):
        parts = PurePosixPath(path).parts
        assert len(parts) <= 2
        assert not {"..", ".", "/"} & set(parts)
        assert path.isascii()
        assert path.isprintable()
        assert "\\" not in path
        assert ":" not in path


@pytest.mark.parametrize(
    "path", ["pytorch_model.bin", "a.PT", "x/consolidated.00.pth", "flax_model.msgpack", "a.h5", "w.p"]
)
def test_pickles_are_recognised_by_suffix(path: str) -> None:
    assert is_pickled(path)
    assert is_pickled_weights(path)


def test_training_state_is_not_pickled_weights() -> None:
    assert is_pickled("training_args.bin")
    assert not is_pickled_weights("checkpoint/training_args.bin")


@given(st.binary(max_size=300), st.integers(1, 400))
def test_hash_is_independent_of_the_chunk_size(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, chunk: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "hashed"
    path.write_bytes(data)
    assert sha256_file(path, chunk) == hashlib.sha256(data).hexdigest()


def test_list_files_returns_allowed_files_sorted(tmp_path: Path) -> None:
    for name in ["b.safetensors", "config.json", "model.py", "antidote/report.json", "original/model.safetensors"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a.safetensors").mkdir()
    assert list_files(tmp_path) == ["antidote/report.json", "b.safetensors", "config.json"]


def cached_snapshot(cache: Path, target: str) -> Path:
    """Write a snapshot as the Hub client does: config.json links to `target`, relative to the cache."""
    repository = cache / "models--org--name"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    for blobs in (repository / "blobs", cache / "blobs" / "ab"):
        blobs.mkdir(parents=True)
        (blobs / "abc").write_text("{}")
    (cache / "models--org--other").mkdir()
    (cache / "models--org--other" / "secret").write_text("{}")
    (repository / "blobs" / "shared").symlink_to("../../blobs/ab/abc")
    (snapshot / "config.json").symlink_to(Path("../../..") / target)
    return snapshot


@pytest.mark.parametrize("target", ["models--org--name/blobs/abc", "models--org--name/blobs/shared"])
def test_links_to_blobs_of_the_cache_are_followed(tmp_path: Path, target: str) -> None:
    snapshot = cached_snapshot(tmp_path, target)
    assert list_files(snapshot) == ["config.json"]
    (tmp_path / "link").symlink_to(snapshot)
    assert list_files(tmp_path / "link") == ["config.json"]


@pytest.mark.parametrize("target", ["models--org--other/secret", "../outside"])
def test_other_links_out_of_a_snapshot_are_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "outside").write_text("{}")
    with pytest.raises(UnsafeCheckpoint, match=r"config\.json"):
        list_files(cached_snapshot(tmp_path / "cache", target))


def test_link_out_of_a_plain_folder_is_refused_and_one_within_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "generation_config.json").symlink_to("config.json")
    assert list_files(folder) == ["config.json", "generation_config.json"]
    (folder / "tokenizer.json").symlink_to("/etc/hostname")
    with pytest.raises(UnsafeCheckpoint, match=r"tokenizer\.json"):
        list_files(folder)


def test_link_from_a_subfolder_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "manifest.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "antidote").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeCheckpoint, match=r"antidote/manifest\.json"):
        list_files(tmp_path / "folder")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def circle(path: Path) -> None:
    path.symlink_to("tokenizer.json")
    path.with_name("tokenizer.json").symlink_to(path.name)


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [pipe, circle, link_to_a_device])
def test_special_files_are_refused_without_opening_them(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "config.json")
    with pytest.raises(UnsafeCheckpoint, match=r"\.json is a (pipe|link)") as refusal:
        list_files(tmp_path)
    assert refusal.value.hint


def test_special_files_with_other_names_are_ignored(tmp_path: Path) -> None:
    pipe(tmp_path / "pipe")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").symlink_to("gone.json")
    assert list_files(tmp_path) == ["config.json"]


def test_report_files_are_recognised() -> None:
    assert all(map(is_report_file, ["SHA256SUMS", "antidote/manifest.json"]))
    assert not any(map(is_report_file, ["config.json", "README.md"]))


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("models/mine", "mine"),
        ("hub/models--org--a-model/snapshots/0123", "org/a-model"),
        ("hub/models--org--a-model/elsewhere/0123", "0123"),
        ("hub/datasets--org--rows/snapshots/0123", "0123"),
    ],
)
def test_display_name_is_the_repository_or_the_folder(folder: str, name: str) -> None:
    assert display_name(Path(folder)) == name


def test_identity_is_that_of_the_file_behind_links_and_changes_when_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("weights")
    os.utime(tmp_path / "a", (1, 1))
    (tmp_path / "hard").hardlink_to(tmp_path / "a")
    (tmp_path / "soft").symlink_to("a")
    before = identify_settled_files(tmp_path, ["a", "hard", "soft"])
    assert {*before} == {"a", "hard", "soft"}
    assert len({*before.values()}) == 1
    (tmp_path / "hard").write_text("WEIGHTS")
    assert identify_file(tmp_path / "a") not in before.values()
    with (tmp_path / "a").open("rb") as file:
        assert identify_file(file.fileno()) == identify_file(tmp_path / "soft")


def test_file_that_was_just_written_is_not_settled(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("weights")
    assert identify_settled_files(tmp_path, ["a"]) == {}
