"""The database of the local run: the embedded server, or the one that DATABASE_URL or PGHOST names."""

import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
from psycopg import sql

from local.database.postgres import EmbeddedPostgres, kept
from local.settings import PROJECT, CannotStart

sys.path.append(str(PROJECT / "layers" / "common"))

from healthcare.database.migrate import ROLES, MigrationError, migrate

OWNER = "healthcare_owner"
DATABASE = "healthcare"


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    owner: str
    # libpq's variables, for every function that has a database
    variables: Mapping[str, str]
    applied: list[str]
    note: str | None = None
    # None where somebody else runs it
    server: EmbeddedPostgres | None = None

    def login(self, role: str) -> str:
        """The role a function asks for in the template, but for the owner, whom a given database calls otherwise."""
        return self.owner if role == OWNER else role


@contextmanager
def ready_database(folder: Path, environ: Mapping[str, str]) -> Iterator[Database]:
    """Runs while in use, migrated to the newest version."""
    if is_given(environ):
        yield _given(folder, environ.get("DATABASE_URL", ""), environ.get("DATABASE_POOLER", ""))
        return
    with EmbeddedPostgres(folder / "postgres") as server:
        yield replace(_embedded(folder, server), server=server)


def running_database(folder: Path, environ: Mapping[str, str]) -> Database:
    """That of a run which is up, started with the same environment."""
    if is_given(environ):
        return _given(folder, environ.get("DATABASE_URL", ""), environ.get("DATABASE_POOLER", ""))
    return Database(owner=OWNER, variables={**_variables(port_of(folder)), **_password_file(folder)}, applied=[])


def port_of(folder: Path) -> str:
    """Of the embedded server with its files in `folder`."""
    try:
        return (folder / "postgres" / "port").read_text()
    except OSError:
        raise CannotStart(f"There is no database in {folder} yet: start `make run`, in another terminal.") from None


def is_given(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("DATABASE_URL") or environ.get("PGHOST"))


def _embedded(folder: Path, server: EmbeddedPostgres) -> Database:
    passwords = _passwords(folder, (OWNER, *ROLES))
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [OWNER]).fetchone():
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEROLE").format(sql.Identifier(OWNER)))
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            names = sql.Identifier(DATABASE), sql.Identifier(OWNER)
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*names))
        password = sql.Literal(passwords[OWNER])
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(OWNER), password))
    note = f"Running as root: the database lies in {server.elsewhere}." if server.elsewhere else None
    return _migrated(
        folder,
        server.conninfo(user=OWNER, password=passwords[OWNER], dbname=DATABASE),
        OWNER,
        _variables(str(server.port)),
        passwords,
        note,
    )


def _variables(port: str) -> dict[str, str]:
    return {"PGHOST": "127.0.0.1", "PGPORT": port, "PGDATABASE": DATABASE, "PGSSLMODE": "disable"}


def _password_file(folder: Path) -> dict[str, str]:
    return {"PGPASSFILE": str(folder / "pgpass")}


def _given(folder: Path, conninfo: str, pooler: str) -> Database:
    """`pooler`, `host:port`, takes the functions to the same database; migrations go there directly."""
    passwords = _passwords(folder, ROLES)
    try:
        with psycopg.connect(conninfo, connect_timeout=5) as connection:
            info = connection.info
            owner, password = info.user, info.password
            parameters = info.get_parameters()
            variables = {"PGHOST": info.host, "PGPORT": str(info.port), "PGDATABASE": info.dbname}
            variables["PGSSLMODE"] = parameters.get("sslmode") or "prefer"
            if "sslrootcert" in parameters:
                variables["PGSSLROOTCERT"] = parameters["sslrootcert"]
    except psycopg.ProgrammingError:  # whose text may hold the password
        raise CannotStart("DATABASE_URL should look like postgresql://user:password@host:5432/database.") from None
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise CannotStart(f"The database that DATABASE_URL or PGHOST names does not let us in: {reason}") from None
    if password:
        passwords[owner] = password
    if pooler:
        variables["PGHOST"], _, variables["PGPORT"] = pooler.rpartition(":")
    return _migrated(folder, conninfo, owner, variables, passwords, None)


def _migrated(
    folder: Path,
    conninfo: str,
    owner: str,
    variables: Mapping[str, str],
    passwords: Mapping[str, str],
    note: str | None,
) -> Database:
    try:
        applied = migrate(conninfo, passwords={role: passwords[role] for role in ROLES})
    except (MigrationError, psycopg.Error) as error:
        raise CannotStart(f"The migrations could not be applied: {str(error).strip().splitlines()[0]}") from error
    password_file = folder / "pgpass"
    lines = [f"*:*:*:{_escaped(role)}:{_escaped(password)}\n" for role, password in passwords.items()]
    password_file.unlink(missing_ok=True)
    password_file.touch(mode=0o600)
    password_file.write_text("".join(lines))
    return Database(owner=owner, variables={**variables, **_password_file(folder)}, applied=applied, note=note)


def _passwords(folder: Path, roles: tuple[str, ...]) -> dict[str, str]:
    return {role: kept(folder / f"password-{role}", lambda: secrets.token_hex(16)) for role in roles}


def forget_given(environ: "os._Environ[str]") -> None:
    """What a person's shell says about PostgreSQL must not reach the functions: they get variables of their own."""
    for name in [name for name in environ if name in ("DATABASE_URL", "DATABASE_POOLER") or name.startswith("PG")]:
        del environ[name]


def _escaped(field: str) -> str:
    return field.replace("\\", "\\\\").replace(":", "\\:")
