"""The second factor: set up with an authenticator app, asked for at each login, and proved by each code once."""

import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from hmac import compare_digest
from secrets import token_bytes
from typing import Annotated, NamedTuple
from uuid import uuid4

from pydantic import Field, StringConstraints

from healthcare.accounts import totp
from healthcare.accounts.passwords import GivenPassword
from healthcare.accounts.sessions import Tokens, token_hash, tokens_of
from healthcare.accounts.users import User, confirm_password, get
from healthcare.database.connection import Database
from healthcare.errors import Conflict, Forbidden, TooManyAttempts, Unauthenticated
from healthcare.fields import SECRET, Input, Output
from healthcare.platform import sealing, tokens
from healthcare.platform.logs import logger
from healthcare.platform.metrics import count
from healthcare.platform.settings import settings

_MFA_TOKEN = "mfa token"
_LIFETIME = 300  # seconds
_RECOVERY_CODES = 10

Code = Annotated[
    str,
    StringConstraints(min_length=1, max_length=64, pattern=SECRET),
    Field(description="Of the authenticator app, or a recovery code.", examples=["123456"]),
]


class NewSecondFactor(Input):
    current_password: GivenPassword


class Confirmation(Input):
    code: Code


class EndOfSecondFactor(Input):
    current_password: GivenPassword
    code: Code


class MfaLogin(Input):
    mfa_token: Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=SECRET)] = Field(
        examples=["AAAA" * 21 + "AA=="]
    )
    code: Code


class Authenticator(Output):
    secret: str = Field(description="In base32, for an app without a camera.", examples=["JBSWY3DPEHPK3PXP" * 2])
    uri: str = Field(
        description="To show as a QR code.",
        examples=["otpauth://totp/healthcare:ada@example.com?secret=JBSWY3DPEHPK3PXP&issuer=healthcare"],
    )


class SecondFactorOn(Output):
    recovery_codes: list[str] = Field(
        description="Each is good once, in place of a code of the app. They are not shown again.",
        examples=[["ABCD-EFGH-2345-6723"]],
    )


class MfaRequired(Unauthenticated):
    """The password is right, and the account has a second factor as well.

    Send `mfa_token`, which is good for five minutes, and a code of the authenticator app to `POST /api/auth/mfa`.
    """

    slug, title = "mfa-required", "A second factor is required"
    detail = "Send `mfa_token` and a code to POST /api/auth/mfa."

    def __init__(self, mfa_token: str) -> None:
        super().__init__()
        self.mfa_token = mfa_token

    def more(self) -> dict[str, object]:
        return {"mfa_token": self.mfa_token}


class MfaFailed(Unauthenticated):
    """The code is not right or was used before, or the `mfa_token` has run out."""

    detail = "The code is not right or was used before, or the login has taken too long."


class MfaOn(Conflict):
    """The account has a second factor already.

    Turn it off first, with a code of it.
    """

    slug, title = "mfa-on", "There is a second factor already"
    detail = "The account has a second factor already."


class WrongCode(Forbidden):
    """The code is not right: it was mistyped, has run out or was used before.

    Take the next one that the app shows, and look at the clock of the device.
    """

    slug, title = "wrong-code", "The code is not right"
    detail = "The code is not right, or was used before."


class _Account(Output):
    """`wait` is in seconds."""

    wait: int
    password_hash: str
    sealed_secret: bytes | None
    user: User


class _Proof(NamedTuple):
    """What a code may be: of a step of the clock, or a recovery code."""

    step: int | None
    recovery_hash: bytes


def mfa_token(keys: tokens.KeySet, user_id: int, password_hash: str) -> str:
    """Says that the password was right: for five minutes, and as long as it is the password."""
    claims = user_id.to_bytes(8) + (int(time.time()) + _LIFETIME).to_bytes(8) + _fingerprint(password_hash)
    return urlsafe_b64encode(claims + keys.derived(_MFA_TOKEN, claims)[0]).decode()


