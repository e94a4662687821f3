"""The shared secret: which secrets are strong enough, and how a received secret is compared."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antidote_ci.errors import ConfigurationError
from antidote_ci.service.app import is_correct_secret
from antidote_ci.service.settings import MIN_SECRET_LENGTH, SECRET_VARIABLE, require_strong_secret

SECRET = "5ecc1e7a90f3b24d68e1c07f2b9a4d83"


def test_strong_secret_is_stripped() -> None:
    assert len(SECRET) == MIN_SECRET_LENGTH
    assert require_strong_secret(f" {SECRET}\n") == SECRET


@pytest.mark.parametrize("weak", [None, "", " ", SECRET[:-1], f"{SECRET[:-1]} \n", " " * 40])
def test_weak_secret_is_refused_and_not_printed(weak: str | None) -> None:
    with pytest.raises(ConfigurationError) as raised:
        require_strong_secret(weak)
    assert SECRET_VARIABLE in raised.value.what
    assert "openssl rand -hex 32" in str(raised.value.hint)
    assert not (weak or "").strip() or (weak or "").strip() not in f"{raised.value.what} {raised.value.cause}"


@pytest.mark.parametrize("character", ["\n", "\x00", " ", "\u00e9", "\ud800", "\x7f"])
def test_characters_that_a_header_cannot_contain(character: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot contain"):
        require_strong_secret(SECRET + character + SECRET)


def test_only_the_exact_secret_is_correct() -> None:
    assert is_correct_secret(SECRET, SECRET)
    for wrong in (None, "", SECRET[:-1], SECRET + "0", SECRET.upper() + "x", f" {SECRET}"):
        assert not is_correct_secret(wrong, SECRET)


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_any_text_can_be_compared(text: str) -> None:
    assert not is_correct_secret(text, SECRET)
    assert is_correct_secret(text, text)
