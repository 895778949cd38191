"""`make move`: takes users, patients, doctors and mappings out of the database of the original API into this one.

The source is only read, in one transaction that cannot write, and row by row, so that its size does not matter. Ids and
password hashes stay what they are. What was taken is on record: the audit has its creation with MOVE in the place of
a request's id. So a second run knows it, whatever has become of it here since.
"""

import argparse
import csv
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, LiteralString, TextIO

import psycopg
from psycopg import Connection, IsolationLevel, sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row, namedtuple_row
from pydantic import BeforeValidator, ValidationError

from local.__main__ import take_lock
from local.console import Console
from local.database.database import DATABASE, OWNER, is_given, ready_database
from local.settings import PROJECT, CannotStart, read

sys.path.append(str(PROJECT / "layers" / "common"))

from healthcare.accounts.passwords import PasswordHash, decoy
from healthcare.doctors import NewDoctor
from healthcare.fields import Email, Gender, Id, Input, Name, Specialty
from healthcare.mappings import NewMapping
from healthcare.patients import NewPatient
from healthcare.web.api import in_words

MOVE = "move"
BATCH = 500
IDS = ("id", "owner_id", "patient_id", "doctor_id")
TIMES = ("created_at", "updated_at")
INTEGERS = ("smallint", "integer", "bigint")
GENDERS = {
    **dict.fromkeys(("m", "man", "boy"), "male"),
    **dict.fromkeys(("f", "woman", "girl"), "female"),
    **dict.fromkeys(("o", "x", "others", "diverse", "nonbinary", "non-binary"), "other"),
    **dict.fromkeys(("u", "n/a", "na", "not known"), "unknown"),
}


def _code(value: object) -> object:
    return GENDERS.get(spelling := value.strip().lower(), spelling) if isinstance(value, str) else value


# What becomes of a row. The fields' rules are the API's own. A value that has a default here does not keep its row from
# being taken.


class Moved(Input):
    id: Id
    created_at: str | None = None
    updated_at: str | None = None


class MovedUser(Moved):
    name: Name
    email: Email
    password_hash: PasswordHash = decoy(12).decode()


class MovedPatient(Moved, NewPatient):
    owner_id: Id
    gender: Annotated[Gender | None, BeforeValidator(_code)] = None


class MovedDoctor(Moved, NewDoctor):
    specialty: Specialty = "Unspecified"


class MovedMapping(Moved, NewMapping):
    pass


@dataclass(frozen=True, kw_only=True)
class Table:
    """`names` and `columns` say how sources spell what is here; capitals and underscores make no difference.

    `standing` asks about rows that are to be inserted: is there one with this id, and is it the same; by which `key`
    must there be no second, and which row is that `rival`.
    """

    name: str
    resource: str  # in the audit
    names: Sequence[str]
    columns: Mapping[str, Sequence[str]]
    model: type[Moved]
    parents: Mapping[str, str] = field(default_factory=dict)
    standing: LiteralString
    rivalry: str = ""
    insert: LiteralString

    @property
    def required(self) -> set[str]:
        """Columns without which a source is none; a value that is missing may have a default all the same."""
        return {"password_hash", *(name for name, each in self.model.model_fields.items() if each.is_required())}


_NAMES = ("name", "full_name")
_PHONES = ("phone", "phone_number", "mobile", "contact", "contact_number")
_EMAILS = ("email", "email_address")
_TIMES = {"created_at": ("created_at", "created"), "updated_at": ("updated_at", "updated")}