def log_in(db: Database, given: MfaLogin, user_agent: str) -> Tokens:
    keys = tokens.keys()
    user_id, fingerprint = _read(keys, given.mfa_token)
    account = _account(db, user_id)
    if account is None or not account.user.second_factor or _fingerprint(account.password_hash) != fingerprint:
        raise MfaFailed
    proof = _proof(account, given.code)
    family, secret = uuid4(), token_bytes(32)
    opened = db.execute(
        """
        WITH spent AS MATERIALIZED (
            SELECT spend_code(%(user_id)s, %(step)s, %(recovery_hash)s) AS now
        )
        INSERT INTO sessions (family, user_id, token_hash, user_agent, expires_at)
        SELECT %(family)s, u.id, %(token_hash)s, nullif(%(user_agent)s, ''),
               now() + %(idle_lifetime)s * interval '1 second'
          FROM users u
         CROSS JOIN spent
         WHERE u.id = %(user_id)s AND u.password_hash = %(password_hash)s AND spent.now
           FOR SHARE OF u
        """,
        user_id=user_id,
        **proof._asdict(),
        password_hash=account.password_hash,
        family=family,
        token_hash=token_hash(secret),
        user_agent=user_agent,
        idle_lifetime=settings().session_idle_lifetime,
    )
    if not opened:
        count("FailedLogins")
        raise MfaFailed
    _forgive(db, account)
    count("Logins")
    return tokens_of(keys, account.user, family, secret)


def set_up(db: Database, new: NewSecondFactor) -> Authenticator:
    """It is asked for once a code of it has confirmed that the app has it."""
    user = get(db)
    confirm_password(db, new.current_password)
    secret = token_bytes(20)  # RFC 4226 recommends the length of the hash
    made = db.execute(
        """
        INSERT INTO authenticators AS a (user_id, sealed_secret)
        SELECT id, %(sealed_secret)s
          FROM users
         WHERE id = %(user_id)s AND NOT second_factor
           FOR UPDATE
        ON CONFLICT (user_id) DO UPDATE SET sealed_secret = excluded.sealed_secret, last_step = 0
        """,
        user_id=user.id,
        sealed_secret=sealing.seal(secret, _context(user.id)),
    )
    if not made:
        raise MfaOn
    return Authenticator(
        secret=totp.text_of(secret), uri=totp.uri(secret, account=user.email, issuer=settings().token_issuer)
    )


def confirm(db: Database, given: Confirmation) -> SecondFactorOn:
    account = _own_account(db)
    if account.user.second_factor:
        raise MfaOn
    codes = [totp.text_of(token_bytes(10)) for _ in range(_RECOVERY_CODES)]
    turned_on = db.execute(
        """
        WITH spent AS (
            UPDATE authenticators
               SET last_step = %(step)s
             WHERE user_id = %(user_id)s AND last_step < %(step)s AND sealed_secret = %(sealed_secret)s
            RETURNING user_id
        ), turned_on AS (
            UPDATE users u
               SET second_factor = true
              FROM spent
             WHERE u.id = spent.user_id AND NOT u.second_factor
            RETURNING u.id
        ), cleared AS (
            DELETE FROM recovery_codes c
             USING turned_on
             WHERE c.user_id = turned_on.id
        ), told AS (
            INSERT INTO outbox (kind, user_id)
            SELECT 'mfa-on', id FROM turned_on
        )
        INSERT INTO recovery_codes (user_id, code_hash)
        SELECT id, unnest(%(hashes)s::bytea[]) FROM turned_on
        """,
        user_id=db.user_id,
        step=_proof(account, given.code).step,
        sealed_secret=account.sealed_secret,
        hashes=[_recovery_hash(account.user.id, code) for code in codes],
    )
    if not turned_on:
        raise WrongCode
    _forgive(db, account)
    return SecondFactorOn(recovery_codes=["-".join(re.findall("....", code)) for code in codes])


