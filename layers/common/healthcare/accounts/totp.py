"""One-time codes by the clock (RFC 6238) on one-time codes by a counter (RFC 4226): SHA-1, 30 seconds, 6 digits."""

from base64 import b32encode
from hmac import compare_digest, digest
from urllib.parse import quote

PERIOD = 30  # seconds


def code_of(secret: bytes, step: int, digits: int = 6) -> str:
    mac = digest(secret, step.to_bytes(8), "sha1")
    offset = mac[-1] & 15
    number = int.from_bytes(mac[offset : offset + 4]) & 0x7FFFFFFF
    return f"{number % 10**digits:0{digits}}"


def step_of(secret: bytes, code: str, now: float) -> int | None:
    """The step that the code belongs to, if it is this one, the one before or the one after: clocks differ."""
    current = int(now // PERIOD)
    steps = [step for step in (current, current - 1, current + 1) if compare_digest(code_of(secret, step), code)]
    return steps[0] if steps else None


def text_of(secret: bytes) -> str:
    return b32encode(secret).decode()


def uri(secret: bytes, account: str, issuer: str) -> str:
    """What the picture that an authenticator app scans says (Key URI Format)."""
    label = f"{quote(issuer, safe='')}:{quote(account, safe='@')}"
    parameters = f"secret={text_of(secret)}&issuer={quote(issuer, safe='')}&algorithm=SHA1&digits=6&period={PERIOD}"
    return f"otpauth://totp/{label}?{parameters}"
