"""The original's tables: where they are, and their rows as text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import Connection, sql

from local.settings import CannotStart
from tools.move.tables import IDS, TABLES, TIMES

INTEGERS = ("smallint", "integer", "bigint")


@dataclass(frozen=True, kw_only=True)
class Found:
    """A table of the source. `columns` are its names for ours; `types` has all that there are."""

    schema: str
    name: str
    columns: Mapping[str, str]
    types: Mapping[str, str]

    @property
    def place(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


def look(source: Connection[Any]) -> tuple[dict[str, Found], list[str]]:
    """Where each table is, by its kind, and which others there are. Says all that is missing at once."""
    schemas: dict[str, str] = {}
    types: dict[str, dict[str, str]] = {}
    for schema, table, column, type_ in source.execute(
        """
        SELECT table_schema, table_name, column_name, data_type
          FROM information_schema.columns
         WHERE table_schema = ANY (current_schemas(false))
         ORDER BY array_position(current_schemas(false), table_schema::name), ordinal_position
        """
    ):
        if schemas.setdefault(table, schema) == schema:
            types.setdefault(table, {})[column] = type_
    layout: dict[str, Found] = {}
    wrong: list[str] = []
    for table in TABLES:
        name = _spelt(table.names, types)
        if name is None:
            wrong.append(f"no table {' or '.join(table.names)}; it has {', '.join(sorted(types)) or 'none'}")
            continue
        columns: dict[str, str] = {}
        for ours, spellings in table.columns.items():
            column = _spelt(spellings, types[name])
            if column is None:
                if ours in table.required:
                    wrong.append(f"no column {' or '.join(spellings)} in {name}; it has {', '.join(types[name])}")
            elif ours in IDS and types[name][column] not in INTEGERS:
                wrong.append(f"{name}.{column} is {types[name][column]}; only whole numbers can stay what they are")
            elif ours not in TIMES or types[name][column].startswith(("timestamp", "date")):
                columns[ours] = column
        layout[table.kind] = Found(schema=schemas[name], name=name, columns=columns, types=types[name])
    if wrong:
        raise CannotStart("\n  ".join(["The source is not laid out like the original's database:", *wrong]))
    return layout, sorted(types.keys() - {found.name for found in layout.values()})


def _spelt(spellings: Sequence[str], names: Mapping[str, object]) -> str | None:
    plain = {name.lower().replace("_", ""): name for name in names}
    return next((plain[text] for text in (spelling.replace("_", "") for spelling in spellings) if text in plain), None)


def count(source: Connection[Any], found: Found) -> tuple[int, dict[str, int]]:
    """Its rows, and how many values each column has that has no place here."""
    extra = [column for column in found.types if column not in found.columns.values()]
    counts = [sql.SQL("count({})").format(column) for column in map(sql.Identifier, extra)]
    query = sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join([sql.SQL("count(*)"), *counts]), found.place)
    (row,) = source.execute(query)
    return row[0], dict(zip(extra, row[1:], strict=True))


def rows(source: Connection[Any], found: Found, zone: str) -> Iterator[tuple[str | None, ...]]:
    """In the order of ids, with the values in that of `found.columns`."""
    columns = [_value(ours, column, found.types[column], zone) for ours, column in found.columns.items()]
    query = sql.SQL("COPY (SELECT {} FROM {} ORDER BY {}) TO STDOUT").format(
        sql.SQL(", ").join(columns), found.place, sql.Identifier(found.columns["id"])
    )
    with source.cursor().copy(query) as copy:
        yield from copy.rows()


def _value(ours: str, column: str, type_: str, zone: str) -> sql.Composable:
    value: sql.Composable = sql.Identifier(column)
    if ours in TIMES:
        if type_ != "timestamp with time zone":
            value = sql.SQL("({}::timestamp AT TIME ZONE {})").format(value, zone)
        return sql.SQL("CASE WHEN {0} BETWEEN '1900-01-01' AND '2100-01-01' THEN {0} END").format(value)
    if ours == "date_of_birth" and type_.startswith("timestamp"):
        return sql.SQL("{}::date").format(value)
    return value
