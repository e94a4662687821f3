"""The shared secret: what is strong enough, and what is right."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.service.authentication import MIN_SECRET_LENGTH, WEBHOOK_VARIABLE, is_correct_secret, require_strong

SECRET = "5ecc1e7a90f3b24d68e1c07f2b9a4d83"


def test_a_secret_of_thirty_two() -> None:
    assert len(SECRET) == MIN_SECRET_LENGTH
    assert require_strong(SECRET) == SECRET
    assert require_strong(f" {SECRET}\n") == SECRET, "as a file or an export may leave it"


@pytest.mark.parametrize("weak", [None, "", " ", SECRET[:-1], f"{SECRET[:-1]} \n", " " * 40])
def test_a_weak_one_is_refused(weak: str | None) -> None:
    with pytest.raises(ConfigurationError) as raised:
        require_strong(weak)
    assert WEBHOOK_VARIABLE in raised.value.what
    assert "openssl rand -hex 32" in str(raised.value.hint), "how to make one"
    assert not (weak or "").strip() or (weak or "").strip() not in f"{raised.value.what} {raised.value.cause}"


@pytest.mark.parametrize("odd", ["\n", "\x00", " ", "\u00e9", "\ud800", "\x7f"])
def test_what_no_header_carries(odd: str) -> None:
    with pytest.raises(ConfigurationError, match="does not carry"):
        require_strong(SECRET + odd + SECRET)


def test_right_and_wrong() -> None:
    assert is_correct_secret(SECRET, SECRET)
    for wrong in (None, "", SECRET[:-1], SECRET + "0", SECRET.upper() + "x", f" {SECRET}"):
        assert not is_correct_secret(wrong, SECRET)


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_whatever_is_given_is_answered(given_text: str) -> None:
    assert not is_correct_secret(given_text, SECRET)
    if given_text:
        assert is_correct_secret(given_text, given_text)
