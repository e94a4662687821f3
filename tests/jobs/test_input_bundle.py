"""The bundle of local files that is sent with a Job."""

import json
import random
import zlib
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.jobs.input_bundle import MAX_PACKED, VARIABLE, BundleFile, pack_bundle, unpack_bundle

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)
ITEMS = st.lists(
    st.builds(BundleFile, st.sampled_from(["prompts", "task", "policy"]), NAMES, st.binary(max_size=300)),
    max_size=4,
    unique_by=lambda item: (item.folder, item.name),
)


@given(ITEMS)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, items: list[BundleFile]) -> None:
    folder = tmp_path_factory.mktemp("job")
    unpack_bundle(pack_bundle(items), folder)
    unpacked = {(path.parent.name, path.name): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert unpacked == {(item.folder, item.name): item.content for item in items}
    assert pack_bundle(items) == pack_bundle(list(items)), "equal for equal files"


def packed(*listed: object) -> str:
    return b64encode(zlib.compress(json.dumps(listed).encode())).decode()


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "/etc/passwd", "a/b", "a\0b", 7, None])
@pytest.mark.parametrize("place", ["folder", "name"])
def test_paths_are_refused(tmp_path: Path, name: object, place: str) -> None:
    pair = [name, "a"] if place == "folder" else ["a", name]
    with pytest.raises(ValueError, match="is not a file name"):
        unpack_bundle(packed([*pair, ""]), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_size_limit() -> None:
    draw = random.Random(0)  # noqa: S311 - noise
    fits = BundleFile("task", "fits.jsonl", draw.randbytes(MAX_PACKED * 9 // 16 // 2))
    assert len(pack_bundle([fits])) <= MAX_PACKED
    large = BundleFile("prompts", "large.jsonl", draw.randbytes(MAX_PACKED))
    with pytest.raises(ConfigurationError, match=r"[\d,]+ bytes packed, at most 98,304") as raised:
        pack_bundle([fits, large])
    assert raised.value.cause == "the largest is large.jsonl, 98,304 bytes before packing"
    assert "published prompt set" in str(raised.value.hint)


def test_size_limit_fits_an_environment_variable() -> None:
    assert len(VARIABLE) + 1 + MAX_PACKED < 128 * 1024
