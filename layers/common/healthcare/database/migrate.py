"""Brings a database to the newest version: plain SQL files, in order, each in a transaction unless it asks for none.

Run as the owner, directly and not through the proxy. `make run`, the tests and functions/migrate call it.
"""

from collections.abc import Mapping
from contextlib import nullcontext, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

_FILES = Path(__file__).parent / "migrations"
_LOCK = 7_242_637  # of this application's choosing; two migrations at once run one after the other
_PATIENCE = "60s"  # for a lock

# How a file begins whose one statement PostgreSQL refuses in a transaction, such as CREATE INDEX CONCURRENTLY. Without
# IF NOT EXISTS: an index that a failure left half made has to be dropped before the next try.
_NO_TRANSACTION = b"-- no transaction\n"

ROLES = ("healthcare_auth", "healthcare_api", "healthcare_doctor", "healthcare_sender")
"""Whom functions log in as. They own nothing and cannot bypass row-level security."""

# Set on the roles, because a connection's start-up options do not pass RDS Proxy. The last one is for pages, which are
# read in the order of an index: the planner, which expects few rows of an owner, would fetch and sort all of a million.
_ROLE_SETTINGS = {
    "statement_timeout": "5s",
    "lock_timeout": "4s",
    "idle_in_transaction_session_timeout": "10s",
    "timezone": "UTC",
    "enable_bitmapscan": "off",
}


class MigrationError(Exception):
    """The database was not made by these files."""


class DatabaseIsNewer(MigrationError):
    """It has had these migrations and more."""


def migrate(conninfo: str = "", *, passwords: Mapping[str, str] | None = None, files: Path = _FILES) -> list[str]:
    """Applies what is missing and returns the names of those files.

    `passwords` sets the passwords of the roles named, for servers where they log in with one. Raises MigrationError,
    and psycopg.Error when a file fails, which then has left no trace, or when another migration does not end.
    """
    applied: list[str] = []
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(sql.SQL("SET lock_timeout = {}").format(_PATIENCE))
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
        for role in ROLES:
            _prepare(connection, role, (passwords or {}).get(role))
        for name in sorted(available.keys() - known.keys()):
            _apply(connection, name, available[name])
            applied.append(name)
    return applied


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


def _prepare(connection: psycopg.Connection[Any], role: str, password: str | None) -> None:
    """Makes the role where it is missing, and its settings what they should be, whatever it has set for itself."""
    name, database = sql.Identifier(role), sql.Identifier(connection.info.dbname)
    rights = connection.execute(
        "SELECT rolsuper OR rolbypassrls OR rolcreaterole FROM pg_roles WHERE rolname = %s", [role]
    ).fetchone()
    if rights is None:
        # Roles belong to the whole server, where another database may be migrated at the same time.
        with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
    elif rights[0]:
        raise MigrationError(f"The role {role} may do more than an application should.")
    # Nobody makes temporary tables: one named like ours would come first on a connection that others use later.
    statements = [
        sql.SQL("REVOKE ALL ON DATABASE {database} FROM PUBLIC"),
        sql.SQL("GRANT CONNECT ON DATABASE {database} TO {name}"),
        sql.SQL("GRANT USAGE ON SCHEMA public TO {name}"),
        sql.SQL("ALTER ROLE {name} IN DATABASE {database} RESET ALL"),
        sql.SQL("ALTER ROLE {name} RESET ALL"),
        *(sql.SQL(f"ALTER ROLE {{name}} SET {setting} = '{value}'") for setting, value in _ROLE_SETTINGS.items()),
    ]
    with connection.transaction():
        for statement in statements:
            connection.execute(statement.format(name=name, database=database))
        if password:
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, sql.Literal(password)))


def _apply(connection: psycopg.Connection[Any], name: str, content: bytes) -> None:
    with nullcontext() if content.startswith(_NO_TRANSACTION) else connection.transaction():
        connection.execute(content)
        connection.execute(
            "INSERT INTO schema_migrations (name, checksum) VALUES (%s, %s)", [name, sha256(content).hexdigest()]
        )
