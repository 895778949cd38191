"""Accounts: who has one, and its name and password."""

from datetime import datetime
from hashlib import sha256
from typing import Literal, LiteralString

from pydantic import Field

from healthcare.accounts.passwords import GivenPassword, NewPassword, hashed, matches, refuse_guessable
from healthcare.database.connection import IF_MATCH, Database
from healthcare.errors import AccountGone, Conflict, Forbidden, Stale, TooManyAttempts
from healthcare.fields import Email, Input, Name, Output, unchanged

COLUMNS: LiteralString = "id, name, email, email_verified, role, second_factor, version, created_at, updated_at"


class NewUser(Input):
    name: Name = Field(examples=["Ada Brown"])
    email: Email = Field(examples=["ada@example.com"])
    password: NewPassword


class UserChange(Input, json_schema_extra={"examples": [{"name": "Ada Brown-Lee"}]}):
    name: Name = unchanged()


class PasswordChange(Input):
    current_password: GivenPassword
    new_password: NewPassword = Field(examples=["eight blue kettles"])


class User(Output):
    version: int = Field(exclude=True)
    second_factor: bool = Field(exclude=True)
    id: int
    name: str
    email: str
    email_verified: bool
    role: Literal["user", "admin"]
    created_at: datetime
    updated_at: datetime


class EmailTaken(Conflict):
    """There is an account with this e-mail address already, perhaps written with other capitals.

    Log in to that account, or use another address.
    """

    slug, title = "email-taken", "The e-mail address is taken"
    detail = "There is an account with this e-mail address already."


class WrongPassword(Forbidden):
    """The current password is not right."""

    detail = "The current password is not right."


def register(db: Database, new: NewUser) -> User:
    refuse_guessable(new.password, "/password", new.email, new.name)
    user = db.row(
        User,
        f"""
        INSERT INTO users (name, email, password_hash)
        VALUES (%(name)s, %(email)s, %(password_hash)s);
        SELECT request_mail('verify', id, email) FROM users WHERE email_key = lower(%(email)s);
        SELECT {COLUMNS} FROM users WHERE email_key = lower(%(email)s)
        """,
        name=new.name,
        email=new.email,
        password_hash=hashed(new.password),
        constraints={"users_email_key": EmailTaken},
    )
    assert user
    return user


def get(db: Database) -> User:
    user = db.row(User, f"SELECT {COLUMNS} FROM users WHERE id = %(id)s AND closed_at IS NULL", id=db.user_id)
    if user is None:
        raise AccountGone
    return user


def rename(db: Database, change: UserChange, if_match: list[int] | None) -> User:
    user = db.row(
        User,
        f"""
        UPDATE users
           SET name = coalesce(%(name)s, name)
         WHERE id = %(id)s AND closed_at IS NULL AND {IF_MATCH}
        RETURNING {COLUMNS}
        """,
        id=db.user_id,
        name=change.name,
        if_match=if_match,
    )
    if user is None:
        get(db)
        raise Stale
    return user


class _Attempt(Output):
    """`wait` is in seconds."""

    wait: int
    password_hash: str


def change_password(db: Database, change: PasswordChange) -> None:
    """Ends every session of the user: whoever knew the old password is out."""
    account = get(db)
    refuse_guessable(change.new_password, "/new_password", account.email, account.name)
    changed = db.execute(
        """
        UPDATE users
           SET password_hash = %(new_hash)s
         WHERE id = %(id)s AND password_hash = %(old_hash)s;
        DELETE FROM sessions s
         USING users u
         WHERE u.id = %(id)s AND u.password_hash = %(new_hash)s AND s.user_id = u.id;
        DELETE FROM mailed_tokens t
         USING users u
         WHERE u.id = %(id)s AND u.password_hash = %(new_hash)s AND t.user_id = u.id
           AND t.purpose IN ('reset', 'change');
        INSERT INTO outbox (kind, user_id)
        SELECT 'password-changed', id FROM users WHERE id = %(id)s AND password_hash = %(new_hash)s
        """,
        id=account.id,
        old_hash=confirm_password(db, change.current_password),
        new_hash=hashed(change.new_password),
    )
    if not changed:  # another change came first
        raise WrongPassword


def confirm_password(db: Database, password: str) -> str:
    """The hash that the user's password has now. Tries that fail are slowed down."""
    subject = sha256(f"password {db.user_id}".encode()).digest()
    attempt = db.row(
        _Attempt,
        """
        SELECT attempt(%(subject)s) AS wait, password_hash
          FROM users
         WHERE id = %(id)s AND closed_at IS NULL
        """,
        id=db.user_id,
        subject=subject,
    )
    if attempt is None:
        raise AccountGone
    if attempt.wait:
        raise TooManyAttempts(
            "There were too many wrong passwords; wait before the next one.", retry_after=attempt.wait
        )
    if not matches(password, attempt.password_hash):
        raise WrongPassword
    db.execute("DELETE FROM attempts WHERE subject = %(subject)s", subject=subject)
    return attempt.password_hash
