"""The rows of the source in a temporary table of the target, and what becomes of them.

A row's `status` is `new` when it can be taken, `before` when an earlier move took it, `deleted` when one took it and it
has been deleted here since, and `refused`, for a `reason`. `lost` has the values that are left out: {column: reason}.
"""

from collections.abc import Iterable, Sequence
from typing import Any, BinaryIO, NamedTuple

from psycopg import Connection
from psycopg.rows import class_row

from tools.move.source import Found
from tools.move.tables import TABLES, Table
from tools.progress import Advance

BATCH = 100  # a transaction adds a version to an owner's audit head with each row, and each looks through those before


class Counts(NamedTuple):
    rows: int
    taken: int
    before: int
    refused: int
    lessened: int


def prepare(target: Connection[Any]) -> None:
    """`key` is what there may be only one of."""
    target.execute(
        """
        CREATE TEMPORARY TABLE staged (
            kind    text NOT NULL,
            place   bigint NOT NULL,
            id      bigint,
            content jsonb NOT NULL,
            lost    jsonb NOT NULL,
            status  text NOT NULL,
            reason  text,
            key     text COLLATE "C" GENERATED ALWAYS AS (CASE kind
                        WHEN 'user' THEN lower(content ->> 'email')
                        WHEN 'mapping' THEN (content ->> 'patient_id') || ' ' || (content ->> 'doctor_id') END) STORED,
            PRIMARY KEY (kind, place)
        );
        CREATE TEMPORARY VIEW ready AS
        SELECT kind, place,
               jsonb_build_object('created_at', now(), 'updated_at', coalesce(content -> 'created_at', to_jsonb(now())))
                   || content AS content
          FROM staged
         WHERE status = 'new';
        CREATE TEMPORARY VIEW here AS
        SELECT 'user' AS kind, id, created_at, email_key AS key FROM users
         UNION ALL
        SELECT 'doctor', id, created_at, NULL FROM doctors
         UNION ALL
        SELECT 'patient', id, created_at, NULL FROM patients
         UNION ALL
        SELECT 'mapping', id, created_at, patient_id || ' ' || doctor_id FROM mappings
        """
    )


def stage(
    target: Connection[Any], table: Table, found: Found, rows: Iterable[Sequence[str | None]], advance: Advance
) -> None:
    with target.cursor().copy("COPY staged (kind, place, id, content, lost, status, reason) FROM STDIN") as copy:
        for place, values in enumerate(rows):
            copy.write_row((table.kind, place, *table.checked(found.columns, values)))
            advance()


def judge(target: Connection[Any], layout: dict[str, Found]) -> None:
    """Parents first, since a row whose parent is refused is refused too."""
    target.execute("ANALYZE staged")
    # A row that was taken stays so whatever became of it here or there. It is another one when neither the time nor the
    # key is the same.
    target.execute(
        """
        UPDATE staged s
           SET status = CASE WHEN h.id IS NULL THEN 'deleted' ELSE 'before' END, reason = NULL
          FROM audit_events e
          LEFT JOIN here h ON h.kind = e.resource AND h.id = e.resource_id
         WHERE e.action = 'create' AND e.request_id = 'move' AND e.resource = s.kind AND e.resource_id = s.id
           AND (h.id IS NULL OR h.key = s.key
                OR coalesce(h.created_at = (s.content ->> 'created_at')::timestamptz, s.kind <> 'user'))
        """
    )
    target.execute(
        """
        UPDATE staged s
           SET status = 'refused', reason = 'its id is that of another row here'
          FROM here h
         WHERE s.status = 'new' AND h.kind = s.kind AND h.id = s.id
        """
    )
    target.execute(
        """
        UPDATE staged s
           SET status = 'refused', reason = 'its id is there twice'
          FROM staged first
         WHERE first.kind = s.kind AND first.id = s.id AND first.place < s.place
        """
    )
    for table in TABLES:
        for field, parent in table.parents.items():
            _refuse_orphans(target, table.kind, parent, field, layout[table.kind].columns[field])
        _refuse_rivals(target, table.kind)


