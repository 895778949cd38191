"""Passwords: which are good enough, and how they are compared."""

from functools import cache
from pathlib import Path
from typing import Annotated

import bcrypt
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from healthcare.errors import Invalid
from healthcare.fields import BCRYPT, SECRET, normalised
from healthcare.platform.settings import settings

BCRYPT_LIMIT = 72  # bytes; bcrypt looks at no more


def _fits_bcrypt(password: str) -> str:
    if len(password.encode()) > BCRYPT_LIMIT:
        raise PydanticCustomError("password_too_long", "Password should have at most 72 bytes in UTF-8")
    return password


NewPassword = Annotated[
    str,
    StringConstraints(min_length=8, max_length=BCRYPT_LIMIT, pattern=SECRET),
    AfterValidator(_fits_bcrypt),
    BeforeValidator(normalised),
    Field(
        description="8 characters to 72 bytes; spaces count, also at its ends. Common ones are refused.",
        examples=["seven green kettles"],
    ),
]
PasswordHash = Annotated[str, StringConstraints(pattern=BCRYPT)]
GivenPassword = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024, pattern=SECRET),
    BeforeValidator(normalised),
    Field(examples=["seven green kettles"]),
]


def refuse_guessable(password: str, pointer: str, email: str, name: str) -> None:
    """Raises Invalid for a password that somebody would try early."""
    lowered = password.strip().lower()
    if len(set(lowered)) < 4:
        raise Invalid([(pointer, "Password should have at least 4 different characters")])
    if lowered in (email.lower(), email.lower().partition("@")[0], name.lower()):
        raise Invalid([(pointer, "Password should not be your own e-mail address or name")])
    if f"\n{lowered}\n" in _common_passwords():
        raise Invalid([(pointer, "Password should not be one of those that many people have")])


@cache
def _common_passwords() -> str:
    """One a line; read when the first password is chosen."""
    return Path(__file__).with_name("common_passwords.txt").read_text()


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(settings().bcrypt_cost)).decode()


def rehashed(password: str, old_hash: str) -> str:
    """The same hash, or one at today's cost where that is higher."""
    return hashed(password) if _cost(old_hash) < settings().bcrypt_cost else old_hash


def matches(password: str, password_hash: str | None) -> bool:
    """Takes the time of one hash at today's cost, whether the account is unknown (None) or has an older, cheaper hash.

    2^c + (2^c + 2^(c+1) + ... + 2^(C-1)) = 2^C: a comparison at the hash's own cost c, and decoys for the rest.
    """
    target = settings().bcrypt_cost
    given = password.encode()[:BCRYPT_LIMIT]  # a password that was set in the original system may be longer
    if password_hash is None:
        bcrypt.checkpw(given, decoy(target))
        return False
    is_right = bcrypt.checkpw(given, password_hash.encode())
    if not is_right:
        for cost in range(_cost(password_hash), target):
            bcrypt.checkpw(given, decoy(cost))
    return is_right


def decoy(cost: int) -> bytes:
    """A hash that no password is known to have."""
    return b"$2b$%02d$" % cost + b"." * 53


def _cost(password_hash: str) -> int:
    return int(password_hash.split("$")[2])
