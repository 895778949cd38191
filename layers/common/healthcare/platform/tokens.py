"""Access tokens: JWTs (RFC 9068) signed by HS256 with a set of keys, of which the current one signs."""

import time
from base64 import b64decode
from hmac import digest
from os import urandom
from typing import NamedTuple

import jwt

from healthcare.errors import Unavailable
from healthcare.platform import aws
from healthcare.platform.settings import settings

_ALGORITHM = "HS256"
_TYPE = "at+jwt"
_AUDIENCE = "healthcare-api"
_CLOCK_SKEW = 60  # seconds a token may seem to come from the future
_KEPT = 300  # seconds until the keys are fetched again
_REFETCH_AFTER = 30  # for a key id that is not among them; so that made-up ones do not make a request each

_keys: "KeySet | None" = None


class InvalidToken(Exception):
    """The token proves nothing: malformed, expired, tampered with, or not one of ours."""


class Claims(NamedTuple):
    user_id: int
    role: str
    expires_at: int  # seconds since the epoch


class KeySet(NamedTuple):
    current: str
    keys: dict[str, bytes]
    fetched_at: float  # monotonic seconds, as is
    not_before: float = 0  # when to try again after a failure

    def issue(self, user_id: int, role: str) -> str:
        now = int(time.time())
        claims = {
            "iss": settings().token_issuer,
            "aud": _AUDIENCE,
            "sub": str(user_id),
            "role": role,
            "iat": now,
            "exp": now + settings().access_token_lifetime,
            "jti": urandom(16).hex(),
        }
        headers = {"kid": self.current, "typ": _TYPE}
        return jwt.encode(claims, self.keys[self.current], algorithm=_ALGORITHM, headers=headers)

    def derived(self, purpose: str, message: bytes) -> list[bytes]:
        """HMACs of `message` for `purpose`, 32 bytes each, one per key, the current key's first.

        The NUL after `purpose` keeps them apart from a JWT's signature.
        """
        keys = sorted(self.keys, key=lambda kid: kid != self.current)
        return [digest(self.keys[kid], purpose.encode() + b"\0" + message, "sha256") for kid in keys]


def verify(token: str) -> Claims:
    """Raises InvalidToken, and Unavailable when there are no keys to verify with."""
    try:
        header = jwt.get_unverified_header(token)
        if header.get("typ") != _TYPE:
            raise InvalidToken("not an access token")
        claims = jwt.decode(
            token,
            _key(header.get("kid")),
            algorithms=[_ALGORITHM],
            issuer=settings().token_issuer,
            audience=_AUDIENCE,
            options={"require": ["iss", "aud", "sub", "role", "iat", "exp", "jti"], "verify_iat": False},
        )
        if claims["iat"] > time.time() + _CLOCK_SKEW or claims["role"] not in ("user", "admin"):
            raise InvalidToken("a claim makes no sense")
        return Claims(int(claims["sub"]), claims["role"], int(claims["exp"]))
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise InvalidToken(type(error).__name__) from error


def keys(max_age: float = _KEPT) -> KeySet:
    """The signing keys, fetched when none of at most `max_age` seconds are at hand.

    Older ones serve on while Secrets Manager does not answer. Raises Unavailable when there are none at all.
    """
    global _keys
    now = time.monotonic()
    if _keys is None or (now - _keys.fetched_at > max_age and now >= _keys.not_before):
        try:
            secret = aws.secret(settings().token_keys_secret_id)
            decoded = {kid: b64decode(key, validate=True) for kid, key in secret["keys"].items()}
            _keys = KeySet(secret["current"], decoded, now)
        except Exception as error:
            # Not at the top: importing them would be a fifth of the authorizer's cold start, which logs nothing else.
            from healthcare.platform.logs import logger
            from healthcare.platform.metrics import count

            reason = error if isinstance(error, aws.AwsError) else type(error).__name__
            logger.warning("the signing keys could not be fetched", error=str(reason))
            count("UnavailableKeys")
            if _keys is None:
                raise Unavailable from error
            # An outage there must not slow every request here.
            _keys = _keys._replace(not_before=now + _REFETCH_AFTER)
    return _keys


def _key(kid: object) -> bytes:
    """A key that is not known yet may be new since the set was fetched."""
    key_set = keys()
    if kid not in key_set.keys:
        key_set = keys(max_age=_REFETCH_AFTER)
    if not isinstance(kid, str) or kid not in key_set.keys:
        raise InvalidToken("unknown key")
    return key_set.keys[kid]
