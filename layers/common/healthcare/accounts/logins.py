"""Logins: who somebody is, by address and password."""

from ipaddress import IPv6Address, ip_address, ip_network
from secrets import token_bytes
from uuid import uuid4

from pydantic import Field

from healthcare.accounts.passwords import GivenPassword, matches, rehashed
from healthcare.accounts.second_factor import MfaRequired, mfa_token
from healthcare.accounts.sessions import Tokens, token_hash, tokens_of
from healthcare.accounts.users import User
from healthcare.database.connection import Database
from healthcare.errors import TooManyAttempts, Unauthenticated
from healthcare.fields import Email, Input, Output
from healthcare.platform import tokens
from healthcare.platform.logs import logger
from healthcare.platform.metrics import count
from healthcare.platform.settings import settings


class Credentials(Input):
    email: Email = Field(examples=["ada@example.com"])
    password: GivenPassword


class WrongCredentials(Unauthenticated):
    """The e-mail address and the password do not belong together."""

    detail = "The e-mail address or the password is not right."


class _Login(Output):
    """For an unknown e-mail address, hash and user are None. The rest are what attempts are counted by."""

    wait: int
    password_hash: str | None
    user: User | None
    account: bytes
    address: bytes


def log_in(db: Database, credentials: Credentials, source_ip: str, user_agent: str) -> Tokens:
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
    new_hash = rehashed(credentials.password, old_hash)
    family, secret = uuid4(), token_bytes(32)
    opened = db.execute(
        """
        SELECT login_succeeded(%(account)s, %(address)s);
        DELETE FROM sessions
         WHERE user_id = %(user_id)s AND expires_at < now();
        UPDATE users
           SET password_hash = %(new_hash)s
         WHERE id = %(user_id)s AND password_hash = %(old_hash)s AND %(new_hash)s <> %(old_hash)s;
        INSERT INTO sessions (family, user_id, token_hash, user_agent, expires_at)
        SELECT %(family)s, id, %(token_hash)s, nullif(%(user_agent)s, ''),
               now() + %(idle_lifetime)s * interval '1 second'
          FROM users
         WHERE id = %(user_id)s AND password_hash = %(new_hash)s AND NOT second_factor
           FOR SHARE
        """,
        account=attempt.account,
        address=attempt.address,
        user_id=user.id,
        old_hash=old_hash,
        new_hash=new_hash,
        family=family,
        token_hash=token_hash(secret),
        user_agent=user_agent,
        idle_lifetime=settings().session_idle_lifetime,
    )
    if user.second_factor:
        raise MfaRequired(mfa_token(keys, user.id, new_hash))
    if not opened:  # the password has been changed since it was compared
        raise WrongCredentials
    count("Logins")
    return tokens_of(keys, user, family, secret)


def _network(source_ip: str) -> str:
    """What counts as one address: an IPv6 host has a whole /64 to itself; the console's test button has no address."""
    try:
        address = ip_address(source_ip)
    except ValueError:
        return source_ip
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else source_ip
