"""What an operator does to the database, as its owner: functions/migrate and the tools call it."""

from typing import Any

import psycopg
from psycopg.rows import dict_row


def grant_admin(conninfo: str, email: str) -> bool:
    """Makes the user with this e-mail address an admin; False when there is none."""
    with psycopg.connect(conninfo) as connection:
        return bool(connection.execute("UPDATE users SET role = 'admin' WHERE email_key = lower(%s)", [email]).rowcount)


def turn_off_second_factor(conninfo: str, email: str) -> bool:
    """For somebody who has lost their device and the recovery codes; every session ends. False when there is none."""
    with psycopg.connect(conninfo) as connection:
        user = connection.execute(
            """
            UPDATE users
               SET second_factor = false
             WHERE email_key = lower(%s) AND second_factor
            RETURNING id
            """,
            [email],
        ).fetchone()
        if user:
            for table in ("authenticators", "recovery_codes", "sessions"):
                connection.execute(f"DELETE FROM {table} WHERE user_id = %s", user)
            connection.execute("INSERT INTO outbox (kind, user_id) VALUES ('mfa-off', %s)", user)
        return user is not None


def broken_audit_links(conninfo: str) -> list[dict[str, Any]]:
    """Where the chains of audit events do not hold any more, the first broken link of each owner first.

    Each: `owner_id` (0: nobody's), `number` in the chain, `event_id` and a `reason`. Whoever can change every row of
    the database can make new chains; heads that were noted elsewhere show that.
    """
    with psycopg.connect(conninfo, row_factory=dict_row) as connection:
        return connection.execute("SELECT owner_id, number, event_id, reason FROM broken_audit_links()").fetchall()


def send_again(conninfo: str) -> int:
    """Makes the mails that were set aside due again; returns how many."""
    with psycopg.connect(conninfo) as connection:
        return connection.execute(
            """
            UPDATE outbox
               SET state = 'pending', attempts = 0, due_at = now(), finished_at = NULL
             WHERE state = 'failed' AND webhook_id IS NULL
            """
        ).rowcount


def delete_doctor(conninfo: str, id: int, batch: int = 500) -> int:
    """Deletes a doctor who is assigned to too many patients for one request; returns how many mappings went.

    In batches, so that nobody waits long for an owner's chain of audit events. If it stops half-way, call it again.
    """
    deleted = 0
    with psycopg.connect(conninfo, autocommit=True) as connection:
        while count := connection.execute(
            """
            DELETE FROM mappings
             WHERE id IN (SELECT id
                            FROM mappings
                           WHERE doctor_id = %s
                           ORDER BY owner_id
                           LIMIT %s)
            """,
            [id, batch],
        ).rowcount:
            deleted += count
        connection.execute("DELETE FROM doctors WHERE id = %s", [id])
    return deleted


def erase_patient(conninfo: str, id: int) -> dict[str, Any] | None:
    """Takes everything of a patient, where the law lets it be forgotten; None when there is no such patient.

    Returns how much went and the keys of the `objects` that are left to delete in S3. The audit keeps one event that
    says the same, and nothing of what was erased.
    """
    with psycopg.connect(conninfo, row_factory=dict_row) as connection:
        row = connection.execute("SELECT erased, objects::text[] FROM erase_patient(%s)", [id]).fetchone()
    assert row
    return {**row["erased"], "objects": row["objects"]} if row["erased"] else None
