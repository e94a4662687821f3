"""What a Job sends home, through everything that a log can do to it."""

import hashlib
import random
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from antidote_ci.jobs.result_stream import JobResult, decode_result, encode_result, is_result_line

TOKEN, OTHER = "a" * 64, "b" * 64
# A card is read with `surrogateescape`.
TEXTS = (
    st.none()
    | st.text(max_size=3000)
    | st.binary(max_size=3000).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)
PARCELS = st.builds(JobResult, st.integers(0, 255), TEXTS, TEXTS)
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
    """Of many pieces: what does not repeat is not packed much smaller."""
    noise = random.Random(0).randbytes(9_000).hex()  # noqa: S311
    return JobResult(7, noise, "# a card\n")


def test_a_parcel_has_pieces() -> None:
    assert len(encode_result(large(), TOKEN)) > 5
    assert max(map(len, encode_result(large(), TOKEN))) < 1300


@given(PARCELS, st.randoms(use_true_random=False), st.lists(NOISE, max_size=8), st.booleans())
@settings(max_examples=60, deadline=None)
def test_doubled_reordered_and_mixed_lines(
    result: JobResult, chance: random.Random, noise: list[str], glued: bool
) -> None:
    lines = encode_result(result, TOKEN)
    lines = [*lines, *chance.choices(lines, k=2), *noise]
    chance.shuffle(lines)
    log = [" ".join(lines)] if glued else [f"2026-08-01T00:00:00Z {line}\r" for line in lines]
    assert decode_result(log, TOKEN) == result


@given(st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_lost_and_damaged_lines_make_no_parcel_and_a_second_reading_does(which: int) -> None:
    lines = encode_result(large(), TOKEN)
    which %= len(lines)
    lost = lines[:which] + lines[which + 1 :]
    cut = [*lost, lines[which][:-5]]
    torn = [*lost, lines[which][:-9] + "loading" + lines[which][-9:]]
    for log in (lost, cut, torn):
        assert decode_result(log, TOKEN) is None
        assert decode_result([*log, *lines], TOKEN) == large()
        assert decode_result([*lines, *log], TOKEN) == large()


@given(PARCELS, PARCELS)
@settings(max_examples=30, deadline=None)
def test_forged_lines_are_nothing(result: JobResult, forged: JobResult) -> None:
    """Who does not know the token speaks of another parcel, whatever else is right."""
    forgery = encode_result(forged, OTHER)
    assert decode_result(forgery, TOKEN) is None
    assert decode_result([*encode_result(result, TOKEN), *forgery], TOKEN) == result
    assert not any(is_result_line(line, TOKEN) for line in forgery)


def test_the_last_parcel_holds() -> None:
    """A Job that the Hub starts again sends two."""
    first, second = JobResult(3, None, None), JobResult(0, "{}", "")
    assert decode_result([*encode_result(first, TOKEN), *encode_result(second, TOKEN)], TOKEN) == second
    assert decode_result([*encode_result(second, TOKEN), *encode_result(first, TOKEN)], TOKEN) == first


def test_what_another_version_packs_is_no_parcel() -> None:
    [line] = encode_result(JobResult(0, None, None), TOKEN)
    assert is_result_line(line, TOKEN)
    content = "eNoDAAAAAAE="  # nothing, compressed
    whole = hashlib.sha256(content.encode()).hexdigest()
    assert decode_result([f"antidote-ci:{TOKEN} {whole} 1/1 {whole[:8]} {content}"], TOKEN) is None


@given(PARCELS)
@settings(max_examples=20, deadline=None)
def test_a_piece_is_one_line_of_ascii(result: JobResult) -> None:
    for line in encode_result(result, TOKEN):
        assert re.fullmatch(r"[ -~]+", line)
        assert is_result_line(line, TOKEN)
