"""Access tokens: JWTs (RFC 9068) signed by HS256 with a set of keys, of which the current one signs."""

import json
import time
from base64 import b64decode
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import jwt

from .settings import settings

_ALGORITHM = "HS256"
_TYPE = "at+jwt"
_REFETCH_AFTER = 30  # seconds; so that made-up key ids cannot make a request to Secrets Manager each
_CLOCK_SKEW = 60  # seconds a token may seem to come from the future

_keys: "KeySet | None" = None


class InvalidToken(Exception):
    """The token proves nothing: malformed, expired, tampered with, or not one of ours."""


@dataclass(frozen=True, slots=True)
class KeySet:
    current: str
    keys: dict[str, bytes]
    fetched_at: float  # monotonic seconds


@dataclass(frozen=True, slots=True)
class Claims:
    user_id: int
    role: str
    expires_at: int  # seconds since the epoch


def issue(user_id: int, role: str) -> str:
    now = int(time.time())
    key_set = _key_set()
    claims = {
        "iss": settings().token_issuer,
        "aud": settings().token_audience,
        "sub": str(user_id),
        "role": role,
        "iat": now,
        "exp": now + settings().access_token_lifetime,
        "jti": str(uuid4()),
    }
    headers = {"kid": key_set.current, "typ": _TYPE}
    return jwt.encode(claims, key_set.keys[key_set.current], algorithm=_ALGORITHM, headers=headers)


def verify(token: str) -> Claims:
    """Raises InvalidToken."""
    try:
        header = jwt.get_unverified_header(token)
        if header.get("typ") != _TYPE:
            raise InvalidToken("not an access token")
        claims = jwt.decode(
            token,
            _key(header.get("kid")),
            algorithms=[_ALGORITHM],
            issuer=settings().token_issuer,
            audience=settings().token_audience,
            options={"require": ["iss", "aud", "sub", "role", "iat", "exp", "jti"], "verify_iat": False},
        )
        if claims["iat"] > time.time() + _CLOCK_SKEW or claims["role"] not in ("user", "admin"):
            raise InvalidToken("a claim makes no sense")
        return Claims(int(claims["sub"]), claims["role"], int(claims["exp"]))
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise InvalidToken(type(error).__name__) from error


def _key(kid: object) -> bytes:
    """A key that is not known yet may be new since the set was fetched."""
    key_set = _key_set()
    if kid not in key_set.keys and time.monotonic() - key_set.fetched_at > _REFETCH_AFTER:
        key_set = _key_set(refetch=True)
    if not isinstance(kid, str) or kid not in key_set.keys:
        raise InvalidToken("unknown key")
    return key_set.keys[kid]


def _key_set(*, refetch: bool = False) -> KeySet:
    global _keys
    if _keys is None or refetch:
        secret = _fetch_secret(settings().token_keys_secret_id)
        keys = {kid: b64decode(key, validate=True) for kid, key in secret["keys"].items()}
        _keys = KeySet(secret["current"], keys, time.monotonic())
    return _keys


def _fetch_secret(secret_id: str) -> Any:
    import boto3  # slow to import, and most requests find the keys fetched

    client = boto3.client("secretsmanager")
    return json.loads(client.get_secret_value(SecretId=secret_id)["SecretString"])
