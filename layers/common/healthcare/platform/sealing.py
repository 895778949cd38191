"""Keeps a short secret at rest so that the database alone gives it to nobody: encrypted, with keys of Secrets Manager.

Encrypt-then-MAC, both by HMAC-SHA256: the secret XOR a block of a random nonce, then a tag over all of it. It takes no
more than the standard library has. AES-GCM of `cryptography` would add 60 ms to each cold start, and to that of the
authorizer too, since PyJWT imports it wherever it is installed.
"""

from base64 import b64decode
from hmac import compare_digest, digest
from os import urandom
from typing import Any

from healthcare.errors import Unavailable
from healthcare.platform import aws
from healthcare.platform.settings import settings

_NONCE, _TAG = 16, 32

_keys: dict[str, Any] = {}


def seal(secret: bytes, context: str) -> bytes:
    """`context` says what it is and whose; it opens with the same one only. At most 32 bytes."""
    assert len(secret) <= 32
    key_id = str(_key_set()["current"])
    nonce = urandom(_NONCE)
    covered = bytes([len(key_id)]) + key_id.encode() + nonce + _encrypted(secret, key_id, nonce)
    return covered + _tag(covered, key_id, context)


def unseal(sealed: bytes, context: str) -> bytes:
    key_id = sealed[1 : 1 + sealed[0]].decode()
    covered, tag = sealed[:-_TAG], sealed[-_TAG:]
    if not compare_digest(tag, _tag(covered, key_id, context)):
        raise ValueError("sealed for something else, or altered")
    nonce, encrypted = covered[1 + sealed[0] :][:_NONCE], covered[1 + sealed[0] + _NONCE :]
    return _encrypted(encrypted, key_id, nonce)


def is_old(sealed: bytes) -> bool:
    """Whether a key sealed it that is not the current one any more."""
    return sealed[1 : 1 + sealed[0]] != str(_key_set()["current"]).encode()


def _encrypted(text: bytes, key_id: str, nonce: bytes) -> bytes:
    """The same again decrypts."""
    return bytes(a ^ b for a, b in zip(text, digest(_key(key_id), b"encrypt" + nonce, "sha256"), strict=False))


def _tag(covered: bytes, key_id: str, context: str) -> bytes:
    return digest(_key(key_id), b"authenticate" + context.encode() + b"\0" + covered, "sha256")


def _key(key_id: str) -> bytes:
    """A rotation adds a key and takes none away: one that is not known yet is new."""
    if key_id not in _key_set()["keys"]:
        _keys.clear()
    return b64decode(_key_set()["keys"][key_id])


def _key_set() -> dict[str, Any]:
    if not _keys:
        try:
            _keys.update(aws.secret(settings().data_keys_secret_id))
        except aws.AwsError as error:
            raise Unavailable from error
    return _keys
