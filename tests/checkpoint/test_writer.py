"""The writer: copied and edited bytes, and the files on disk after a crash."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from antidote_ci.checkpoint.files import identify_file, list_files, sha256_file
from antidote_ci.checkpoint.headers import read_header
from antidote_ci.checkpoint.layout import CheckpointLayout, read_layout
from antidote_ci.checkpoint.swap import JOURNAL_FILE
from antidote_ci.checkpoint.tensors import ChunkEdit, read_tensor
from antidote_ci.checkpoint.writer import (
    BYTES_PER_FLUSH,
    HashedFile,
    WrittenCheckpoint,
    complete_checkpoint,
    require_copy,
    write_checkpoint,
)
from antidote_ci.errors import ConfigurationError, InfrastructureError, Terminated, UnsafeCheckpoint
from antidote_ci.records import OnProgress, Progress, WeightFile
from tests import tiny
from tests.checkpoint.whole_tensors import replace_with

Copy = Callable[[Path], Path]
WEIGHTS = "model.safetensors"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
BARE = ("model", "config.json")
"""Prefixes of the files that a checkpoint requires."""
MATRICES = 9
"""The shards of the small checkpoint."""


Edit = Callable[[str, torch.Tensor], torch.Tensor]
"""Returns what is written in place of a whole tensor."""


def add_one(_name: str, tensor: torch.Tensor) -> torch.Tensor:
    return tensor + 1


def write(
    source: Path | CheckpointLayout,
    destination: Path,
    edited: Container[str] = (),
    edit: Edit = add_one,
    key: str = "key",
    progress: OnProgress = lambda _progress: None,
    hashed: Mapping[str, HashedFile] = MappingProxyType({}),
) -> WrittenCheckpoint:
    layout = read_layout(source) if isinstance(source, Path) else source

    def edit_tensor(name: str) -> ChunkEdit:
        return replace_with(edit(name, read_tensor(layout, name)))

    return write_checkpoint(layout, destination, edited, edit_tensor, key, progress, hashed)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a checkpoint of two shards of some kilobytes."""
    return tiny.write_tiny_llama(tmp_path_factory.mktemp("small") / "llama", hidden=16, layers=1, shards=2, tie=False)


def remains(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def output_of(arguments: list[str]) -> str:
    # Killed, or without room to write, a process would leave half a file of coverage data.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
    return subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment).stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in list_files(folder)}


