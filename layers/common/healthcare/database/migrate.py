"""Brings a database to the newest version: plain SQL files, in order, a transaction each.

Run as the owner, directly and not through the proxy. `make run`, the tests and functions/migrate call it.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

_FILES = Path(__file__).parent / "migrations"
_LOCK = 7_242_637  # of this application's choosing; two migrations at once run one after the other


class MigrationError(Exception):
    """The database was not made by these files."""


class DatabaseIsNewer(MigrationError):
    """It has had these migrations and more."""


def migrate(conninfo: str = "", *, passwords: Mapping[str, str] | None = None, files: Path = _FILES) -> list[str]:
    """Applies what is missing and returns the names of those files.

    `passwords` sets the passwords of the roles named, for servers where they log in with one. Raises MigrationError,
    and psycopg.Error when a file fails, which then has left no trace.
    """
    applied: list[str] = []
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        connection.execute(
            """
            CREATE TABLE IF NOT EXISTS schema_migrations (
                name       text PRIMARY KEY,
                checksum   text NOT NULL,
                applied_at timestamptz NOT NULL DEFAULT now()
            )
            """
        )
        known: dict[str, str] = dict(connection.execute("SELECT name, checksum FROM schema_migrations").fetchall())
        available = {path.stem: path.read_bytes() for path in sorted(files.glob("[0-9]*.sql"))}
        _refuse_a_different_past(known, available)
        for name in sorted(available.keys() - known.keys()):
            _apply(connection, name, available[name])
            applied.append(name)
        for role, password in (passwords or {}).items():
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(password)))
    return applied


def grant_admin(conninfo: str, email: str) -> bool:
    """Makes the user with this e-mail address an admin; False when there is none."""
    with psycopg.connect(conninfo) as connection:
        return bool(connection.execute("UPDATE users SET role = 'admin' WHERE email_key = lower(%s)", [email]).rowcount)


def broken_audit_links(conninfo: str) -> list[dict[str, Any]]:
    """Where the chains of audit events do not hold any more, the first broken link of each owner first.

    Each: `owner_id` (0: nobody's), `number` in the chain, `event_id` and a `reason`. Whoever can change every row of
    the database can make new chains; heads that were noted elsewhere show that.
    """
    with psycopg.connect(conninfo, row_factory=dict_row) as connection:
        return connection.execute("SELECT owner_id, number, event_id, reason FROM broken_audit_links()").fetchall()


def _refuse_a_different_past(known: Mapping[str, str], available: Mapping[str, bytes]) -> None:
    for name, checksum in known.items():
        if name in available and sha256(available[name]).hexdigest() != checksum:
            raise MigrationError(f"{name} has been edited after it was applied; write a new migration instead.")
    if available.keys() < known.keys():
        raise DatabaseIsNewer(f"The database has had {max(known)}; these migrations are older.")
    if strange := known.keys() - available.keys():
        raise MigrationError(f"The database has had {min(strange)}, which is not among these migrations.")
    if known and min(available.keys() - known.keys(), default="~") < max(known):
        raise MigrationError(f"{min(available.keys() - known.keys())} comes before {max(known)}, which was applied.")


def _apply(connection: psycopg.Connection[Any], name: str, content: bytes) -> None:
    with connection.transaction():
        connection.execute(content)
        connection.execute(
            "INSERT INTO schema_migrations (name, checksum) VALUES (%s, %s)", [name, sha256(content).hexdigest()]
        )