TABLES = (
    Table(
        name="users",
        resource="user",
        names=("users", "user"),
        columns={
            "id": ("id",),
            "name": (*_NAMES, "username"),
            "email": _EMAILS,
            "password_hash": ("password", "password_hash", "hashed_password"),
            **_TIMES,
        },
        model=MovedUser,
        standing="""
        SELECT g.id, u.id IS NOT NULL AS found,
               u.created_at IS NOT DISTINCT FROM g.created_at OR u.email_key = lower(g.email) AS same,
               lower(g.email) AS key, rival.id AS rival
          FROM jsonb_to_recordset(%(rows)s) AS g (id bigint, email text, created_at timestamptz)
          LEFT JOIN users u ON u.id = g.id
          LEFT JOIN users rival ON rival.email_key = lower(g.email)
        """,
        rivalry="its e-mail address, capitals aside, is that of user {}",
        insert="""
        INSERT INTO users (id, name, email, password_hash, created_at, updated_at)
        SELECT id, name, email, password_hash, coalesce(created_at, now()), coalesce(updated_at, created_at, now())
          FROM jsonb_populate_recordset(NULL::users, %(rows)s)
         ORDER BY id
            ON CONFLICT DO NOTHING
        RETURNING id
        """,
    ),
    Table(
        name="doctors",
        resource="doctor",
        names=("doctors", "doctor"),
        columns={
            "id": ("id",),
            "name": (*_NAMES, "doctor_name"),
            "specialty": ("specialty", "specialization", "specialisation", "speciality"),
            "phone": _PHONES,
            "email": _EMAILS,
            **_TIMES,
        },
        model=MovedDoctor,
        standing="""
        SELECT g.id, d.id IS NOT NULL AS found, coalesce(d.created_at = g.created_at, true) AS same,
               NULL AS key, NULL AS rival
          FROM jsonb_to_recordset(%(rows)s) AS g (id bigint, created_at timestamptz)
          LEFT JOIN doctors d ON d.id = g.id
        """,
        insert="""
        INSERT INTO doctors (id, name, specialty, phone, email, created_at, updated_at)
        SELECT id, name, specialty, phone, email, coalesce(created_at, now()), coalesce(updated_at, created_at, now())
          FROM jsonb_populate_recordset(NULL::doctors, %(rows)s)
         ORDER BY id
            ON CONFLICT DO NOTHING
        RETURNING id
        """,
    ),
    Table(
        name="patients",
        resource="patient",
        names=("patients", "patient"),
        columns={
            "id": ("id",),
            "owner_id": ("user_id", "owner_id", "created_by", "created_by_id"),
            "name": (*_NAMES, "patient_name"),
            "date_of_birth": ("date_of_birth", "dob", "birth_date", "birthday"),
            "gender": ("gender", "sex"),
            "phone": _PHONES,
            "email": _EMAILS,
            "address": ("address",),
            **_TIMES,
        },
        model=MovedPatient,
        parents={"owner_id": "users"},
        standing="""
        SELECT g.id, p.id IS NOT NULL AS found, coalesce(p.created_at = g.created_at, true) AS same,
               NULL AS key, NULL AS rival
          FROM jsonb_to_recordset(%(rows)s) AS g (id bigint, created_at timestamptz)
          LEFT JOIN patients p ON p.id = g.id
        """,
        # In the order in which others lock the chains of the audit.
        insert="""
        INSERT INTO patients (id, owner_id, name, date_of_birth, gender, phone, email, address, created_at, updated_at)
        SELECT id, owner_id, name, date_of_birth, gender, phone, email, address,
               coalesce(created_at, now()), coalesce(updated_at, created_at, now())
          FROM jsonb_populate_recordset(NULL::patients, %(rows)s)
         ORDER BY owner_id, id
            ON CONFLICT DO NOTHING
        RETURNING id
        """,
    ),
    Table(
        name="mappings",
        resource="mapping",
        names=(
            "patient_doctor_mappings",
            "patient_doctor_mapping",
            "patient_doctors",
            "patient_doctor",
            "doctor_patient_mappings",
            "doctor_patients",
            "doctor_patient",
            "mappings",
            "mapping",
        ),
        columns={
            "id": ("id",),
            "patient_id": ("patient_id", "patient"),
            "doctor_id": ("doctor_id", "doctor"),
            "created_at": (*_TIMES["created_at"], "assigned_at"),
            "updated_at": _TIMES["updated_at"],
        },
        model=MovedMapping,
        parents={"patient_id": "patients", "doctor_id": "doctors"},
        standing="""
        SELECT g.id, m.id IS NOT NULL AS found, coalesce(m.created_at = g.created_at, true) AS same,
               concat_ws(' ', g.patient_id, g.doctor_id) AS key, rival.id AS rival
          FROM jsonb_to_recordset(%(rows)s) AS g (id bigint, patient_id bigint, doctor_id bigint,
                                                  created_at timestamptz)
          LEFT JOIN mappings m ON m.id = g.id
          LEFT JOIN patients p ON p.id = g.patient_id
          LEFT JOIN mappings rival ON (rival.owner_id, rival.patient_id, rival.doctor_id)
                                    = (p.owner_id, g.patient_id, g.doctor_id)
        """,
        rivalry="mapping {} has the same patient and doctor",
        insert="""
        INSERT INTO mappings (id, owner_id, patient_id, doctor_id, created_at, updated_at)
        SELECT m.id, p.owner_id, p.id, m.doctor_id, coalesce(m.created_at, now()),
               coalesce(m.updated_at, m.created_at, now())
          FROM jsonb_populate_recordset(NULL::mappings, %(rows)s) AS m
          JOIN patients p ON p.id = m.patient_id
         ORDER BY p.owner_id, m.id
            ON CONFLICT DO NOTHING
        RETURNING id
        """,
    ),
)


