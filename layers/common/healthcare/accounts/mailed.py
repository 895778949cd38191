"""What a link in a mail proves: that its reader may set a new password, or that the address is the user's.

A mail scanner opens links: what uses a token up is a POST that the app sends, never a GET.
"""

from typing import Annotated

from pydantic import Field, StringConstraints

from healthcare.accounts.passwords import GivenPassword, NewPassword, hashed, refuse_guessable
from healthcare.accounts.users import EmailTaken, confirm_password
from healthcare.database.connection import Database
from healthcare.errors import Gone, Unavailable
from healthcare.fields import SECRET, Email, Input, Output
from healthcare.messages.outbox import token_hash
from healthcare.platform.logs import logger
from healthcare.platform.settings import settings

MailedToken = Annotated[
    str, StringConstraints(min_length=1, max_length=256, pattern=SECRET), Field(examples=["AAAA" * 10 + "AAA"])
]


class Forgot(Input):
    email: Email = Field(examples=["ada@example.com"])


class Reset(Input):
    token: MailedToken
    new_password: NewPassword = Field(examples=["eight blue kettles"])


class Verify(Input):
    token: MailedToken


class EmailChange(Input):
    email: Email = Field(examples=["ada.brown@example.com"])
    current_password: GivenPassword


class Spent(Gone):
    """The token of the mail is not good: it is unknown, was used, has expired, or a newer mail has taken its place.

    Ask for the mail again. A token is good for 30 minutes and for one use.
    """

    slug, title = "spent", "The token is spent"
    detail = "This token is not good any more; ask for the mail again."


class MailNotConfigured(Unavailable):
    """This deployment sends no mail: it has no address to send from.

    Tell whoever runs the API. Sending it again will not help.
    """

    slug, title = "mail-not-configured", "No mail can be sent"
    detail = "This deployment sends no mail."


class _Holder(Output):
    id: int
    name: str
    email: str


def forgot(db: Database, given: Forgot) -> None:
    """The same statement, and the same rows written, for an address that nobody has."""
    _refuse_without_mail()
    db.execute(
        "SELECT request_mail('reset', (SELECT id FROM users WHERE email_key = lower(%(email)s)), %(email)s)",
        email=given.email,
    )


def reset(db: Database, given: Reset) -> None:
    """Ends every session: whoever knew the old password is out. The mail has proved the address as well."""
    holder = db.row(
        _Holder,
        """
        SELECT u.id, u.name, u.email
          FROM mailed_tokens t
          JOIN users u ON u.id = t.user_id
         WHERE t.token_hash = %(token_hash)s AND t.purpose = 'reset' AND t.used_at IS NULL AND t.expires_at > now()
           AND u.closed_at IS NULL
        """,
        token_hash=token_hash(given.token),
    )
    if holder is None:
        raise Spent
    logger.append_keys(account_id=holder.id)
    refuse_guessable(given.new_password, "/new_password", holder.email, holder.name)
    changed = db.execute(
        """
        WITH used AS (
            UPDATE mailed_tokens
               SET used_at = now()
             WHERE token_hash = %(token_hash)s AND purpose = 'reset' AND used_at IS NULL AND expires_at > now()
            RETURNING user_id
        )
        UPDATE users u
           SET password_hash = %(new_hash)s, email_verified = true
          FROM used
         WHERE u.id = used.user_id;
        DELETE FROM sessions s
         USING users u
         WHERE u.id = %(id)s AND u.password_hash = %(new_hash)s AND s.user_id = u.id;
        DELETE FROM mailed_tokens t
         USING users u
         WHERE u.id = %(id)s AND u.password_hash = %(new_hash)s AND t.user_id = u.id AND t.purpose = 'change';
        INSERT INTO outbox (kind, user_id)
        SELECT 'password-changed', id FROM users WHERE id = %(id)s AND password_hash = %(new_hash)s
        """,
        id=holder.id,
        token_hash=token_hash(given.token),
        new_hash=hashed(given.new_password),
    )
    if not changed:  # another one came first
        raise Spent


def verify(db: Database, given: Verify) -> None:
    """What was sent to an old address proves nothing any more once the address has changed."""
    verified = db.row(
        _Holder,
        """
        WITH used AS (
            UPDATE mailed_tokens
               SET used_at = now()
             WHERE token_hash = %(token_hash)s AND purpose IN ('verify', 'change') AND used_at IS NULL
               AND expires_at > now()
            RETURNING user_id, email
        ), moved AS (
            DELETE FROM mailed_tokens t
             USING used
             WHERE t.user_id = used.user_id AND t.token_hash <> %(token_hash)s AND used.email IS NOT NULL
        )
        UPDATE users u
           SET email = coalesce(used.email, u.email), email_verified = true
          FROM used
         WHERE u.id = used.user_id AND u.closed_at IS NULL
        RETURNING u.id, u.name, u.email
        """,
        token_hash=token_hash(given.token),
        constraints={"users_email_key": EmailTaken},
    )
    if verified is None:
        raise Spent
    logger.append_keys(account_id=verified.id)


def request_verification(db: Database) -> None:
    _refuse_without_mail()
    db.execute(
        "SELECT request_mail('verify', id, email) FROM users WHERE id = %(id)s AND NOT email_verified", id=db.user_id
    )


def request_change(db: Database, change: EmailChange) -> None:
    """Whether the address is taken shows only to whoever can read its mail."""
    _refuse_without_mail()
    db.execute(
        """
        SELECT request_mail('change', id, %(email)s)
          FROM (SELECT id FROM users WHERE id = %(id)s AND password_hash = %(password_hash)s FOR SHARE) AS confirmed
        """,
        id=db.user_id,
        email=change.email,
        password_hash=confirm_password(db, change.current_password),
    )


def _refuse_without_mail() -> None:
    if not settings().mail_from:
        raise MailNotConfigured