@pytest.mark.parametrize("edited", [False, True], ids=["kept", "rewritten"])
def test_identity_edit_copies_the_bytes(edited: bool, small: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    for source in (small, tiny_adapter):
        destination = tmp_path / source.name
        before = contents(source)
        names = list(read_layout(source).tensors) if edited else []
        written = write(source, destination, names, lambda _name, tensor: tensor.clone())
        complete_checkpoint(destination, "{}")
        assert contents(source) == before
        assert contents(destination) == before | {"antidote/manifest.json": b"{}"}
        hashes = {name: sha256_file(source / name) for name in before}
        assert written.files == [WeightFile(name, digest, digest) for name, digest in hashes.items()]
        assert written.changed == dict.fromkeys(names, 0)


@settings(max_examples=10, deadline=None)
@given(st.data())
def test_exactly_the_edited_entries_change(
    small: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    layout = read_layout(small)
    chosen = data.draw(st.dictionaries(st.sampled_from(sorted(layout.tensors)), st.integers(0, 300)))
    destination = tmp_path_factory.mktemp("edited") / "out"

    def edit(name: str, tensor: torch.Tensor) -> torch.Tensor:
        edited = tensor.clone()
        edited.view(-1)[: chosen[name]] = 7.0
        return edited

    written = write(layout, destination, chosen, edit)
    complete_checkpoint(destination, "{}")
    changed = {}
    for shard in layout.shards:
        assert read_header(destination / shard) == layout.headers[shard]
        before, after = load_file(small / shard), load_file(destination / shard)
        for name, tensor in after.items():
            assert tensor.equal(edit(name, before[name]) if name in chosen else before[name])
            changed[name] = int((tensor != before[name]).sum())
    assert written.changed == {name: changed[name] for name in chosen}
    touched = {layout.weight_map[name] for name in chosen if changed[name]}
    assert {file.path for file in written.files if file.sha256_in != file.sha256_out} == touched
    assert all(sha256_file(small / file.path) == file.sha256_in for file in written.files)
    assert all(sha256_file(destination / file.path) == file.sha256_out for file in written.files)


def test_edit_is_called_once_per_tensor(small: Path, tmp_path: Path) -> None:
    layout = read_layout(small)
    held = {name: tensor for shard in layout.shards for name, tensor in load_file(small / shard).items()}
    seen: list[str] = []

    def look(name: str, tensor: torch.Tensor) -> torch.Tensor:
        assert tensor.dtype == held[name].dtype
        assert tensor.equal(held[name])
        seen.append(name)
        return tensor

    named = sorted(held)[1:]
    write(layout, tmp_path / "out", named, look)
    assert sorted(seen) == named


def test_tensor_larger_than_a_chunk_is_edited(tmp_path: Path) -> None:
    tensors = {"a": torch.rand(3, 1000, 1000), "b": torch.zeros(0, 4), "c": torch.rand(1200, 1000), "d": torch.ones(())}
    source = write_weights(tmp_path / "source", tensors)
    written = write(source, tmp_path / "out", {"b", "c", "d"})
    complete_checkpoint(tmp_path / "out", "{}")
    after = load_file(tmp_path / "out" / WEIGHTS)
    assert all(after[name].equal(tensor + (name != "a")) for name, tensor in tensors.items())
    assert written.changed == {"b": 0, "c": 1_200_000, "d": 1}


def write_weights(folder: Path, tensors: dict[str, torch.Tensor]) -> Path:
    folder.mkdir()
    save_file(tensors, folder / WEIGHTS)
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    return folder


def test_tensor_without_a_changed_value_keeps_the_signs_of_its_zeros(tmp_path: Path) -> None:
    entries = 700_000  # three chunks
    kept, edited = torch.full((entries,), -0.0), torch.full((entries,), -0.0)
    edited[-1] = 1.0
    source = write_weights(tmp_path / "source", {"edited": edited, "kept": kept, "last": torch.ones(3)})
    written = write(source, tmp_path / "out", {"edited", "kept"}, lambda _name, tensor: torch.zeros_like(tensor))
    complete_checkpoint(tmp_path / "out", "{}")
    after = load_file(tmp_path / "out" / WEIGHTS)
    assert written.changed == {"edited": 1, "kept": 0}
    assert not after["edited"].signbit().any()
    assert after["kept"].signbit().all()
    assert after["last"].equal(torch.ones(3))
    assert [(file.sha256_in, file.sha256_out) for file in written.files if file.path == WEIGHTS] == [
        (sha256_file(source / WEIGHTS), sha256_file(tmp_path / "out" / WEIGHTS))
    ]


def test_progress_counts_the_bytes(small: Path, tmp_path: Path) -> None:
    events: list[Progress] = []
    write(small, tmp_path / "out", read_layout(small).tensors, progress=events.append)
    total = sum(map(len, contents(small).values()))
    assert [progress.done for progress in events] == sorted(progress.done for progress in events)
    assert {progress.total for progress in events} == {total}
    assert events[-1].done == total


def test_unused_weights_and_earlier_report_are_not_copied(
    small: Path, tiny_llama: Path, copy_of: Copy, tmp_path: Path
) -> None:
    source = copy_of(small)
    (source / "consolidated.safetensors").write_bytes((tiny_llama / WEIGHTS).read_bytes())
    (source / "antidote").mkdir()
    (source / "antidote" / "report.json").write_text("{}")
    files = write(source, tmp_path / "out").files
    complete_checkpoint(tmp_path / "out", "{}")
    assert read_layout(source).unused_weights == ("consolidated.safetensors",)
    assert {file.path for file in files} == set(list_files(small))
    assert set(list_files(tmp_path / "out")) == {*list_files(small), "antidote/manifest.json"}


def _add_pickle(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")


def _add_hidden_code(folder: Path) -> None:
    (folder / "antidote" / "code.py").write_text("")


def _change_configuration(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "code.Model"}}))


