"""Accounts, their passwords, and the sessions that refresh tokens stand for."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from functools import cache
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from secrets import token_bytes
from typing import Annotated, Literal
from uuid import UUID, uuid4

import bcrypt
from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from healthcare.database import connection as db
from healthcare.database.connection import Session
from healthcare.errors import AccountGone, Conflict, Forbidden, Invalid, Stale, TooManyAttempts, Unauthenticated
from healthcare.fields import BCRYPT, NO_NUL, Email, Input, Name, Output, unchanged
from healthcare.platform import tokens
from healthcare.platform.settings import settings

BCRYPT_LIMIT = 72  # bytes; bcrypt looks at no more


def _fits_bcrypt(password: str) -> str:
    if len(password.encode()) > BCRYPT_LIMIT:
        raise PydanticCustomError("password_too_long", "Password should have at most 72 bytes in UTF-8")
    return password


NewPassword = Annotated[
    str,
    StringConstraints(min_length=8, max_length=BCRYPT_LIMIT, pattern=NO_NUL),
    AfterValidator(_fits_bcrypt),
    Field(description="8 characters to 72 bytes; spaces count, also at its ends. Common ones are refused."),
]
PasswordHash = Annotated[str, StringConstraints(pattern=BCRYPT)]
GivenPassword = Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=NO_NUL)]
RefreshToken = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=NO_NUL)]


class NewUser(Input):
    name: Name
    email: Email
    password: NewPassword


class Credentials(Input):
    email: Email
    password: GivenPassword


class Refresh(Input):
    refresh_token: RefreshToken


class UserChange(Input):
    name: Name = unchanged()


class PasswordChange(Input):
    current_password: GivenPassword
    new_password: NewPassword


class User(Output):
    version: int = Field(exclude=True)
    id: int
    name: str
    email: str
    role: Literal["user", "admin"]
    created_at: datetime
    updated_at: datetime


class Tokens(Output):
    access_token: str
    token_type: Literal["Bearer"] = "Bearer"
    expires_in: int = Field(description="Seconds until the access token ends.")
    refresh_token: str = Field(description="Good for one refresh.")
    user: User


class EmailTaken(Conflict):
    slug, title = "email-taken", "The e-mail address is taken"


_REFUSALS: db.Refusals = {
    "users_email_key": lambda: EmailTaken("There is an account with this e-mail address already."),
}


def register(session: Session, new: NewUser) -> User:
    _refuse_guessable(new.password, "/password", new.email, new.name)
    user = session.row(
        User,
        """
        INSERT INTO users (name, email, password_hash)
        VALUES (%(name)s, %(email)s, %(password_hash)s)
        RETURNING id, name, email, role, version, created_at, updated_at
        """,
        name=new.name,
        email=new.email,
        password_hash=_hash(new.password),
        refusals=_REFUSALS,
    )
    assert user
    return user


def get(session: Session) -> User:
    user = session.row(
        User,
        """
        SELECT id, name, email, role, version, created_at, updated_at
          FROM users
         WHERE id = %(id)s
        """,
        id=session.user_id,
    )
    if user is None:
        raise AccountGone
    return user


def rename(session: Session, change: UserChange, if_match: list[int] | None) -> User:
    user = session.row(
        User,
        """
        UPDATE users
           SET name = coalesce(%(name)s, name)
         WHERE id = %(id)s AND (%(if_match)s::bigint[] IS NULL OR version = ANY (%(if_match)s))
        RETURNING id, name, email, role, version, created_at, updated_at
        """,
        id=session.user_id,
        name=change.name,
        if_match=if_match,
    )
    if user is None:
        get(session)
        raise Stale("The account has changed since the version in If-Match.")
    return user


def change_password(session: Session, change: PasswordChange) -> None:
    """Ends every session of the user: whoever knew the old password is out."""
    account = get(session)
    _refuse_guessable(change.new_password, "/new_password", account.email, account.name)
    subject = sha256(f"password {account.id}".encode()).digest()
    attempt = session.row(
        _Attempt,
        """
        SELECT attempt(%(subject)s) AS wait, password_hash
          FROM users
         WHERE id = %(id)s
        """,
        id=account.id,
        subject=subject,
    )
    assert attempt
    if attempt.wait:
        raise TooManyAttempts("There were too many wrong passwords; wait before the next one.", attempt.wait)
    old_hash = attempt.password_hash
    if not _matches(change.current_password, old_hash):
        raise Forbidden("The current password is not right.")
    changed = session.execute(
        """
        DELETE FROM attempts
         WHERE subject = %(subject)s;
        UPDATE users
           SET password_hash = %(new_hash)s
         WHERE id = %(id)s AND password_hash = %(old_hash)s;
        DELETE FROM sessions s
         USING users u
         WHERE u.id = %(id)s AND u.password_hash = %(new_hash)s AND s.user_id = u.id;
        SELECT id FROM users WHERE id = %(id)s AND password_hash = %(new_hash)s
        """,
        id=account.id,
        subject=subject,
        old_hash=old_hash,
        new_hash=_hash(change.new_password),
    )
    if not changed:  # another change came first
        raise Forbidden("The current password is not right.")


# Sessions -----------------------------------------------------------------------------------------------------------


class _Attempt(Output):
    """`wait` is in seconds."""

    wait: int
    password_hash: str | None


class _Login(_Attempt):
    """For an unknown e-mail address, hash and user are None. The rest are what attempts are counted by."""

    user: User | None
    account: bytes
    address: bytes


class _Ended(Output):
    user_id: int


def log_in(session: Session, credentials: Credentials, source_ip: str) -> Tokens:
    """Without signing keys nothing is counted, opened or spent: they come first."""
    keys = tokens.keys()
    attempt = session.row(
        _Login,
        """
        SELECT login_attempt(s.account, s.address) AS wait, s.account, s.address,
               u.password_hash, to_jsonb(u) - 'password_hash' AS user
          FROM (VALUES (lower(%(email)s), %(network)s)) AS given (email_key, network)
          LEFT JOIN users u USING (email_key)
         CROSS JOIN LATERAL (
               SELECT sha256(convert_to(concat_ws(' ', 'account', email_key, network), 'UTF8')) AS account,
                      sha256(convert_to(concat_ws(' ', 'address', network), 'UTF8')) AS address) AS s
        """,
        email=credentials.email,
        network=_network(source_ip),
    )
    assert attempt
    user, old_hash = attempt.user, attempt.password_hash
    session.account_id = user.id if user else None
    if attempt.wait:
        raise TooManyAttempts("There were too many failed logins; wait before the next one.", attempt.wait)
    if not _matches(credentials.password, old_hash) or user is None or old_hash is None:
        raise Unauthenticated("The e-mail address or the password is not right.")
    session_id, secret = uuid4(), token_bytes(32)
    opened = session.execute(
        """
        UPDATE attempts
           SET failures = 0, blocked_until = now(), succeeded = true
         WHERE subject = %(account)s;
        UPDATE attempts
           SET failures = failures - 1, blocked_until = now()
         WHERE subject = %(address)s;
        DELETE FROM attempts
         WHERE updated_at < now() - interval '30 days';
        DELETE FROM sessions
         WHERE user_id = %(user_id)s AND expires_at < now();
        UPDATE users
           SET password_hash = %(new_hash)s
         WHERE id = %(user_id)s AND password_hash = %(old_hash)s AND %(new_hash)s <> %(old_hash)s;
        INSERT INTO sessions (id, user_id, token_hash, expires_at)
        SELECT %(session_id)s, id, %(token_hash)s, now() + %(idle_lifetime)s * interval '1 second'
          FROM users
         WHERE id = %(user_id)s AND password_hash = %(new_hash)s
           FOR SHARE
        """,
        account=attempt.account,
        address=attempt.address,
        user_id=user.id,
        old_hash=old_hash,
        new_hash=_hash(credentials.password) if _cost(old_hash) < settings().bcrypt_cost else old_hash,
        session_id=session_id,
        token_hash=_token_hash(secret),
        idle_lifetime=settings().session_idle_lifetime,
    )
    if not opened:  # the password has been changed since it was compared
        raise Unauthenticated("The e-mail address or the password is not right.")
    return _tokens(keys, user, session_id, secret)


def refresh(session: Session, given: Refresh) -> Tokens:
    """A token that was spent already has been stolen, from its owner or by its user: its session ends."""
    keys = tokens.keys()
    session_id, old_secret = _parse_refresh_token(given.refresh_token)
    new_secret = token_bytes(32)
    user = session.row(
        User,
        """
        UPDATE sessions s
           SET token_hash = %(new_hash)s,
               expires_at = least(now() + %(idle_lifetime)s * interval '1 second',
                                  s.created_at + %(lifetime)s * interval '1 second')
          FROM users u
         WHERE s.id = %(session_id)s AND s.token_hash = %(old_hash)s AND s.expires_at > now() AND u.id = s.user_id
        RETURNING u.id, u.name, u.email, u.role, u.version, u.created_at, u.updated_at
        """,
        session_id=session_id,
        old_hash=_token_hash(old_secret),
        new_hash=_token_hash(new_secret),
        idle_lifetime=settings().session_idle_lifetime,
        lifetime=settings().session_lifetime,
    )
    if user is None:
        _end_session(session, session_id)
        raise Unauthenticated("The refresh token is not valid any more; log in again.")
    session.account_id = user.id
    return _tokens(keys, user, session_id, new_secret)


def log_out(session: Session, given: Refresh) -> None:
    try:
        session_id, _ = _parse_refresh_token(given.refresh_token)
    except Unauthenticated:
        return  # not a token of ours: there is nothing to end
    _end_session(session, session_id)


def _end_session(session: Session, session_id: UUID) -> None:
    ended = session.row(
        _Ended,
        """
        DELETE FROM sessions
         WHERE id = %(session_id)s
        RETURNING user_id
        """,
        session_id=session_id,
    )
    session.account_id = ended.user_id if ended else None


def _tokens(keys: tokens.KeySet, user: User, session_id: UUID, secret: bytes) -> Tokens:
    return Tokens(
        access_token=keys.issue(user.id, user.role),
        expires_in=settings().access_token_lifetime,
        refresh_token=urlsafe_b64encode(session_id.bytes + secret).decode(),
        user=user,
    )


def _parse_refresh_token(token: str) -> tuple[UUID, bytes]:
    """The session's id and the secret: 16 and 32 bytes, in base64url 64 characters."""
    try:
        content = urlsafe_b64decode(token.encode("ascii"))
    except ValueError:
        content = b""
    if len(content) != 48:
        raise Unauthenticated("The refresh token is not valid any more; log in again.")
    return UUID(bytes=content[:16]), content[16:]


