import re
from contextlib import suppress
from typing import Any
from unicodedata import normalize

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from healthcare.fields import (
    BCRYPT,
    LINE,
    MAX_ID,
    WORD_CURSOR,
    Cursor,
    Email,
    Found,
    IdText,
    Name,
    Phone,
    WordAndId,
    WordCursor,
    encode_cursor,
    encode_word_cursor,
)

CURSOR: TypeAdapter[int] = TypeAdapter(Cursor)
WORDS: TypeAdapter[WordAndId] = TypeAdapter(WordCursor)
ID: TypeAdapter[int] = TypeAdapter(IdText)
NAME: TypeAdapter[str] = TypeAdapter(Name)


@given(st.integers(1, MAX_ID))
def test_a_cursor_leads_back_to_its_row(last_id: int) -> None:
    cursor = encode_cursor(last_id)
    assert len(cursor) == 11
    assert CURSOR.validate_python(cursor) == last_id


@given(st.text() | st.from_regex(r"[A-Za-z0-9_-]{11}", fullmatch=True))
def test_a_text_is_a_cursor_in_one_spelling_only_or_refused(text: str) -> None:
    with suppress(ValidationError):
        assert encode_cursor(CURSOR.validate_python(text)) == text


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200), st.integers(1, MAX_ID))
def test_a_cursor_of_words_leads_back_to_its_word_and_row(word: str, last_id: int) -> None:
    cursor = encode_word_cursor(Found(id=last_id, word=word))
    assert len(cursor) <= 1078
    assert WORDS.validate_python(cursor) == (word, last_id)


@given(st.from_regex(WORD_CURSOR, fullmatch=True) | st.text())
def test_a_text_of_the_right_form_is_a_cursor_of_words_that_the_database_takes(text: str) -> None:
    try:
        word, last_id = WORDS.validate_python(text)
        assert 0 < last_id <= MAX_ID
        assert "\0" not in word
        word.encode()
    except ValidationError:
        assert not re.fullmatch(WORD_CURSOR, text)


@given(st.text() | st.integers().map(str))
def test_an_id_has_one_spelling_only(text: str) -> None:
    try:
        assert str(ID.validate_python(text)) == text
    except ValidationError:
        assert not (text.isascii() and text.isdigit() and text[0] != "0" and int(text) <= MAX_ID)


@given(st.text())
def test_a_name_is_trimmed_and_nothing_else(text: str) -> None:
    try:
        name = NAME.validate_python(text)
        assert name
        assert name == normalize("NFC", text).strip()
    except ValidationError:
        name = normalize("NFC", text).strip()
        assert not any(map(str.isalnum, name)) or not re.fullmatch(LINE, normalize("NFC", text)) or len(name) > 200


@given(st.from_regex(BCRYPT, fullmatch=True))
def test_a_hash_that_passes_is_one_that_bcrypt_compares(text: str) -> None:
    cheap = text[:4] + "04" + text[6:]
    assert not bcrypt.checkpw(b"no password of it", cheap.encode())


@given(st.binary(min_size=1, max_size=72).filter(lambda password: b"\0" not in password))
def test_every_hash_of_bcrypt_passes(password: bytes) -> None:
    hashed = bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()
    assert all(re.fullmatch(BCRYPT, prefix + hashed[4:]) for prefix in ("$2a$", "$2b$", "$2y$"))


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        (
            Email,
            ["a@b.co", "o'brien+tag@mail.example.org", "é@exämple.org"],
            ["a", "a@b", "@b.co", "a@b..co", "a b@c.de"],
        ),
        (
            Phone,
            ["112", "+44 20 7946 0000", "(555) 123-4567 x89", "030/12345"],
            ["", "1", "call", "+", "1;2", "++++", "((("],
        ),
    ],
)
def test_what_is_plainly_wrong_is_refused_and_what_people_write_is_not(
    field: Any, good: list[str], bad: list[str]
) -> None:
    adapter: TypeAdapter[str] = TypeAdapter(field)
    assert [adapter.validate_python(f" {text} ") for text in good] == good
    for text in bad:
        with pytest.raises(ValidationError):
            adapter.validate_python(text)