def _remove_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _link_weights(folder: Path) -> None:
    (folder / SHARDS[0]).rename(folder.parent / "moved")
    (folder / SHARDS[0]).symlink_to(folder.parent / "moved")


@pytest.mark.parametrize(
    "tamper", [_add_pickle, _add_hidden_code, _change_configuration, _remove_tokenizer, _link_weights]
)
def test_a_copy_differs_in_its_weights_alone(tamper: Callable[[Path], None], small: Path, tmp_path: Path) -> None:
    layout = read_layout(small)
    write(layout, tmp_path / "out", layout.tensors)
    complete_checkpoint(tmp_path / "out", "{}")
    require_copy(layout, tmp_path / "out")
    tamper(tmp_path / "out")
    with pytest.raises(UnsafeCheckpoint, match="is not the file of the model that was repaired"):
        require_copy(layout, tmp_path / "out")


def test_destination_is_missing_until_published(small: Path, tmp_path: Path) -> None:
    write(small, tmp_path / "out")
    assert remains(tmp_path) == ["out.partial"]
    complete_checkpoint(tmp_path / "out", "{}")
    assert remains(tmp_path) == ["out"]


def test_earlier_result_is_replaced_completely(small: Path, tmp_path: Path) -> None:
    destination = tmp_path / "deep" / "out"
    for version in ("1", "2"):
        write(small, destination)
        complete_checkpoint(destination, version)
        assert (destination / "antidote" / "manifest.json").read_text() == version
        (destination / "stale.txt").touch()
    assert remains(destination.parent) == ["out"]


