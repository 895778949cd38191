"""Connections to the source, which is only read, and to the target, as its owner."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection, IsolationLevel
from psycopg.conninfo import make_conninfo

from local.__main__ import take_lock
from local.database.database import DATABASE, OWNER, is_given, ready_database
from local.settings import CannotStart


@contextmanager
def source_database(conninfo: str) -> Iterator[Connection[Any]]:
    """In a transaction that cannot write and sees one moment, however long it takes."""
    with _connected("FROM", conninfo) as connection:
        if connection.info.encoding == "ascii":
            raise CannotStart(
                "The source does not say how its text is encoded (SQL_ASCII). Set PGCLIENTENCODING, to UTF8 or LATIN1."
            )
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.execute(  # transaction_timeout is there from version 17 on
            """
            SELECT set_config(name, value, false)
              FROM pg_settings
              JOIN (VALUES ('statement_timeout', '0'), ('transaction_timeout', '0'), ('TimeZone', 'UTC'),
                           ('DateStyle', 'ISO')) AS wanted (name, value) USING (name)
            """
        )
        yield connection


@contextmanager
def target_database(conninfo: str | None, folder: Path, environ: Mapping[str, str]) -> Iterator[Connection[Any]]:
    """The one that TO names, or that of the local run."""
    with (
        nullcontext(conninfo) if conninfo else _local_run(folder, environ) as login,
        _connected("TO" if conninfo else "the local run", login, client_encoding="UTF8") as connection,
    ):
        connection.autocommit = True
        owned = connection.execute(
            "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('public.audit_events')"
        ).fetchone()
        if owned is None:
            raise CannotStart("The target has no tables of this API: deploy it, or `make run` with it, once before.")
        if not owned[0]:
            raise CannotStart(f"{connection.info.user} does not own the target's tables: log in as who does.")
        yield connection


@contextmanager
def _local_run(folder: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """The login to the database that the local run is given, or to its own, whether it is up or not."""
    if is_given(environ):
        yield environ.get("DATABASE_URL", "")
        return
    port = folder / "postgres" / "port"
    server: AbstractContextManager[object] = nullcontext()
    try:
        take_lock(folder)
        server = ready_database(folder, {})
    except CannotStart:
        if not port.exists():
            raise
    with server:
        yield make_conninfo(
            host="127.0.0.1", port=port.read_text(), user=OWNER, dbname=DATABASE, passfile=str(folder / "pgpass")
        )


@contextmanager
def _connected(name: str, conninfo: str, client_encoding: str | None = None) -> Iterator[Connection[Any]]:
    try:
        connection = psycopg.connect(conninfo, connect_timeout=10, client_encoding=client_encoding)
    except psycopg.ProgrammingError:  # whose text may hold the password
        raise CannotStart(f"{name} should look like postgresql://user:password@host:5432/database.") from None
    except psycopg.Error as error:
        raise CannotStart(f"The database of {name} does not let us in: {first_line(error)}") from None
    with closing(connection):
        yield connection


def first_line(error: psycopg.Error) -> str:
    return str(error).strip().splitlines()[0]
