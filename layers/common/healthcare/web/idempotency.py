"""One row for one Idempotency-Key, however often and however simultaneously a client asks."""

import json
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from healthcare.database.connection import Database
from healthcare.errors import AccountGone, IdempotencyKeyReused


class _Stored(BaseModel):
    fingerprint: bytes
    response: str


def once(db: Database, key: str, fingerprint: bytes, answer: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Calls `answer` unless the caller's `key` has one from the last 24 hours, which is then given again.

    Key and row are written in one transaction: a twin at the same time waits for it at the key's unique index, and a
    failure leaves neither behind. Raises IdempotencyKeyReused when the key came with another `fingerprint`.
    """
    with db.transaction() as transaction:
        claimed = db.execute(
            """
            SELECT forget_idempotency_keys();
            INSERT INTO idempotency_keys (user_id, key, fingerprint)
            VALUES (%(user_id)s, %(key)s, %(fingerprint)s)
            ON CONFLICT (user_id, key) DO UPDATE
               SET fingerprint = excluded.fingerprint, response = NULL, created_at = now()
             WHERE idempotency_keys.created_at < now() - interval '24 hours'
            """,
            user_id=db.user_id,
            key=key,
            fingerprint=fingerprint,
            constraints={"idempotency_keys_user_id_fkey": AccountGone},
        )
        if claimed:
            response = answer()
            transaction.finish(
                """
                UPDATE idempotency_keys
                   SET response = %(response)s
                 WHERE user_id = %(user_id)s AND key = %(key)s
                """,
                user_id=db.user_id,
                key=key,
                response=json.dumps(response),
            )
            return response
        stored = db.row(
            _Stored,
            """
            SELECT fingerprint, response
              FROM idempotency_keys
             WHERE user_id = %(user_id)s AND key = %(key)s
            """,
            user_id=db.user_id,
            key=key,
        )
    assert stored
    if stored.fingerprint != fingerprint:
        raise IdempotencyKeyReused
    replay: dict[str, Any] = json.loads(stored.response)
    return replay