# The source ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Found:
    """A table of the source. `columns` are its names for ours; `types` has all that there are."""

    schema: str
    name: str
    columns: Mapping[str, str]
    types: Mapping[str, str]

    @property
    def extra(self) -> list[str]:
        return [column for column in self.types if column not in self.columns.values()]

    @property
    def place(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


@contextmanager
def _source(conninfo: str) -> Iterator[Connection[Any]]:
    """In a transaction that cannot write and sees one moment, however long it takes."""
    with _connected("FROM", conninfo) as connection:
        if connection.info.encoding == "ascii":
            raise CannotStart(
                "The source does not say how its text is encoded (SQL_ASCII). Set PGCLIENTENCODING, to UTF8 or LATIN1."
            )
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        # The reader waits for the writer. transaction_timeout is there from version 17 on.
        connection.execute(
            """
            SELECT set_config(name, '0', false)
              FROM pg_settings
             WHERE name IN ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout')
            """
        )
        connection.execute("SELECT set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO', false)")
        yield connection


@contextmanager
def _connected(name: str, conninfo: str, client_encoding: str | None = None) -> Iterator[Connection[Any]]:
    try:
        connection = psycopg.connect(conninfo, connect_timeout=10, client_encoding=client_encoding)
    except psycopg.ProgrammingError:  # whose text may hold the password
        raise CannotStart(f"{name} should look like postgresql://user:password@host:5432/database.") from None
    except psycopg.Error as error:
        raise CannotStart(f"The database of {name} does not let us in: {_first_line(error)}") from None
    with closing(connection):
        yield connection


def _look(source: Connection[Any]) -> tuple[dict[str, Found], list[str]]:
    """Where each table is, and which others there are. Says all that is missing at once."""
    schemas: dict[str, str] = {}
    types: dict[str, dict[str, str]] = {}
    for schema, table, column, kind in source.execute(
        """
        SELECT table_schema, table_name, column_name, data_type
          FROM information_schema.columns
         WHERE table_schema = ANY (current_schemas(false))
         ORDER BY array_position(current_schemas(false), table_schema::name), ordinal_position
        """
    ):
        if schemas.setdefault(table, schema) == schema:
            types.setdefault(table, {})[column] = kind
    layout: dict[str, Found] = {}
    wrong: list[str] = []
    for table in TABLES:
        name = _named(table.names, types)
        if name is None:
            wrong.append(f"no table {' or '.join(table.names)}; it has {', '.join(sorted(types)) or 'none'}")
            continue
        columns: dict[str, str] = {}
        for ours, spellings in table.columns.items():
            column = _named(spellings, types[name])
            if column is None:
                if ours in table.required:
                    wrong.append(f"no column {' or '.join(spellings)} in {name}; it has {', '.join(types[name])}")
            elif ours in IDS and types[name][column] not in INTEGERS:
                wrong.append(f"{name}.{column} is {types[name][column]}; only whole numbers can stay what they are")
            elif ours not in TIMES or types[name][column].startswith(("timestamp", "date")):
                columns[ours] = column
        layout[table.name] = Found(schema=schemas[name], name=name, columns=columns, types=types[name])
    if wrong:
        raise CannotStart("\n  ".join(["The source is not laid out like the original's database:", *wrong]))
    return layout, sorted(types.keys() - {found.name for found in layout.values()})


def _named(spellings: Sequence[str], names: Mapping[str, object]) -> str | None:
    plain = {name.lower().replace("_", ""): name for name in names}
    return next((plain[text] for text in (spelling.replace("_", "") for spelling in spellings) if text in plain), None)


def _size(source: Connection[Any], found: Found) -> tuple[int, int, list[tuple[str, int]]]:
    """Its rows, its highest id, and how many values each column has that has no place here."""
    query = sql.SQL("SELECT count(*), coalesce(max({}), 0){} FROM {}").format(
        sql.Identifier(found.columns["id"]),
        sql.SQL("").join(sql.SQL(", count({})").format(sql.Identifier(column)) for column in found.extra),
        found.place,
    )
    (row,) = source.execute(query)
    return row[0], row[1], list(zip(found.extra, row[2:], strict=True))


def _batches(source: Connection[Any], found: Found, zone: str) -> Iterator[list[dict[str, Any]]]:
    columns = [_read(ours, column, found.types[column], zone) for ours, column in found.columns.items()]
    with source.cursor(name=MOVE, row_factory=dict_row) as cursor:
        cursor.execute(
            sql.SQL("SELECT {} FROM {} ORDER BY {}").format(
                sql.SQL(", ").join(columns), found.place, sql.Identifier(found.columns["id"])
            )
        )
        while batch := cursor.fetchmany(BATCH):
            yield batch


def _read(ours: str, column: str, kind: str, zone: str) -> sql.Composed:
    """As text, but for ids: text of every kind can be read, an infinite date for one is none of Python's."""
    value: sql.Composable = sql.Identifier(column)
    if ours in TIMES:
        if kind != "timestamp with time zone":
            value = sql.SQL("({}::timestamp AT TIME ZONE {})").format(value, zone)
        value = sql.SQL("CASE WHEN {0} BETWEEN '1900-01-01' AND '2100-01-01' THEN {0} END").format(value)
    elif ours == "date_of_birth" and kind.startswith("timestamp"):
        value = sql.SQL("{}::date").format(value)
    return sql.SQL("({}){} AS {}").format(value, sql.SQL("" if ours in IDS else "::text"), sql.Identifier(ours))


# The target ---------------------------------------------------------------------------------------------------------


@contextmanager
def _target(conninfo: str | None, folder: Path, environ: Mapping[str, str]) -> Iterator[Connection[Any]]:
    """As the owner of the database that TO names, or of the local run's."""
    with (
        nullcontext(conninfo) if conninfo else _local(folder, environ) as login,
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
def _local(folder: Path, environ: Mapping[str, str]) -> Iterator[str]:
    """The one that the local run is given, or its own, whether it is up or not."""
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


# The move -----------------------------------------------------------------------------------------------------------


class Report:
    """A line for each row and each value that was not taken: where it is and why, never what it is."""

    def __init__(self, file: TextIO) -> None:
        self._writer = csv.writer(file)
        self._writer.writerow(["table", "id", "not_taken", "reason"])

    def row(self, table: str, id: int | None, reason: str) -> None:
        self._writer.writerow([table, id, "row", reason])

    def value(self, table: str, id: int, column: str, reason: str) -> None:
        self._writer.writerow([table, id, column, reason])


class State:
    """What the tables' moves share. `here` has the ids of what was taken, now or `before`, and is still there."""

    def __init__(self, target: Connection[Any], report: Report, *, dry_run: bool) -> None:
        self.target, self.report, self.dry_run = target, report, dry_run
        self.here: dict[str, set[int]] = {table.name: set() for table in TABLES}
        self.before: dict[str, set[int]] = {table.resource: set() for table in TABLES}
        for resource, id in target.execute(
            "SELECT resource, resource_id FROM audit_events WHERE action = 'create' AND request_id = %s", [MOVE]
        ):
            self.before[resource].add(id)


class TableMove:
    def __init__(self, state: State, table: Table, found: Found) -> None:
        self._state, self._table, self._found, self.name = state, table, found, found.name
        self._known = state.before[table.resource]
        self._keys: dict[str, int] = {}  # that the target does not know yet
        self.rows = self.taken = self.before = self.refused = self.lessened = 0

    def keep_ids_free(self, highest: int) -> None:
        """New rows get ids beyond those of the source, from before the first of these is taken."""
        if not self._state.dry_run:
            self._state.target.execute(
                """
                SELECT setval(sequence, %(highest)s)
                  FROM (SELECT pg_get_serial_sequence(%(table)s, 'id')::regclass AS sequence) s
                 WHERE coalesce(pg_sequence_last_value(sequence), 0) < %(highest)s
                """,
                {"table": self._table.name, "highest": highest},
            )

    def take(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.rows += len(rows)
        new: dict[int, dict[str, Any]] = {}
        problems: dict[int, Mapping[str, str]] = {}
        for row in rows:
            id = row["id"]
            if id in new:
                self._refuse(id, "its id is there twice")
            elif id not in self._known and (checked := self._checked(row)):
                new[id], problems[id] = checked
        known = [row for row in rows if row["id"] in self._known]
        for standing in self._standings([*known, *new.values()]):
            self._judge(standing, new)
        inserted = self._inserted(list(new.values()))
        self._state.here[self._table.name] |= inserted
        for id in new:
            if id not in inserted:
                self._refuse(id, "another row came first, in this moment")
                continue
            self.taken += 1
            self.lessened += bool(problems[id])
            for column, reason in problems[id].items():
                self._state.report.value(self.name, id, column, reason)

    def _checked(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], Mapping[str, str]] | None:
        """What is taken of a row, and why not the rest, by column; None when it can't be taken."""
        model, fields = self._table.model, self._table.model.model_fields
        given = {name: value for name, value in row.items() if isinstance(value, int) or (value and value.strip())}
        problems = {name: "there is none" for name in row if name not in given and fields[name].default is not None}
        try:
            moved = model.model_validate_json(json.dumps(given))
        except ValidationError as error:
            problems = {str(each["loc"][0]): in_words(each) for each in error.errors()} | problems
        columns = {self._found.columns[name]: reason for name, reason in problems.items()}
        if any(fields[name].is_required() for name in problems):
            self._refuse(row["id"], "; ".join(f"{column}: {reason}" for column, reason in columns.items()))
            return None
        if problems:
            kept = {name: value for name, value in given.items() if name not in problems}
            moved = model.model_validate_json(json.dumps(kept))
        for name, parent in self._table.parents.items():
            if (id := getattr(moved, name)) not in self._state.here[parent]:
                self._refuse(row["id"], f"{self._found.columns[name]}: {id} is not among the {parent} here")
                return None
        return moved.model_dump(mode="json"), columns

    def _standings(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        with self._state.target.cursor(row_factory=namedtuple_row) as cursor:
            standings = cursor.execute(self._table.standing, {"rows": json.dumps(rows)}).fetchall()
        return sorted(standings, key=lambda standing: standing.id)

    def _judge(self, standing: Any, new: dict[int, dict[str, Any]]) -> None:
        id, is_known = standing.id, standing.id in self._known
        if standing.found and not (is_known and standing.same):
            new.pop(id, None)
            self._refuse(id, "its id is that of another row here")
        elif is_known:
            self.before += 1
            if standing.found:
                self._state.here[self._table.name].add(id)
        elif rival := standing.rival or self._keys.get(standing.key):
            del new[id]
            self._refuse(id, self._table.rivalry.format(rival))
        elif standing.key:
            self._keys[standing.key] = id

    def _inserted(self, rows: Sequence[Mapping[str, Any]]) -> set[int]:
        if self._state.dry_run:
            return {row["id"] for row in rows}
        self._keys.clear()
        with self._state.target.transaction():
            self._state.target.execute("SELECT act_as(NULL, 'operator', %s)", [MOVE])
            return {id for (id,) in self._state.target.execute(self._table.insert, {"rows": json.dumps(rows)})}

    def _refuse(self, id: int | None, reason: str) -> None:
        self.refused += 1
        self._state.report.row(self.name, id, reason)


# The command --------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    options = _options(arguments, environ)
    console = Console(sys.stdout)
    try:
        folder = read(environ).folder
        if not options.source:
            raise CannotStart("Which database? make move FROM=postgresql://user@host/database")
        with _source(options.source) as source, _target(options.to, folder, environ) as target:
            _move(source, target, folder, console, options)
    except CannotStart as error:
        print(error, file=sys.stderr)
    except psycopg.Error as error:
        print(f"The move has stopped: {_first_line(error)}. Run it again, and it goes on.", file=sys.stderr)
    except KeyboardInterrupt:
        print("The move was stopped. Run it again, and it goes on.", file=sys.stderr)
    else:
        return 0
    return 1


def _options(arguments: Sequence[str], environ: Mapping[str, str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m tools.move.move", description="Takes the database of the original API into this one; docs/moving.md."
    )
    parser.add_argument("--from", dest="source", default=environ.get("FROM"), help="the original's database (FROM)")
    parser.add_argument("--to", default=environ.get("TO"), help="this API's, as its owner (TO; the local run's)")
    parser.add_argument("--zone", default=environ.get("ZONE") or "UTC", help="of times without one (ZONE; UTC)")
    is_dry = environ.get("DRY", "0") not in ("", "0")
    parser.add_argument("--dry-run", action="store_true", default=is_dry, help="only say what would be (DRY=1)")
    return parser.parse_args(arguments)


def _move(
    source: Connection[Any], target: Connection[Any], folder: Path, console: Console, options: argparse.Namespace
) -> None:
    start = time.monotonic()
    layout, others = _look(source)
    console.say(f"From {_place(source)} to {_place(target)}{', as a dry run' if options.dry_run else ''}")
    for name in others:
        console.say(f"  {name}: not taken, there is nothing like it here")
    moves = []
    with _report_file(folder) as file:
        state = State(target, Report(file), dry_run=options.dry_run)
        for table in TABLES:
            found = layout[table.name]
            move = TableMove(state, table, found)
            total, highest, extra = _size(source, found)
            for column, count in extra:
                reason = "an age gives no date of birth" if column == "age" else "there is nothing like it here"
                console.say(f"  {found.name}.{column}: not taken ({count:,} rows have one), {reason}")
            move.keep_ids_free(highest)
            with _progress(found.name, total) as show:
                for batch in _batches(source, found, options.zone):
                    move.take(batch)
                    show(move.rows)
            moves.append(move)
    _sum_up(console, moves, time.monotonic() - start)
    if options.dry_run:
        console.say("Nothing was written: this was a dry run.")
    if any(move.refused or move.lessened for move in moves):
        console.say(f"{file.name} says which rows and values are not taken, and why.")
    else:
        console.say(f"Every row {'can be' if options.dry_run else 'was'} taken, or had been before.")


def _sum_up(console: Console, moves: Sequence[TableMove], seconds: float) -> None:
    console.say()
    console.say(f"{f'After {seconds:.0f} s':<24}    in all     taken    before  not taken  without a value")
    for move in moves:
        counts = f"{move.rows:>10,}{move.taken:>10,}{move.before:>10,}{move.refused:>11,}{move.lessened:>17,}"
        console.say(f"{move.name:<24}{counts}")
    console.say()


@contextmanager
def _report_file(folder: Path) -> Iterator[TextIO]:
    path = folder / f"{datetime.now().astimezone():move-%Y-%m-%dT%H-%M-%S-%f}.csv"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        file = path.open("w", newline="")
    except OSError as error:
        raise CannotStart(f"{path} can't be written: {error.strerror}. LOCAL_DIR names another folder.") from None
    with file:
        yield file


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, nothing elsewhere."""

    def show(done: int) -> None:
        if sys.stdout.isatty():
            filled = 30 * done // max(total, 1)
            bar = "█" * filled + "░" * (30 - filled)
            print(f"\r{title:<24} {bar} {done:,} of {total:,}\x1b[K", end="", flush=True)

    show(0)
    try:
        yield show
    finally:
        if sys.stdout.isatty():
            print("\r\x1b[K", end="", flush=True)


def _place(connection: Connection[Any]) -> str:
    return f"{connection.info.dbname} on {connection.info.host}"


def _first_line(error: psycopg.Error) -> str:
    return str(error).strip().splitlines()[0]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a server that was started for this has to be stopped
    sys.exit(main(sys.argv[1:], os.environ))