def _token_hash(secret: bytes) -> bytes:
    """Nothing slower is needed for 256 random bits."""
    return sha256(secret).digest()


def _network(source_ip: str) -> str:
    """What counts as one address: an IPv6 host has a whole /64 to itself."""
    address = ip_address(source_ip)
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else source_ip


# Passwords ----------------------------------------------------------------------------------------------------------


def _refuse_guessable(password: str, pointer: str, email: str, name: str) -> None:
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


def _hash(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(settings().bcrypt_cost)).decode()


def _cost(password_hash: str) -> int:
    return int(password_hash.split("$")[2])


def _matches(password: str, password_hash: str | None) -> bool:
    """Takes the time of one hash at today's cost, whether the account is unknown (None) or has an older, cheaper hash.

    2^c + (2^c + 2^(c+1) + ... + 2^(C-1)) = 2^C: a comparison at the hash's own cost c, and decoys for the rest.
    """
    target = settings().bcrypt_cost
    given = password.encode()[:BCRYPT_LIMIT]  # as bcrypt did for those who registered with more elsewhere
    if password_hash is None:
        bcrypt.checkpw(given, decoy(target))
        return False
    matches = bcrypt.checkpw(given, password_hash.encode())
    if not matches:
        for cost in range(_cost(password_hash), target):
            bcrypt.checkpw(given, decoy(cost))
    return matches


def decoy(cost: int) -> bytes:
    """A hash that no password is known to have."""
    return b"$2b$%02d$" % cost + b"." * 53
