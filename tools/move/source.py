"""The original's database: where its tables are, and their rows as text. It is only read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import Connection, IsolationLevel, sql

from local.database.database import first_line
from local.settings import CannotStart
from tools.move.tables import IDS, SPELLINGS, TABLES, TIMES


@contextmanager
def connected(name: str, conninfo: str, client_encoding: str | None = None) -> Iterator[Connection[Any]]:
    """To the database that the variable `name` gives."""
    try:
        connection = psycopg.connect(conninfo, connect_timeout=10, client_encoding=client_encoding)
    except psycopg.ProgrammingError:  # whose text may hold the password
        raise CannotStart(f"{name} should look like postgresql://user:password@host:5432/database.") from None
    except psycopg.Error as error:
        raise CannotStart(f"The database of {name} does not let us in: {first_line(error)}") from None
    with closing(connection):
        yield connection


@contextmanager
def opened(conninfo: str) -> Iterator[Connection[Any]]:
    """In a transaction that cannot write and sees one moment, however long it takes."""
    with connected("FROM", conninfo) as connection:
        if connection.info.encoding == "ascii":
            raise CannotStart(
                "The source does not say how its text is encoded (SQL_ASCII). Set PGCLIENTENCODING, to UTF8 or LATIN1."
            )
        connection.isolation_level = IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        connection.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        connection.execute("SET TimeZone = 'UTC'; SET DateStyle = 'ISO'")
        yield connection


@dataclass(frozen=True)
class Found:
    """A table of the source. `columns` are its names for ours, `types` those of all its columns."""

    name: str
    columns: Mapping[str, str]
    types: Mapping[str, str]


def look(source: Connection[Any]) -> tuple[dict[str, Found], list[str]]:
    """The tables by their kind, and the names of those that are none of ours. Says all that is missing at once."""
    types: dict[str, dict[str, str]] = {}
    for name, column, type_ in source.execute(
        """
        SELECT table_name, column_name, data_type
          FROM information_schema.columns
         WHERE table_schema = current_schema()
         ORDER BY table_name, ordinal_position
        """
    ):
        types.setdefault(name, {})[column] = type_
    layout: dict[str, Found] = {}
    wrong: list[str] = []
    for table in TABLES:
        name = _spelt(table.names, types)
        if name is None:
            wrong.append(f"no table {' or '.join(table.names)}; it has {', '.join(types) or 'none'}")
            continue
        columns: dict[str, str] = {}
        for ours, field in table.model_fields.items():
            spellings = SPELLINGS.get(ours, [ours])
            column = _spelt(spellings, types[name])
            if column is None:
                if field.is_required() or ours == "password_hash":
                    wrong.append(f"no column {' or '.join(spellings)} in {name}; it has {', '.join(types[name])}")
            elif ours in IDS and types[name][column] not in ("smallint", "integer", "bigint"):
                wrong.append(f"{name}.{column} is {types[name][column]}; only whole numbers can stay what they are")
            elif ours not in TIMES or types[name][column].startswith(("timestamp", "date")):
                columns[ours] = column
        layout[table.kind] = Found(name, columns, types[name])
    if wrong:
        raise CannotStart("\n  ".join(["The source is not laid out like the original's database:", *wrong]))
    return layout, sorted(types.keys() - {found.name for found in layout.values()})


def _spelt(spellings: Sequence[str], names: Iterable[str]) -> str | None:
    plain = {_plain(name): name for name in names}
    return next((plain[_plain(spelling)] for spelling in spellings if _plain(spelling) in plain), None)


def _plain(name: str) -> str:
    return name.lower().replace("_", "").removesuffix("s")


def count(source: Connection[Any], found: Found) -> tuple[int, dict[str, int]]:
    """Its rows, and how many values there are in each column that is none of ours."""
    extra = [column for column in found.types if column not in found.columns.values()]
    counts = [sql.SQL("count({})").format(column) for column in [sql.SQL("*"), *map(sql.Identifier, extra)]]
    ((rows, *values),) = source.execute(
        sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(counts), sql.Identifier(found.name))
    )
    return rows, dict(zip(extra, values, strict=True))


def rows(source: Connection[Any], found: Found, zone: str) -> Iterator[tuple[str | None, ...]]:
    """In the order of ids, with the values in that of `found.columns`."""
    columns = [_value(ours, column, found.types[column], zone) for ours, column in found.columns.items()]
    query = sql.SQL("COPY (SELECT {} FROM {} ORDER BY {}) TO STDOUT").format(
        sql.SQL(", ").join(columns), sql.Identifier(found.name), sql.Identifier(found.columns["id"])
    )
    with source.cursor().copy(query) as copy:
        yield from copy.rows()


def _value(ours: str, column: str, type_: str, zone: str) -> sql.Composable:
    value: sql.Composable = sql.Identifier(column)
    if ours in TIMES:
        if type_ != "timestamp with time zone":
            value = sql.SQL("({}::timestamp AT TIME ZONE {})").format(value, zone)
        return sql.SQL("CASE WHEN {0} BETWEEN '1900-01-01' AND '2100-01-01' THEN {0} END").format(value)
    return sql.SQL("{}::date").format(value) if ours == "date_of_birth" and type_.startswith("timestamp") else value
