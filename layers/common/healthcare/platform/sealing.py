"""Encrypts short secrets with keys from Secrets Manager, so that the database alone reveals none.

XChaCha20-Poly1305 of libsodium. What is sealed begins with the id of its key, in the clear.
"""

from base64 import b64decode
from typing import TYPE_CHECKING, Any

from healthcare.errors import Unavailable
from healthcare.platform import aws
from healthcare.platform.settings import settings

if TYPE_CHECKING:
    from nacl.secret import Aead

_keys: dict[str, Any] = {}


def seal(secret: bytes, context: str) -> bytes:
    """`context` says what it is and whose; it opens with the same one only."""
    key_id = str(_key_set()["current"]).encode()
    header = bytes([len(key_id)]) + key_id
    return header + _cipher(key_id).encrypt(secret, aad=header + context.encode())


def unseal(sealed: bytes, context: str) -> bytes:
    """Raises ValueError when it was sealed for another context or by an unknown key, or altered."""
    from nacl.exceptions import CryptoError

    header, encrypted = sealed[: 1 + sealed[0]], sealed[1 + sealed[0] :]
    cipher = _cipher(header[1:])
    try:
        return cipher.decrypt(encrypted, aad=header + context.encode())
    except (CryptoError, ValueError) as error:
        raise ValueError("sealed for something else, or altered") from error


def is_old(sealed: bytes) -> bool:
    """Whether it was sealed with a key that is no longer the current one."""
    return sealed[1 : 1 + sealed[0]] != str(_key_set()["current"]).encode()


def _cipher(key_id: bytes) -> "Aead":
    """A rotation adds a key and takes none away: one that is not known yet is new."""
    from nacl.secret import Aead  # 4 ms, which a login without a second factor need not wait for

    name = key_id.decode()
    if name not in _key_set()["keys"]:
        _keys.clear()
    if name not in _key_set()["keys"]:
        raise ValueError("sealed by an unknown key")
    return Aead(b64decode(_key_set()["keys"][name]))


def _key_set() -> dict[str, Any]:
    if not _keys:
        try:
            _keys.update(aws.secret(settings().data_keys_secret_id))
        except aws.AwsError as error:
            raise Unavailable from error
    return _keys
