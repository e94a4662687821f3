"""Local files that are sent with a Job, and a result in a log that loses, repeats, reorders and damages lines."""

import hashlib
import json
import random
import re
import zlib
from base64 import b64encode
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.jobs.transfer import (
    FILES_VARIABLE,
    MAX_PACKED,
    JobResult,
    decode_result,
    encode_result,
    is_result_line,
    pack_files,
    unpack_files,
)

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)
PATHS = st.builds("{}/{}".format, st.sampled_from(["prompts", "task", "policy"]), NAMES)


@given(st.dictionaries(PATHS, st.binary(max_size=300), max_size=4))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_files_round_trip(tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]) -> None:
    folder = tmp_path_factory.mktemp("job")
    unpack_files(pack_files(files), folder)
    unpacked = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert unpacked == files
    assert pack_files(files) == pack_files(dict(files)), "equal for equal files"


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "/etc/passwd", "a/b", "a\0b"])
@pytest.mark.parametrize("path", ["{}/a", "a/{}"])
def test_other_paths_are_refused(tmp_path: Path, name: str, path: str) -> None:
    packed = b64encode(zlib.compress(json.dumps({path.format(name): ""}).encode())).decode()
    with pytest.raises(ValueError, match="is not a file in a folder"):
        unpack_files(packed, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_size_limit_of_files() -> None:
    draw = random.Random(0)  # noqa: S311 - noise
    fits = {"task/fits.jsonl": draw.randbytes(MAX_PACKED * 9 // 16 // 2)}
    assert len(pack_files(fits)) <= MAX_PACKED
    with pytest.raises(ConfigurationError, match=r"[\d,]+ bytes packed, at most 98,304") as raised:
        pack_files({**fits, "prompts/large.jsonl": draw.randbytes(MAX_PACKED)})
    assert raised.value.cause == "the largest is large.jsonl, 98,304 bytes before packing"
    assert "published prompt set" in str(raised.value.hint)


def test_size_limit_fits_an_environment_variable() -> None:
    assert len(FILES_VARIABLE) + 1 + MAX_PACKED < 128 * 1024


TOKEN, OTHER = "a" * 64, "b" * 64
# A card is read with `surrogateescape`.
TEXTS = (
    st.none()
    | st.text(max_size=3000)
    | st.binary(max_size=3000).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)
RESULTS = st.builds(JobResult, st.integers(0, 255), TEXTS, TEXTS)
NOISE = st.sampled_from(
    [
        "",
        "evaluate the model: 3.1 s",
        "antidote-ci:",
        f"antidote-ci:{TOKEN}",
        f"antidote-ci:{TOKEN} {'0' * 64} 1/1 {'0' * 8} AA==",
    ]
)


def large() -> JobResult:
    """A result of many pieces: random text does not compress well."""
    noise = random.Random(0).randbytes(9_000).hex()  # noqa: S311
    return JobResult(7, noise, "# a card\n")


def test_large_result_has_many_lines() -> None:
    assert len(encode_result(large(), TOKEN)) > 5
    assert max(map(len, encode_result(large(), TOKEN))) < 1300


@given(RESULTS, st.randoms(use_true_random=False), st.lists(NOISE, max_size=8), st.booleans())
@settings(max_examples=60, deadline=None)
def test_repeated_reordered_and_mixed_lines(
    result: JobResult, chance: random.Random, noise: list[str], glued: bool
) -> None:
    lines = encode_result(result, TOKEN)
    lines = [*lines, *chance.choices(lines, k=2), *noise]
    chance.shuffle(lines)
    log = [" ".join(lines)] if glued else [f"2026-08-01T00:00:00Z {line}\r" for line in lines]
    assert decode_result(log, TOKEN) == result


@given(st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_incomplete_log_gives_no_result_until_it_is_read_again(which: int) -> None:
    lines = encode_result(large(), TOKEN)
    which %= len(lines)
    lost = lines[:which] + lines[which + 1 :]
    cut = [*lost, lines[which][:-5]]
    torn = [*lost, lines[which][:-9] + "loading" + lines[which][-9:]]
    for log in (lost, cut, torn):
        assert decode_result(log, TOKEN) is None
        assert decode_result([*log, *lines], TOKEN) == large()
        assert decode_result([*lines, *log], TOKEN) == large()


@given(RESULTS, RESULTS)
@settings(max_examples=30, deadline=None)
def test_lines_without_the_token_are_ignored(result: JobResult, forged: JobResult) -> None:
    """Nobody can forge a result without the token."""
    forgery = encode_result(forged, OTHER)
    assert decode_result(forgery, TOKEN) is None
    assert decode_result([*encode_result(result, TOKEN), *forgery], TOKEN) == result
    assert not any(is_result_line(line, TOKEN) for line in forgery)


def test_last_result_counts() -> None:
    """A Job that the Hub restarts sends two results."""
    first, second = JobResult(3, None, None), JobResult(0, "{}", "")
    assert decode_result([*encode_result(first, TOKEN), *encode_result(second, TOKEN)], TOKEN) == second
    assert decode_result([*encode_result(second, TOKEN), *encode_result(first, TOKEN)], TOKEN) == first


def test_result_of_another_version_is_ignored() -> None:
    [line] = encode_result(JobResult(0, None, None), TOKEN)
    assert is_result_line(line, TOKEN)
    content = "eNoDAAAAAAE="  # nothing, compressed
    digest = hashlib.sha256(content.encode()).hexdigest()
    assert decode_result([f"antidote-ci:{TOKEN} {digest} 1/1 {digest[:8]} {content}"], TOKEN) is None


@given(RESULTS)
@settings(max_examples=20, deadline=None)
def test_lines_are_printable_ascii(result: JobResult) -> None:
    for line in encode_result(result, TOKEN):
        assert re.fullmatch(r"[ -~]+", line)
        assert is_result_line(line, TOKEN)