def _refuse_orphans(target: Connection[Any], kind: str, parent: str, field: str, column: str) -> None:
    target.execute(
        """
        UPDATE staged s
           SET status = 'refused',
               reason = format('%%s: %%s is not among the %%ss here',
                               %(column)s::text, content ->> %(field)s, %(parent)s::text)
         WHERE kind = %(kind)s AND status = 'new'
           AND NOT EXISTS (
               SELECT
                 FROM staged p
                WHERE p.kind = %(parent)s AND p.status IN ('new', 'before')
                  AND p.id = (s.content ->> %(field)s)::bigint)
        """,
        {"kind": kind, "parent": parent, "field": field, "column": column},
    )


def _refuse_rivals(target: Connection[Any], kind: str) -> None:
    """Of rows with one key the lowest id is taken, unless that key is in use here."""
    target.execute(
        """
        UPDATE staged s
           SET status = 'refused',
               reason = format(CASE kind WHEN 'user' THEN 'its e-mail address, capitals aside, is that of user %%s'
                                         ELSE 'mapping %%s has the same patient and doctor' END, r.id)
          FROM (SELECT n.place, coalesce(h.id, nullif(min(n.id) OVER (PARTITION BY n.key), n.id)) AS id
                  FROM staged n
                  LEFT JOIN here h ON h.kind = n.kind AND h.key = n.key
                 WHERE n.kind = %(kind)s AND n.status = 'new' AND n.key IS NOT NULL) r
         WHERE s.kind = %(kind)s AND s.place = r.place AND r.id IS NOT NULL
        """,
        {"kind": kind},
    )


def write_report(target: Connection[Any], table: Table, name: str, file: BinaryIO) -> None:
    """A line for each row and each value that is not taken: where it is and why, never what it is."""
    query = """
        COPY (SELECT %(name)s, id, 'row', reason
                FROM staged
               WHERE kind = %(kind)s AND status = 'refused'
               UNION ALL
              SELECT %(name)s, id, l.key, l.value
                FROM staged s, jsonb_each_text(lost) l
               WHERE kind = %(kind)s AND status = 'new'
               ORDER BY 2, 3) TO STDOUT (FORMAT csv)
        """
    with target.cursor().copy(query, {"name": name, "kind": table.kind}) as copy:
        for data in copy:
            file.write(data)


def counts(target: Connection[Any], table: Table) -> Counts:
    with target.cursor(row_factory=class_row(Counts)) as cursor:
        return cursor.execute(
            """
            SELECT count(*) AS rows,
                   count(*) FILTER (WHERE status = 'new') AS taken,
                   count(*) FILTER (WHERE status IN ('before', 'deleted')) AS before,
                   count(*) FILTER (WHERE status = 'refused') AS refused,
                   count(*) FILTER (WHERE status = 'new' AND lost <> '{}') AS lessened
              FROM staged
             WHERE kind = %s
            """,
            [table.kind],
        ).fetchall()[0]


def keep_ids_free(target: Connection[Any]) -> None:
    """New rows get ids beyond those of the source, from before the first of these is taken."""
    target.execute(
        """
        SELECT setval(sequence, highest)
          FROM (SELECT pg_get_serial_sequence(kind || 's', 'id')::regclass AS sequence, max(id) AS highest
                  FROM staged
                 GROUP BY kind) s
         WHERE coalesce(pg_sequence_last_value(sequence), 0) < highest
        """
    )


def take(target: Connection[Any], table: Table, rows: int, advance: Advance) -> None:
    for first in range(0, rows, BATCH):
        with target.transaction():
            target.execute("SELECT act_as(NULL, 'operator', 'move')")
            target.execute(table.insert, {"first": first, "end": first + BATCH})
        advance(min(BATCH, rows - first))
