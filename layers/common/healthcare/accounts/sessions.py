"""The sessions that logins open: one a device, each with a refresh token that rotates."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from healthcare.accounts.users import User
from healthcare.database.connection import Database
from healthcare.errors import NotFound, Unauthenticated
from healthcare.fields import SECRET, Input, Output, Page, PageQuery, Row, page
from healthcare.platform import tokens
from healthcare.platform.logs import logger
from healthcare.platform.settings import settings

RefreshToken = Annotated[
    str, StringConstraints(min_length=1, max_length=256, pattern=SECRET), Field(examples=["AAAA" * 16])
]


class Refresh(Input):
    refresh_token: RefreshToken


class Tokens(Output):
    access_token: str = Field(examples=["header.payload.signature"])
    token_type: Literal["Bearer"] = "Bearer"
    expires_in: int = Field(description="Seconds until the access token ends.", examples=[900])
    refresh_token: str = Field(description="Good for one refresh.", examples=["AAAA" * 16])
    user: User


class Session(Row):
    created_at: datetime
    last_used_at: datetime = Field(description="The last refresh, or the login.")
    expires_at: datetime
    user_agent: str | None = Field(
        description="What the program called itself that logged in.", examples=["Mozilla/5.0 (X11; Linux x86_64)"]
    )


class RefreshTokenSpent(Unauthenticated):
    """The refresh token is not valid any more."""

    detail = "The refresh token is not valid any more; log in again."


class _Ended(Output):
    user_id: int


class _Refreshed(Output):
    token_hash: bytes
    user: User


def refresh(db: Database, given: Refresh) -> Tokens:
    """If a token comes back after its successor was used, one of the two was stolen: the session ends.

    The successor is derived from the token, so that a repetition gives the same one and nothing secret is kept.
    """
    keys = tokens.keys()
    family, secret = _parse_refresh_token(given.refresh_token)
    successors = {token_hash(successor): successor for successor in _successors(keys, family, secret)}
    refreshed = db.row(
        _Refreshed,
        """
        UPDATE sessions s
           SET token_hash = %(successor)s,
               last_used_at = now(),
               expires_at = least(now() + %(idle_lifetime)s * interval '1 second',
                                  s.created_at + %(lifetime)s * interval '1 second')
          FROM users u
         WHERE s.family = %(family)s AND s.token_hash = %(given)s AND s.expires_at > now() AND u.id = s.user_id
        RETURNING s.token_hash, to_jsonb(u) - 'password_hash' AS user
        """,
        family=family,
        given=token_hash(secret),
        successor=next(iter(successors)),
        idle_lifetime=settings().session_idle_lifetime,
        lifetime=settings().session_lifetime,
    ) or db.row(
        _Refreshed,
        """
        SELECT s.token_hash, to_jsonb(u) - 'password_hash' AS user
          FROM sessions s
          JOIN users u ON u.id = s.user_id
         WHERE s.family = %(family)s AND s.token_hash = ANY (%(successors)s)
           AND s.last_used_at > now() - interval '60 seconds' AND s.expires_at > now()
        """,
        family=family,
        successors=list(successors),
    )
    if refreshed is None:
        _end(db, family)
        raise RefreshTokenSpent
    logger.append_keys(account_id=refreshed.user.id)
    return tokens_of(keys, refreshed.user, family, successors[refreshed.token_hash])


def log_out(db: Database, given: Refresh) -> None:
    try:
        family, _ = _parse_refresh_token(given.refresh_token)
    except RefreshTokenSpent:
        return  # not a token of ours: there is nothing to end
    _end(db, family)


def search(db: Database, query: PageQuery) -> Page[Session]:
    sessions = db.rows(
        Session,
        """
        SELECT id, created_at, last_used_at, expires_at, user_agent
          FROM sessions
         WHERE user_id = %(user_id)s AND id > coalesce(%(cursor)s, 0) AND expires_at > now()
         ORDER BY id
         LIMIT %(limit)s + 1
        """,
        user_id=db.user_id,
        **dict(query),
    )
    return page(Session, sessions, query)


def end(db: Database, id: int) -> None:
    if not db.execute("DELETE FROM sessions WHERE id = %(id)s AND user_id = %(user_id)s", id=id, user_id=db.user_id):
        raise NotFound


def tokens_of(keys: tokens.KeySet, user: User, family: UUID, secret: bytes) -> Tokens:
    """Where admins must have a second factor, one without it gets the role `user`."""
    lacks_second_factor = settings().admin_second_factor == "required" and not user.second_factor
    return Tokens(
        access_token=keys.issue(user.id, "user" if lacks_second_factor else user.role),
        expires_in=settings().access_token_lifetime,
        refresh_token=urlsafe_b64encode(family.bytes + secret).decode(),
        user=user,
    )


def token_hash(secret: bytes) -> bytes:
    """256 random bits cannot be guessed, so a fast hash is enough."""
    return sha256(secret).digest()


def _end(db: Database, family: UUID) -> None:
    ended = db.row(
        _Ended,
        """
        DELETE FROM sessions
         WHERE family = %(family)s
        RETURNING user_id
        """,
        family=family,
    )
    logger.append_keys(account_id=ended.user_id if ended else None)


def _successors(keys: tokens.KeySet, family: UUID, secret: bytes) -> list[bytes]:
    """By the current key first; another one counts where the keys have been rotated since."""
    return keys.derived("refresh token", family.bytes + secret)


def _parse_refresh_token(token: str) -> tuple[UUID, bytes]:
    """The session's family and the secret: 16 and 32 bytes, in base64url 64 characters."""
    try:
        content = urlsafe_b64decode(token.encode("ascii"))
    except ValueError:
        content = b""
    if len(content) != 48:
        raise RefreshTokenSpent
    return UUID(bytes=content[:16]), content[16:]
