"""The outbox, as the sender sees it: what is due is claimed with a lease, sent outside the network, and settled.

Delivery is at least once: if a sender does not settle in time, another sends the message again, with the same id.
"""

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from hmac import digest
from typing import Any, Literal, LiteralString

import psycopg

from healthcare import ics, webhooks
from healthcare.appointments import Appointment
from healthcare.database.connection import Database
from healthcare.errors import Refusal
from healthcare.fields import Output
from healthcare.platform import sealing, tokens
from healthcare.platform.logs import logger
from healthcare.platform.metrics import count
from healthcare.platform.settings import settings

_BEGIN: tuple[LiteralString, ...] = (
    "SELECT remind()",
    "SELECT erase_closed()",
    "SELECT close_unlinked()",
    "SELECT forget_messages()",
    "SELECT forget_idempotency_keys()",
    "SELECT forget_sessions()",
)
_ROUNDS = 200  # of claims that all reach nobody
_WITH_TOKEN = ("reset", "verify", "change")


class Message(Output):
    """A mail of a `kind` to an address, or a delivery to a webhook, which is signed already."""

    id: int
    attempt: int
    kind: str
    address: str | None = None
    token: str | None = None
    doctor: str | None = None
    time: str | None = None
    calendar: str | None = None
    url: str | None = None
    headers: dict[str, str] | None = None
    body: str | None = None


class Messages(Output):
    items: list[Message]


class Settlement(Output):
    id: int
    attempt: int
    outcome: Literal["sent", "failed", "hopeless"]
    answer: int | None = None


class _Claimed(Output):
    id: int
    attempts: int
    kind: str
    user_id: int | None
    address: str | None
    url: str | None
    secrets: list[bytes]
    data: dict[str, Any]
    created_at: datetime
    appointment: Appointment | None
    time: str | None


class _Alive(Output):
    id: int


class _Settled(Output):
    state: str
    webhook_id: int | None
    answer: int | None


def claim(db: Database, wanted: int) -> Messages:
    """Up to `wanted` messages, which nobody else gets for a minute. What reaches nobody any more is dropped.

    None only where nothing is due: whoever asks for mails to addresses that nobody has holds up no other.
    """
    for _ in range(_ROUNDS):
        claimed, items = _claim(db, wanted)
        if items or not claimed:
            return Messages(items=items)
    return Messages(items=[])


def _claim(db: Database, wanted: int) -> tuple[int, list[Message]]:
    with db.transaction() as transaction:
        claimed = db.rows(
            _Claimed,
            """
            SELECT m.id, m.attempts, m.kind, m.user_id, m.data, m.created_at,
                   CASE WHEN w.enabled THEN w.url END AS url,
                   array_remove(ARRAY[w.secret, CASE WHEN w.old_secret_until > now() THEN w.old_secret END], NULL)
                   AS secrets,
                   CASE WHEN s.address IS NULL THEN given END AS address,
                   to_char(b.starts_at AT TIME ZONE b.time_zone, 'FMDay, FMDD FMMonth YYYY, HH24:MI') AS time,
                   CASE WHEN b.id IS NOT NULL THEN jsonb_build_object(
                       'id', b.id, 'patient_id', b.patient_id, 'patient_name', '', 'doctor_id', b.doctor_id,
                       'doctor_name', d.name, 'visit', '', 'visit_name', '', 'modality', b.modality,
                       'starts_at', b.starts_at, 'ends_at', b.ends_at, 'time_zone', b.time_zone, 'status', b.status,
                       'reason', NULL, 'cancelled_by', NULL, 'cancel_reason', NULL, 'version', b.version,
                       'created_at', b.created_at, 'updated_at', b.updated_at) END AS appointment
              FROM claim_messages(%(wanted)s) m
              LEFT JOIN users u ON u.id = m.user_id
              LEFT JOIN webhooks w ON w.id = m.webhook_id
              LEFT JOIN mailed_tokens t ON t.user_id = m.user_id AND t.message_id = m.id AND t.purpose = 'change'
             CROSS JOIN LATERAL (
                   SELECT CASE WHEN m.kind = 'change' THEN t.email
                               WHEN m.webhook_id IS NULL THEN u.email END AS given) AS a
              LEFT JOIN suppressed_addresses s ON s.address = address_hash(given)
              LEFT JOIN appointments b ON b.id = (m.data ->> 'appointment_id')::bigint AND m.webhook_id IS NULL
              LEFT JOIN doctors d ON d.id = b.doctor_id
            """,
            wanted=wanted,
        )
        sendable = [message for message in claimed if message.address and settings().mail_from]
        proofs = _with_tokens(db, [message for message in sendable if message.kind in _WITH_TOKEN])
        items = [
            Message(
                id=message.id,
                attempt=message.attempts,
                kind=message.kind,
                address=message.address,
                token=proofs.get(message.id),
                **_appointment(message),
            )
            for message in sendable
            if message.id in proofs or (message.kind not in _WITH_TOKEN and _still_applies(message))
        ] + [_delivery(message, message.url) for message in claimed if message.url]
        transaction.finish(
            """
            DELETE FROM outbox
             WHERE id = ANY (%(dropped)s)
            """,
            dropped=list({message.id for message in claimed} - {item.id for item in items}),
        )
    return len(claimed), items