class Interrupted:
    """An edit that raises `error` at the last tensor and records the tensors before it."""

    def __init__(self, layout: CheckpointLayout, error: type[BaseException] | None) -> None:
        self.last, self.error = list(layout.tensors)[-1], error
        self.edited_names: list[str] = []

    def __call__(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        if name == self.last and self.error:
            raise self.error
        self.edited_names.append(name)
        return tensor + 1


def with_an_old_result(layout: CheckpointLayout, destination: Path) -> dict[str, bytes]:
    write(layout, destination)
    complete_checkpoint(destination, "old")
    return contents(destination)


def test_error_leaves_the_destination_unchanged(small: Path, tmp_path: Path) -> None:
    layout = read_layout(small)
    before = with_an_old_result(layout, tmp_path / "out")
    with pytest.raises(ZeroDivisionError):
        write(layout, tmp_path / "out", layout.tensors, Interrupted(layout, ZeroDivisionError))
    assert remains(tmp_path) == ["out"]
    assert contents(tmp_path / "out") == before


def test_error_while_publishing_leaves_the_destination_unchanged(small: Path, tmp_path: Path) -> None:
    layout = read_layout(small)
    before = with_an_old_result(layout, tmp_path / "out")
    write(layout, tmp_path / "out", layout.tensors)
    (tmp_path / "out.partial" / "antidote").write_text("where the folder of the manifest should be")
    with pytest.raises(InfrastructureError, match="could not be written"):
        complete_checkpoint(tmp_path / "out", "new")
    assert remains(tmp_path) == ["out"]
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize("signal", [KeyboardInterrupt, Terminated])
def test_same_call_continues_after_a_signal(signal: type[BaseException], small: Path, tmp_path: Path) -> None:
    layout = read_layout(small)
    complete = write(layout, tmp_path / "complete", layout.tensors)
    before = with_an_old_result(layout, tmp_path / "out")
    with pytest.raises(signal):
        write(layout, tmp_path / "out", layout.tensors, Interrupted(layout, signal))
    assert contents(tmp_path / "out") == before
    assert remains(tmp_path) == ["complete.partial", "out", "out.partial"]
    events: list[Progress] = []
    rest = Interrupted(layout, None)
    assert write(layout, tmp_path / "out", layout.tensors, rest, progress=events.append) == complete
    assert rest.edited_names == [name for name in layout.tensors if layout.weight_map[name] == layout.shards[-1]]
    assert events[-1].done == events[-1].total == sum(map(len, contents(small).values()))
    complete_checkpoint(tmp_path / "out", "new")
    assert not (tmp_path / "out.partial").exists()
    assert contents(tmp_path / "out") == contents(tmp_path / "complete.partial") | {"antidote/manifest.json": b"new"}


def spoiled(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


LEFT: dict[str, tuple[Callable[[Path], object], int]] = {
    "all": (lambda _partial: None, 0),
    "a shard with a flipped bit": (lambda partial: spoiled(partial / SHARDS[0]), 1),
    "a shard that is gone": (lambda partial: (partial / SHARDS[1]).unlink(), 1),
    "files of others": (lambda partial: (partial / "model-9.safetensors").touch(), 0),
    "a file half written": (lambda partial: (partial / (SHARDS[0] + ".tmp")).touch(), 0),
    "a line half written": (lambda partial: torn(partial / JOURNAL_FILE), 0),
    "an empty journal": (lambda partial: (partial / JOURNAL_FILE).write_bytes(b""), 2),
    "no journal": (lambda partial: (partial / JOURNAL_FILE).unlink(), 2),
}


@pytest.mark.parametrize("left", LEFT)
def test_finished_files_are_reused_if_unchanged(left: str, small: Path, tmp_path: Path) -> None:
    layout = read_layout(small)
    spoil, redone = LEFT[left]
    complete = write(layout, tmp_path / "out", layout.tensors)
    before = contents(tmp_path / "out.partial")
    spoil(tmp_path / "out.partial")
    rest = Interrupted(layout, None)
    assert write(layout, tmp_path / "out", layout.tensors, rest) == complete
    assert len({layout.weight_map[name] for name in rest.edited_names}) == redone
    complete_checkpoint(tmp_path / "out", "{}")
    assert contents(tmp_path / "out") == before | {"antidote/manifest.json": b"{}"}
    assert set(remains(tmp_path / "out")) == {*list_files(small), "antidote"}


def test_files_of_a_changed_source_are_written_again(small: Path, copy_of: Copy, tmp_path: Path) -> None:
    source = copy_of(small)
    write(source, tmp_path / "out")
    (source / "README.md").write_text("another card")
    (source / "tokenizer.json").unlink()
    write(source, tmp_path / "out")
    complete_checkpoint(tmp_path / "out", "{}")
    assert contents(tmp_path / "out") == contents(source) | {"antidote/manifest.json": b"{}"}


def test_partial_result_of_another_repair_is_refused(small: Path, tmp_path: Path) -> None:
    layout = read_layout(small)
    before = with_an_old_result(layout, tmp_path / "out")
    write(layout, tmp_path / "out", key="one")
    left = contents(tmp_path / "out.partial")
    with pytest.raises(ConfigurationError, match=r"out\.partial belongs to another repair") as refusal:
        write(layout, tmp_path / "out", key="other")
    assert refusal.value.exit_code == 2
    assert "out.partial" in str(refusal.value.hint)
    assert contents(tmp_path / "out.partial") == left
    assert contents(tmp_path / "out") == before


def test_edit_that_changes_the_dtype_is_an_error(small: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"torch.float32 cannot replace torch.bfloat16"):
        write(small, tmp_path / "out", read_layout(small).tensors, lambda _name, tensor: tensor.float())
    assert remains(tmp_path) == []


def test_corrupted_write_is_detected(small: Path, tmp_path: Path) -> None:
    written = tmp_path / "out.partial" / (SHARDS[0] + ".tmp")

    def spoil(_progress: Progress) -> None:
        if written.exists() and written.stat().st_size > 8:
            with written.open("rb+") as file:
                file.write(b"wrong")

    with pytest.raises(InfrastructureError, match=f"{SHARDS[0]} differs from what was written") as failure:
        write(small, tmp_path / "out", progress=spoil)
    assert failure.value.exit_code == 3
    assert remains(tmp_path) == []


def test_file_is_read_back_from_the_disk_while_it_is_written(tmp_path: Path) -> None:
    size = BYTES_PER_FLUSH + (1 << 20)
    source = write_weights(tmp_path / "source", {"a": torch.zeros(size // 4)})
    before = bytes_read_from_disk(tmp_path)
    files = write(source, tmp_path / "out").files
    assert bytes_read_from_disk(tmp_path) - before >= size
    assert [file.sha256_out for file in files] == [sha256_file(tmp_path / "out.partial" / file.path) for file in files]


def bytes_read_from_disk(folder: Path) -> int:
    """Return how many bytes this process made the kernel read; skip the test if the folder is on no block device."""
    counters = Path("/proc/self/io")
    if not counters.exists() or os.major(folder.stat().st_dev) == 0:
        pytest.skip("the kernel does not count what is read from a disk")
    return int(dict(line.split(": ") for line in counters.read_text().splitlines())["read_bytes"])


def test_known_hash_is_used_for_the_same_file_only(small: Path, tmp_path: Path) -> None:
    layout = read_layout(small)
    hashed = {
        SHARDS[0]: HashedFile(identify_file(small / SHARDS[0]), "0" * 64),
        SHARDS[1]: HashedFile(replace(identify_file(small / SHARDS[1]), modified=1), "0" * 64),
    }
    expected = {file.path: file for file in write(layout, tmp_path / "expected", layout.tensors).files}
    files = {file.path: file for file in write(layout, tmp_path / "out", layout.tensors, hashed=hashed).files}
    assert files == expected | {SHARDS[0]: replace(expected[SHARDS[0]], sha256_in="0" * 64)}
    # A file without an edited tensor is hashed once in any case.
    assert write(layout, tmp_path / "copy", hashed=hashed).files == write(layout, tmp_path / "copy2").files


def test_source_changed_after_its_known_hash_was_accepted_is_an_error(
    small: Path, copy_of: Copy, tmp_path: Path
) -> None:
    source = copy_of(small)
    layout = read_layout(source)
    hashed = {name: HashedFile(identify_file(source / name), sha256_file(source / name)) for name in layout.shards}

    def touch(_progress: Progress) -> None:
        if (tmp_path / "out.partial" / (SHARDS[0] + ".tmp")).exists():
            os.utime(source / SHARDS[0])

    with pytest.raises(InfrastructureError, match=f"{SHARDS[0]} changed since it was hashed"):
        write(layout, tmp_path / "out", layout.tensors, progress=touch, hashed=hashed)
    assert not (tmp_path / "out.partial").exists()


def test_source_changed_while_writing_is_an_error(small: Path, copy_of: Copy, tmp_path: Path) -> None:
    source = copy_of(small)
    layout = read_layout(source)
    other = tiny.write_tiny_llama(tmp_path / "other", hidden=8, layers=1, shards=2, tie=False)
    for shard in layout.shards:
        (source / shard).write_bytes((other / shard).read_bytes())
    with pytest.raises(InfrastructureError, match="changed"):
        write(layout, tmp_path / "out")
    assert not (tmp_path / "out.partial").exists()


def foreign_folder(destination: Path) -> None:
    destination.mkdir()
    (destination / "thesis.txt").touch()


def linked(destination: Path) -> None:
    (destination.parent / "target").mkdir()
    destination.symlink_to("target")


@pytest.mark.parametrize("occupy", [foreign_folder, linked, Path.touch])
def test_foreign_destination_is_not_replaced(occupy: Callable[[Path], None], small: Path, tmp_path: Path) -> None:
    destination = tmp_path / "out"
    occupy(destination)
    before = remains(tmp_path)
    with pytest.raises(ConfigurationError, match="out exists and is not the result"):
        write(small, destination)
    assert remains(tmp_path) == before


def test_source_as_destination_is_refused(small: Path, copy_of: Copy) -> None:
    source = copy_of(small)
    for destination in (source, source / "out", source.parent):
        with pytest.raises(ConfigurationError, match="lie in one another"):
            write(source, destination)
    assert contents(source) == contents(small)


def test_empty_folder_is_accepted_as_destination(small: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(small, tmp_path / "out")
    complete_checkpoint(tmp_path / "out", "{}")
    assert remains(tmp_path) == ["out"]


def killed(small: Path, folder: Path, mode: str, how_many: str) -> list[list[str]]:
    """Return a line per kill: kind and number of the step, destination, outcome, tensors edited afterwards."""
    source = folder / "source"
    shutil.copytree(small, source, ignore=lambda _folder, names: [name for name in names if not name.startswith(BARE)])
    out = folder / "out"
    lines = output_of([sys.executable, "-m", "tests.checkpoint.killed", str(source), str(out), mode, how_many])
    assert remains(folder) == ["old", "out", "source"]
    return [line.split() for line in lines.splitlines()]


def assert_nothing_is_lost(lines: list[list[str]], mode: str, tensors: int) -> None:
    before = "old" if mode == "replace" else "absent"
    # Between the two renames of the swap there is nothing at the destination; the next call brings the old one back.
    for kind in {line[0] for line in lines}:
        seen = [line[2] for line in lines if line[0] == kind]
        swap = ["absent"] if mode == "replace" and kind == "os.rename" else []
        assert set(seen) <= {before, *swap, "new"}
        assert seen.count("absent") <= 1 or mode == "fresh"
        assert seen == sorted(seen, key=[before, *swap, "new"].index)
    assert {line[3] for line in lines} == {"same"}
    edited = {int(line[4]) for line in lines}
    assert {0, tensors} < edited


def test_kill_at_any_step_leaves_old_or_new_and_the_call_continues(small: Path, tmp_path: Path) -> None:
    lines = killed(small, tmp_path, "replace", "some")
    assert_nothing_is_lost(lines, "replace", MATRICES)
    # the journal, two shards, two other files, the manifest, and the swap
    assert [line[1] for line in lines if line[0] == "os.rename"] == [str(number + 1) for number in range(8)]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fresh", "replace"])
def test_kill_at_any_step(mode: str, small: Path, tmp_path: Path) -> None:
    lines = killed(small, tmp_path, mode, "all")
    assert_nothing_is_lost(lines, mode, MATRICES)
    assert len(lines) > 60
    assert {line[0] for line in lines} >= {"open", "os.rename", "os.fsync", "os.mkdir", "os.remove", "written", "edit"}


def test_old_result_lost_in_a_swap_comes_back(small: Path, tmp_path: Path) -> None:
    write(small, tmp_path / "out")
    complete_checkpoint(tmp_path / "out", "old")
    # as a kill between the two renames leaves it
    (tmp_path / "out").rename(tmp_path / "out.replaced-by-antidote")
    (tmp_path / "out.partial").mkdir()
    with pytest.raises(ZeroDivisionError):
        write(small, tmp_path / "out", read_layout(small).tensors, Interrupted(read_layout(small), ZeroDivisionError))
    assert remains(tmp_path) == ["out"]
    assert (tmp_path / "out" / "antidote" / "manifest.json").read_text() == "old"


FULL_DISK = """
import resource, sys
from pathlib import Path
from antidote_ci.checkpoint.layout import read_layout
from antidote_ci.checkpoint.tensors import ChunkEdit, read_tensor
from tests.checkpoint.whole_tensors import replace_with
from antidote_ci.checkpoint.writer import write_checkpoint
from antidote_ci.errors import InfrastructureError
layout = read_layout(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_checkpoint(layout, Path(sys.argv[2]), (), lambda name: None, "key", lambda progress: None)
except InfrastructureError as error:
    print(error.what)
"""


def test_full_disk_error_names_file_and_size(tiny_llama: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", FULL_DISK, str(tiny_llama), str(tmp_path / "out")]
    output = output_of(arguments)
    size = (tiny_llama / WEIGHTS).stat().st_size
    assert output == f"no disk space for {WEIGHTS}, which needs {size:,} bytes\n"
    assert remains(tmp_path) == []


def huge(folder: Path, size: int) -> CheckpointLayout:
    """Replace the weights in `folder` with a sparse file of `size` bytes with a valid header."""
    header = b'{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (size, size)
    with (folder / WEIGHTS).open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    return read_layout(folder)


def test_insufficient_disk_space_is_an_error_before_writing(tiny_llama: Path, copy_of: Copy, tmp_path: Path) -> None:
    layout = huge(copy_of(tiny_llama), 1 << 43)
    with pytest.raises(InfrastructureError, match="not enough disk space: 8,796,") as refusal:
        write(layout, tmp_path / "out")
    assert refusal.value.exit_code == 3
    assert "out.partial" not in remains(tmp_path)


def test_unwritable_parent_folder_is_an_infrastructure_error(small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InfrastructureError, match="out could not be written"):
        write(small, tmp_path / "file" / "out")