def disable(db: Database, given: EndOfSecondFactor) -> None:
    confirm_password(db, given.current_password)
    spend(db, given.code)
    db.execute(
        """
        UPDATE users
           SET second_factor = false
         WHERE id = %(user_id)s;
        DELETE FROM authenticators
         WHERE user_id = %(user_id)s;
        DELETE FROM recovery_codes
         WHERE user_id = %(user_id)s;
        INSERT INTO outbox (kind, user_id) VALUES ('mfa-off', %(user_id)s)
        """,
        user_id=db.user_id,
    )


def spend(db: Database, code: str) -> None:
    """Raises WrongCode when it proves nothing."""
    account = _own_account(db)
    spent = db.execute(
        "SELECT WHERE spend_code(%(user_id)s, %(step)s, %(recovery_hash)s)",
        user_id=db.user_id,
        **_proof(account, code)._asdict(),
    )
    if not spent or not account.user.second_factor:
        raise WrongCode
    _forgive(db, account)


def _account(db: Database, user_id: int) -> _Account | None:
    """Counts a try before it is judged. Raises TooManyAttempts."""
    account = db.row(
        _Account,
        """
        SELECT attempt(%(subject)s) AS wait, u.password_hash, a.sealed_secret, to_jsonb(u) - 'password_hash' AS user
          FROM users u
          LEFT JOIN authenticators a ON a.user_id = u.id
         WHERE u.id = %(user_id)s AND u.closed_at IS NULL
        """,
        user_id=user_id,
        subject=_subject(user_id),
    )
    logger.append_keys(account_id=user_id if account else None)
    if account and account.wait:
        raise TooManyAttempts("There were too many wrong codes; wait before the next one.", retry_after=account.wait)
    return account


def _own_account(db: Database) -> _Account:
    account = _account(db, get(db).id)
    if account is None or account.sealed_secret is None:
        raise WrongCode
    return account


def _forgive(db: Database, account: _Account) -> None:
    """After a right code: tries count anew, and a secret that an old key sealed is sealed by the current one."""
    user_id, sealed = account.user.id, account.sealed_secret
    assert sealed
    if sealing.is_old(sealed):
        sealed = sealing.seal(sealing.unseal(sealed, _context(user_id)), _context(user_id))
    db.execute(
        """
        DELETE FROM attempts
         WHERE subject = %(subject)s;
        UPDATE authenticators
           SET sealed_secret = %(new)s
         WHERE user_id = %(user_id)s AND sealed_secret = %(old)s AND %(new)s <> %(old)s
        """,
        user_id=user_id,
        subject=_subject(user_id),
        old=account.sealed_secret,
        new=sealed,
    )


def _proof(account: _Account, code: str) -> _Proof:
    text = re.sub(r"[\s-]", "", code).upper()
    step = None
    if account.sealed_secret and re.fullmatch("[0-9]{6}", text, re.ASCII):
        secret = sealing.unseal(account.sealed_secret, _context(account.user.id))
        step = totp.step_of(secret, text, time.time())
    return _Proof(step, _recovery_hash(account.user.id, text))


def _read(keys: tokens.KeySet, token: str) -> tuple[int, bytes]:
    """The user, and the fingerprint of the password that was right."""
    try:
        content = urlsafe_b64decode(token.encode("ascii"))
    except ValueError:
        content = b""
    claims, mac = content[:48], content[48:]
    is_ours = any(compare_digest(mac, made) for made in keys.derived(_MFA_TOKEN, claims))
    if len(claims) != 48 or not is_ours or int.from_bytes(claims[8:16]) < time.time():
        raise MfaFailed
    return int.from_bytes(claims[:8]), claims[16:]


def _fingerprint(password_hash: str) -> bytes:
    return sha256(password_hash.encode()).digest()


def _recovery_hash(user_id: int, code: str) -> bytes:
    """80 random bits cannot be guessed, so a fast hash is enough."""
    return sha256(f"{user_id} {code}".encode()).digest()


def _subject(user_id: int) -> bytes:
    """What tries are counted for."""
    return sha256(f"second factor {user_id}".encode()).digest()


def _context(user_id: int) -> str:
    return f"authenticator of {user_id}"