def _with_tokens(db: Database, messages: Sequence[_Claimed]) -> dict[int, str]:
    """The tokens of those that may still prove something; the same again for a message that is sent again.

    A message loses to a newer one of its kind, and its token lives for half an hour from the first time it was sent.
    """
    made = {message.id: _token(message.id) for message in messages}
    alive = db.rows(
        _Alive,
        """
        WITH written AS (
            INSERT INTO mailed_tokens AS t (user_id, purpose, message_id, token_hash, expires_at)
            SELECT DISTINCT ON (user_id, kind) user_id, kind, id, token_hash, now() + interval '30 minutes'
              FROM unnest(%(ids)s::bigint[], %(users)s::bigint[], %(kinds)s::text[], %(hashes)s::bytea[])
                   AS m (id, user_id, kind, token_hash)
             ORDER BY user_id, kind, id DESC
            ON CONFLICT (user_id, purpose) DO UPDATE
               SET message_id = excluded.message_id, token_hash = excluded.token_hash, used_at = NULL,
                   expires_at = coalesce(CASE t.message_id WHEN excluded.message_id THEN t.expires_at END,
                                         excluded.expires_at)
             WHERE t.message_id < excluded.message_id OR t.message_id = excluded.message_id AND t.used_at IS NULL
            RETURNING message_id, user_id, purpose, expires_at
        )
        SELECT message_id AS id
          FROM written w
          JOIN users u ON u.id = w.user_id
          JOIN unnest(%(ids)s::bigint[], %(addresses)s::text[]) AS m (id, address) ON m.id = w.message_id
         WHERE w.expires_at > now() AND NOT (w.purpose = 'verify' AND u.email_verified)
           AND (w.purpose = 'change' OR u.email = m.address)  -- it may have changed since the message was claimed
        """,
        ids=list(made),
        addresses=[message.address for message in messages],
        users=[message.user_id for message in messages],
        kinds=[message.kind for message in messages],
        hashes=[token_hash(token) for token in made.values()],
    )
    return {row.id: made[row.id] for row in alive}


def _still_applies(message: _Claimed) -> bool:
    """A mail about an appointment is for the appointment as it now stands; others are for what has happened."""
    if not message.kind.startswith("appointment."):
        return True
    appointment = message.appointment
    if appointment is None or (message.kind == "appointment.cancelled") != (appointment.status == "cancelled"):
        return False
    if message.kind == "appointment.reminder":
        is_booked = appointment.status == "booked" and appointment.starts_at > datetime.now(UTC)
        return is_booked and appointment.starts_at == datetime.fromisoformat(message.data["starts_at"])
    return True


def _appointment(message: _Claimed) -> dict[str, str | None]:
    if message.appointment is None:
        return {}
    calendar = ics.calendar_file(message.appointment).text
    return {"doctor": message.appointment.doctor_name, "time": message.time, "calendar": calendar}


