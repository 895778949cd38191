"""Logins, and the sessions that they open: one a device, each with a refresh token that rotates."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network
from secrets import token_bytes
from typing import Annotated, Literal
from uuid import UUID, uuid4

from pydantic import Field, StringConstraints

from healthcare.accounts.passwords import GivenPassword, matches, rehashed
from healthcare.accounts.users import User
from healthcare.database.connection import Database
from healthcare.errors import TooManyAttempts, Unauthenticated
from healthcare.fields import SECRET, Email, Input, Output
from healthcare.platform import tokens
from healthcare.platform.logs import logger
from healthcare.platform.metrics import count
from healthcare.platform.settings import settings

RefreshToken = Annotated[
    str, StringConstraints(min_length=1, max_length=256, pattern=SECRET), Field(examples=["AAAA" * 16])
]


class Credentials(Input):
    email: Email = Field(examples=["ada@example.com"])
    password: GivenPassword


class Refresh(Input):
    refresh_token: RefreshToken


class Tokens(Output):
    access_token: str = Field(examples=["header.payload.signature"])
    token_type: Literal["Bearer"] = "Bearer"
    expires_in: int = Field(description="Seconds until the access token ends.", examples=[900])
    refresh_token: str = Field(description="Good for one refresh.", examples=["AAAA" * 16])
    user: User


class WrongCredentials(Unauthenticated):
    """The e-mail address and the password do not belong together."""

    detail = "The e-mail address or the password is not right."


class RefreshTokenSpent(Unauthenticated):
    """The refresh token is not valid any more."""

    detail = "The refresh token is not valid any more; log in again."


class _Login(Output):
    """For an unknown e-mail address, hash and user are None. The rest are what attempts are counted by."""

    wait: int
    password_hash: str | None
    user: User | None
    account: bytes
    address: bytes


class _Ended(Output):
    user_id: int


def log_in(db: Database, credentials: Credentials, source_ip: str) -> Tokens:
    """The keys come first: without them nothing is counted or opened."""
    keys = tokens.keys()
    attempt = db.row(
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
    logger.append_keys(account_id=user.id if user else None)
    if attempt.wait:
        count("FailedLogins")
        raise TooManyAttempts(retry_after=attempt.wait)
    if not matches(credentials.password, old_hash) or user is None or old_hash is None:
        count("FailedLogins")
        raise WrongCredentials
    session_id, secret = uuid4(), token_bytes(32)
    opened = db.execute(
        """
        SELECT login_succeeded(%(account)s, %(address)s);
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
        new_hash=rehashed(credentials.password, old_hash),
        session_id=session_id,
        token_hash=_token_hash(secret),
        idle_lifetime=settings().session_idle_lifetime,
    )
    if not opened:  # the password has been changed since it was compared
        raise WrongCredentials
    count("Logins")
    return _tokens(keys, user, session_id, secret)


def refresh(db: Database, given: Refresh) -> Tokens:
    """A token that was spent already has been stolen, from its owner or by its user: its session ends."""
    keys = tokens.keys()
    session_id, old_secret = _parse_refresh_token(given.refresh_token)
    new_secret = token_bytes(32)
    user = db.row(
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
        _end_session(db, session_id)
        raise RefreshTokenSpent
    logger.append_keys(account_id=user.id)
    return _tokens(keys, user, session_id, new_secret)


def log_out(db: Database, given: Refresh) -> None:
    try:
        session_id, _ = _parse_refresh_token(given.refresh_token)
    except RefreshTokenSpent:
        return  # not a token of ours: there is nothing to end
    _end_session(db, session_id)


def _end_session(db: Database, session_id: UUID) -> None:
    ended = db.row(
        _Ended,
        """
        DELETE FROM sessions
         WHERE id = %(session_id)s
        RETURNING user_id
        """,
        session_id=session_id,
    )
    logger.append_keys(account_id=ended.user_id if ended else None)


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
        raise RefreshTokenSpent
    return UUID(bytes=content[:16]), content[16:]


def _token_hash(secret: bytes) -> bytes:
    """256 random bits need nothing slower."""
    return sha256(secret).digest()


def _network(source_ip: str) -> str:
    """What counts as one address: an IPv6 host has a whole /64 to itself; the console's test button has no address."""
    try:
        address = ip_address(source_ip)
    except ValueError:
        return source_ip
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else source_ip
