"""The database of the local run: the embedded server, or the one that DATABASE_URL or PGHOST names."""

import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import Conninfo

from local.database.postgres import EmbeddedPostgres, kept
from local.settings import PROJECT, CannotStart

sys.path.append(str(PROJECT / "layers" / "common"))

from healthcare.database.migrate import ROLES, MigrationError, migrate

OWNER = "healthcare_owner"
DATABASE = "healthcare"
BAD_URL = "DATABASE_URL should look like postgresql://user:password@host:5432/database."


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    owner: str
    # libpq's variables, for every function that has a database
    variables: Mapping[str, str]
    applied: list[str]
    # None where somebody else runs it
    server: EmbeddedPostgres | None = None

    def login(self, role: str) -> str:
        """The role a function asks for in the template. The owner of a given database has a name of its own."""
        return self.owner if role == OWNER else role


@contextmanager
def ready_database(folder: Path, environ: Mapping[str, str]) -> Iterator[Database]:
    """Runs while in use, migrated to the newest version."""
    if is_given(environ):
        yield _given(folder, environ)
        return
    with EmbeddedPostgres(folder / "postgres") as server:
        yield replace(_embedded(folder, server), server=server)


def running_database(folder: Path, environ: Mapping[str, str]) -> Database:
    """That of a run which is up, started with the same environment."""
    if is_given(environ):
        return _given(folder, environ)
    return Database(owner=OWNER, variables=_variables(folder, port_of(folder)), applied=[])


def port_of(folder: Path) -> str:
    """Of the embedded server with its files in `folder`."""
    try:
        return (folder / "postgres" / "port").read_text()
    except OSError:
        raise CannotStart(f"There is no database in {folder} yet: start `make run`, in another terminal.") from None


def is_given(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("DATABASE_URL") or environ.get("PGHOST"))


def _embedded(folder: Path, server: EmbeddedPostgres) -> Database:
    owner, password = sql.Identifier(OWNER), _password(folder, OWNER)
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [OWNER]).fetchone():
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEROLE").format(owner))
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone():
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), owner))
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(owner, sql.Literal(password)))
    conninfo = server.conninfo(user=OWNER, password=password, dbname=DATABASE)
    hint = " `make clean` removes it, with all its data."
    return _migrated(folder, conninfo, OWNER, password, _variables(folder, str(server.port)), hint)


def _variables(folder: Path, port: str) -> dict[str, str]:
    where = {"PGHOST": "127.0.0.1", "PGPORT": port, "PGDATABASE": DATABASE, "PGSSLMODE": "disable"}
    return {**where, "PGPASSFILE": str(folder / "pgpass")}


def _given(folder: Path, environ: Mapping[str, str]) -> Database:
    """DATABASE_POOLER, `host:port`, takes the functions to the same database; migrations go there directly."""
    try:
        conninfo = make_conninfo("", **_from_environment(environ) | conninfo_to_dict(environ.get("DATABASE_URL", "")))
        with psycopg.connect(conninfo, connect_timeout=5) as connection:
            info = connection.info
            owner, password, parameters = info.user, info.password, info.get_parameters()
            variables = {"PGHOST": info.host, "PGPORT": str(info.port), "PGDATABASE": info.dbname}
    except psycopg.ProgrammingError:  # whose text may hold the password
        raise CannotStart(BAD_URL) from None
    except psycopg.Error as error:
        said = first_line(error)
        raise CannotStart(f"The database that DATABASE_URL or PGHOST names does not let us in: {said}") from None
    variables |= {"PGSSLMODE": parameters.get("sslmode") or "prefer", "PGPASSFILE": str(folder / "pgpass")}
    if "sslrootcert" in parameters:
        variables["PGSSLROOTCERT"] = parameters["sslrootcert"]
    if pooler := environ.get("DATABASE_POOLER"):
        variables["PGHOST"], _, variables["PGPORT"] = pooler.rpartition(":")
    return _migrated(folder, conninfo, owner, password, variables)


def owner_conninfo(folder: Path, environ: Mapping[str, str]) -> str:
    """To the database that `make run` uses with this environment, as its owner."""
    if is_given(environ):
        return environ.get("DATABASE_URL", "")
    passfile = str(folder / "pgpass")
    return make_conninfo(host="127.0.0.1", port=port_of(folder), dbname=DATABASE, user=OWNER, passfile=passfile)


def first_line(error: psycopg.Error) -> str:
    return str(error).strip().splitlines()[0]


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """What libpq would take from its own variables."""
    options = [(option.keyword.decode(), (option.envvar or b"").decode()) for option in Conninfo.get_defaults()]
    return {keyword: environ[variable] for keyword, variable in options if environ.get(variable)}


def _migrated(
    folder: Path, conninfo: str, owner: str, password: str, variables: Mapping[str, str], hint: str = ""
) -> Database:
    """With passwords of this run's choosing for the functions' roles. PGPASSFILE holds them, and the owner's.

    `hint` says what to do with a database of other migrations.
    """
    passwords = {role: _password(folder, role) for role in ROLES}
    try:
        applied = migrate(conninfo, passwords=passwords)
    except MigrationError as error:
        raise CannotStart(f"{error}{hint}") from error
    except psycopg.Error as error:
        raise CannotStart(f"The migrations could not be applied: {first_line(error)}") from error
    logins = passwords | ({owner: password} if password else {})
    lines = [f"*:*:*:{_escaped(role)}:{_escaped(text)}\n" for role, text in logins.items()]
    password_file = folder / "pgpass"
    password_file.unlink(missing_ok=True)
    password_file.touch(mode=0o600)
    password_file.write_text("".join(lines))
    return Database(owner=owner, variables=variables, applied=applied)


def _password(folder: Path, role: str) -> str:
    return kept(folder / f"password-{role}", lambda: secrets.token_hex(16))


def _escaped(field: str) -> str:
    return field.replace("\\", "\\\\").replace(":", "\\:")
