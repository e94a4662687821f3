"""The repaired checkpoint on disk: what stays, what changes, and what a crash leaves."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from antidote_ci.checkpoint.files import listing, sha256_file
from antidote_ci.checkpoint.headers import read_header
from antidote_ci.checkpoint.layout import Layout, inspect
from antidote_ci.checkpoint.writer import finish, write_checkpoint
from antidote_ci.errors import ConfigurationError, InfrastructureError, Terminated
from antidote_ci.records import Progress, WeightFile
from tests import tiny

Copy = Callable[[Path], Path]
WEIGHTS = "model.safetensors"


def keep(_name: str, _tensor: torch.Tensor) -> None:
    return None


def ignore(_progress: Progress) -> None:
    return None


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of some kilobytes."""
    return tiny.write_tiny_llama(tmp_path_factory.mktemp("small") / "llama", hidden=16, layers=1, shards=2, tie=False)


def remains(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def output_of(arguments: list[str]) -> str:
    # Killed, or without room to write, a process would leave half a file of coverage data.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_PROCESS")}
    return subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment).stdout


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in listing(folder)}


@pytest.mark.parametrize("edit", [keep, lambda _name, tensor: tensor.clone()], ids=["kept", "rewritten"])
def test_the_identity_gives_the_same_bytes(
    edit: Callable[[str, torch.Tensor], torch.Tensor | None], small: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    for source in (small, tiny_adapter):
        destination = tmp_path / source.name
        before = contents(source)
        files = write_checkpoint(inspect(source), destination, edit, ignore)
        finish(destination, "{}")
        assert contents(source) == before
        assert contents(destination) == before | {"antidote/manifest.json": b"{}"}
        assert files == [WeightFile(name, sha256_file(source / name), sha256_file(source / name)) for name in before]


@settings(max_examples=10)
@given(st.data())
def test_exactly_the_edited_tensors_change(
    small: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    layout = inspect(small)
    chosen = data.draw(st.sets(st.sampled_from(sorted(layout.tensors))))
    destination = tmp_path_factory.mktemp("edited") / "out"
    files = write_checkpoint(layout, destination, lambda name, tensor: tensor + 1 if name in chosen else None, ignore)
    finish(destination, "{}")
    for shard in layout.shards:
        assert read_header(destination / shard) == layout.headers[shard]
        before, after = load_file(small / shard), load_file(destination / shard)
        for name, tensor in after.items():
            assert tensor.equal(before[name] + 1 if name in chosen else before[name])
    touched = {layout.weight_map[name] for name in chosen}
    assert {file.path for file in files if file.sha256_in != file.sha256_out} == touched
    assert all(sha256_file(destination / file.path) == file.sha256_out for file in files)


def test_the_edit_sees_every_tensor_once_as_it_is(small: Path, tmp_path: Path) -> None:
    layout = inspect(small)
    held = {name: tensor for shard in layout.shards for name, tensor in load_file(small / shard).items()}
    seen: list[str] = []

    def look(name: str, tensor: torch.Tensor) -> None:
        assert tensor.dtype == held[name].dtype
        assert tensor.equal(held[name])
        seen.append(name)

    write_checkpoint(layout, tmp_path / "out", look, ignore)
    assert sorted(seen) == sorted(held)


def test_what_an_edit_does_to_its_argument_does_not_count(small: Path, tmp_path: Path) -> None:
    def scribble(_name: str, tensor: torch.Tensor) -> None:
        tensor.zero_()

    files = write_checkpoint(inspect(small), tmp_path / "out", scribble, ignore)
    assert all(file.sha256_in == file.sha256_out for file in files)


def test_progress_counts_the_bytes(small: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    write_checkpoint(inspect(small), tmp_path / "out", keep, told.append)
    total = sum(map(len, contents(small).values()))
    assert [progress.done for progress in told] == sorted(progress.done for progress in told)
    assert {progress.total for progress in told} == {total}
    assert told[-1].done == total


def test_weights_that_are_no_part_and_an_earlier_proof_stay_behind(
    small: Path, tiny_llama: Path, copy_of: Copy, tmp_path: Path
) -> None:
    source = copy_of(small)
    (source / "consolidated.safetensors").write_bytes((tiny_llama / WEIGHTS).read_bytes())
    (source / "antidote").mkdir()
    (source / "antidote" / "report.json").write_text("{}")
    files = write_checkpoint(inspect(source), tmp_path / "out", keep, ignore)
    finish(tmp_path / "out", "{}")
    assert inspect(source).unused_weights == ("consolidated.safetensors",)
    assert {file.path for file in files} == set(listing(small))
    assert set(listing(tmp_path / "out")) == {*listing(small), "antidote/manifest.json"}


def test_nothing_is_at_the_destination_before_the_end(small: Path, tmp_path: Path) -> None:
    write_checkpoint(inspect(small), tmp_path / "out", keep, ignore)
    assert remains(tmp_path) == ["out.partial"]
    finish(tmp_path / "out", "{}")
    assert remains(tmp_path) == ["out"]


def test_an_earlier_result_is_replaced_whole(small: Path, tmp_path: Path) -> None:
    destination = tmp_path / "deep" / "out"
    for version in ("1", "2"):
        write_checkpoint(inspect(small), destination, keep, ignore)
        finish(destination, version)
        assert (destination / "antidote" / "manifest.json").read_text() == version
        (destination / "stale.txt").touch()
    assert remains(destination.parent) == ["out"]


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, Terminated])
def test_a_failure_leaves_nothing_new(error: type[BaseException], small: Path, tmp_path: Path) -> None:
    layout = inspect(small)
    write_checkpoint(layout, tmp_path / "out", keep, ignore)
    finish(tmp_path / "out", "old")
    before = contents(tmp_path / "out")
    last = list(layout.tensors)[-1]

    def fail(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if name == last:
            raise error
        return tensor + 1

    with pytest.raises(error):
        write_checkpoint(layout, tmp_path / "out", fail, ignore)
    assert remains(tmp_path) == ["out"]
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    "edit", [lambda _name, tensor: tensor.float(), lambda _name, tensor: tensor.reshape(-1)], ids=["dtype", "shape"]
)
def test_an_edit_may_not_change_what_a_tensor_is(
    edit: Callable[[str, torch.Tensor], torch.Tensor], small: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="changed its dtype or shape"):
        write_checkpoint(inspect(small), tmp_path / "out", edit, ignore)
    assert remains(tmp_path) == []


def test_a_source_that_changes_meanwhile_is_noticed(small: Path, copy_of: Copy, tmp_path: Path) -> None:
    source = copy_of(small)
    layout = inspect(source)
    other = tiny.write_tiny_llama(tmp_path / "other", hidden=8, layers=1, shards=2, tie=False)
    for shard in layout.shards:
        (source / shard).write_bytes((other / shard).read_bytes())
    with pytest.raises(InfrastructureError, match="changed"):
        write_checkpoint(layout, tmp_path / "out", keep, ignore)
    assert not (tmp_path / "out.partial").exists()


def foreign_folder(destination: Path) -> None:
    destination.mkdir()
    (destination / "thesis.txt").touch()


def linked(destination: Path) -> None:
    (destination.parent / "target").mkdir()
    destination.symlink_to("target")


@pytest.mark.parametrize("occupy", [foreign_folder, linked, Path.touch])
def test_what_is_not_ours_is_not_replaced(occupy: Callable[[Path], None], small: Path, tmp_path: Path) -> None:
    destination = tmp_path / "out"
    occupy(destination)
    before = remains(tmp_path)
    with pytest.raises(ConfigurationError, match="out exists and is not the result"):
        write_checkpoint(inspect(small), destination, keep, ignore)
    assert remains(tmp_path) == before


def test_the_source_is_never_the_destination(small: Path, copy_of: Copy) -> None:
    source = copy_of(small)
    for destination in (source, source / "out", source.parent):
        with pytest.raises(ConfigurationError, match="lie in one another"):
            write_checkpoint(inspect(source), destination, keep, ignore)
    assert contents(source) == contents(small)


def test_an_empty_folder_is_a_destination(small: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write_checkpoint(inspect(small), tmp_path / "out", keep, ignore)
    finish(tmp_path / "out", "{}")
    assert remains(tmp_path) == ["out"]


@pytest.mark.parametrize("mode", ["fresh", "replace"])
def test_a_kill_at_any_step_leaves_the_old_or_the_new(mode: str, small: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "tests.checkpoint.killed", str(small), str(tmp_path / "out"), mode]
    seen = output_of(arguments).split()
    before = "old" if mode == "replace" else "absent"
    # Between the two renames of the swap there is nothing at the destination; the next run brings the old one back.
    swap = {"absent"} if mode == "replace" else set()
    assert set(seen) <= {before, "new"} | swap
    assert seen[0] == before
    assert seen[-1] == "new"
    assert seen == sorted(seen, key=[before, *swap, "new"].index)
    assert len(seen) > 2 * len(inspect(small).tensors)
    assert remains(tmp_path) == ["out"]


def test_an_old_result_lost_in_a_swap_comes_back(small: Path, tmp_path: Path) -> None:
    write_checkpoint(inspect(small), tmp_path / "out", keep, ignore)
    finish(tmp_path / "out", "old")
    # as a kill between the two renames leaves it
    (tmp_path / "out").rename(tmp_path / "out.replaced-by-antidote")
    (tmp_path / "out.partial").mkdir()
    with pytest.raises(ValueError, match="changed its dtype"):
        write_checkpoint(inspect(small), tmp_path / "out", lambda _name, tensor: tensor.double(), ignore)
    assert remains(tmp_path) == ["out"]
    assert (tmp_path / "out" / "antidote" / "manifest.json").read_text() == "old"


FULL_DISK = """
import resource, sys
from pathlib import Path
from antidote_ci.checkpoint.layout import inspect
from antidote_ci.checkpoint.writer import write_checkpoint
from antidote_ci.errors import InfrastructureError
layout = inspect(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    write_checkpoint(layout, Path(sys.argv[2]), lambda name, tensor: None, lambda progress: None)
except InfrastructureError as error:
    print(error.what)
"""


def test_no_room_for_a_file_names_it_and_its_size(tiny_llama: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", FULL_DISK, str(tiny_llama), str(tmp_path / "out")]
    output = output_of(arguments)
    size = (tiny_llama / WEIGHTS).stat().st_size
    assert output == f"no disk space for {WEIGHTS}, which needs {size:,} bytes\n"
    assert remains(tmp_path) == []


def huge(folder: Path, size: int) -> Layout:
    """The checkpoint in `folder`, its one shard replaced by a hole of `size` bytes under an honest header."""
    header = b'{"a":{"dtype":"U8","shape":[%d],"data_offsets":[0,%d]}}' % (size, size)
    with (folder / WEIGHTS).open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    return inspect(folder)


def test_a_disk_too_small_is_told_before_anything_is_written(tiny_llama: Path, copy_of: Copy, tmp_path: Path) -> None:
    layout = huge(copy_of(tiny_llama), 1 << 43)
    with pytest.raises(InfrastructureError, match=r"no disk space for .*out, which needs 8,796") as refusal:
        write_checkpoint(layout, tmp_path / "out", keep, ignore)
    assert refusal.value.exit_code == 3
    assert "out.partial" not in remains(tmp_path)


def test_a_folder_that_cannot_be_made_is_an_infrastructure_error(small: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InfrastructureError, match="out could not be written"):
        write_checkpoint(inspect(small), tmp_path / "file" / "out", keep, ignore)