def _delivery(message: _Claimed, url: str) -> Message:
    """As Standard Webhooks signs it, by each secret that is good now."""
    name, time = f"msg_{message.id}", str(int(datetime.now(UTC).timestamp()))
    body = json.dumps(
        {"type": message.kind, "timestamp": message.created_at.isoformat(), "data": message.data}, separators=(",", ":")
    )
    signed = f"{name}.{time}.{body}".encode()
    signatures = [b64encode(digest(secret, signed, "sha256")).decode() for secret in _secrets(message)]
    headers = {
        "content-type": "application/json",
        "user-agent": "healthcare-webhooks",
        "webhook-id": name,
        "webhook-timestamp": time,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
    return Message(id=message.id, attempt=message.attempts, kind=message.kind, url=url, headers=headers, body=body)


def _secrets(message: _Claimed) -> Iterator[bytes]:
    """Without those that do not open. A delivery that nothing signs is for its receiver to refuse; others go on."""
    for sealed in message.secrets:
        try:
            yield sealing.unseal(sealed, webhooks.context(message.user_id))
        except ValueError:
            logger.exception("a webhook's secret does not open", message_id=message.id)


def settle(db: Database, settlements: Sequence[Settlement]) -> None:
    """What failed waits for its next attempt. What is hopeless, or has had all of them, is set aside.

    If somebody else has claimed a message since, only `sent` is recorded.
    """
    settled = db.rows(
        _Settled,
        """
        UPDATE outbox o
           SET state = next.state,
               due_at = now() + coalesce(retry_after(o.attempts), interval '0'),
               finished_at = CASE WHEN next.state <> 'pending' THEN now() END,
               is_claimed = false,
               answer = s.answer
          FROM jsonb_to_recordset(%(settlements)s) AS s (id bigint, attempt integer, outcome text, answer integer)
         CROSS JOIN LATERAL (
               SELECT CASE WHEN s.outcome = 'sent' THEN 'sent'
                           WHEN s.outcome = 'hopeless' OR retry_after(s.attempt) IS NULL THEN 'failed'
                           ELSE 'pending' END AS state) AS next
         WHERE o.id = s.id AND o.state = 'pending' AND (s.outcome = 'sent' OR o.attempts = s.attempt)
        RETURNING o.state, o.webhook_id, o.answer
        """,
        settlements=json.dumps([dict(settlement) for settlement in settlements]),
    )
    for message in settled:
        if message.state == "failed" and message.webhook_id is None:
            count("SetAside")
    if gone := [message.webhook_id for message in settled if message.webhook_id and message.answer == 410]:
        db.execute("UPDATE webhooks SET enabled = false WHERE id = ANY (%(gone)s)", gone=gone)


def begin(db: Database) -> None:
    """What each run of the sender does first: reminds, sweeps out what is old, and goes on with what was too much for
    one request: erasing what closed accounts left, and closing the patients of doctors without an account.

    Raises RuntimeError once all has been tried, when something failed.
    """
    failed = []
    for work in _BEGIN:
        try:
            db.execute(work)
        except (psycopg.Error, Refusal):
            logger.exception("the outbox could not begin", work=work)
            failed.append(work)
    if failed:
        raise RuntimeError(f"failed: {failed}")


def suppress(db: Database, addresses: Sequence[str]) -> None:
    """No mail goes to them any more."""
    db.execute(
        """
        INSERT INTO suppressed_addresses (address)
        SELECT address_hash(address) FROM unnest(%(addresses)s::text[]) AS address
        ON CONFLICT DO NOTHING
        """,
        addresses=list(addresses),
    )


def token_hash(token: str) -> bytes:
    """256 bits that nobody can guess need nothing slower."""
    return sha256(token.encode()).digest()


def _token(message_id: int) -> str:
    """Derived, so that the outbox needs to keep none."""
    return urlsafe_b64encode(tokens.keys().derived("mail", str(message_id).encode())[0]).rstrip(b"=").decode()


def rejected_addresses(notification: dict[str, Any]) -> list[str]:
    """The addresses that a notification of SES names for good: bounces that may pass do not count."""
    match notification:
        case {"eventType": "Bounce", "bounce": {"bounceType": "Permanent", "bouncedRecipients": recipients}}:
            return [recipient["emailAddress"] for recipient in recipients]
        case {"eventType": "Complaint", "complaint": {"complainedRecipients": recipients}}:
            return [recipient["emailAddress"] for recipient in recipients]
    return []
