"""This API's database: rows are staged there, judged and taken.

The `status` of a staged row: `new` when it can be taken; `before` when an earlier move took it; `deleted` when one took
it and it has been deleted here since; `refused`, for a `reason`. `lost` has the values that are left out, with reasons.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO

from psycopg import ClientCursor, Connection

from local.__main__ import take_lock
from local.database.database import is_given, owner_conninfo, ready_database
from local.settings import CannotStart
from tools.move.source import Found, connected
from tools.move.tables import TABLES, Moved
from tools.progress import Advance

BATCH = 500  # a transaction leaves versions of an owner's audit head, which each of its later rows has to pass


@contextmanager
def opened(conninfo: str, folder: Path, environ: Mapping[str, str]) -> Iterator[Connection[Any]]:
    """As the owner of the database that `conninfo` names, or else of the local run's."""
    with (
        nullcontext(conninfo) if conninfo else _local_run(folder, environ) as login,
        connected("TO" if conninfo else "the local run", login, client_encoding="UTF8") as connection,
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
    server: AbstractContextManager[object] = nullcontext()
    with suppress(CannotStart):
        if not is_given(environ):
            take_lock(folder)
            server = ready_database(folder, {})
    with server:
        yield owner_conninfo(folder, environ)


def prepare(target: Connection[Any]) -> None:
    """`key` is what only one row may have."""
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
    target: Connection[Any], table: type[Moved], found: Found, rows: Iterable[Sequence[str | None]], advance: Advance
) -> None:
    with target.cursor().copy("COPY staged (kind, place, id, content, lost, status, reason) FROM STDIN") as copy:
        for place, values in enumerate(rows):
            copy.write_row((table.kind, place, *table.checked(found.columns, values)))
            advance()


def judge(target: Connection[Any], layout: Mapping[str, Found]) -> None:
    """A row that was taken before is another one here when neither the time of its creation nor its key is the same."""
    target.execute(
        """
        ANALYZE staged;
        UPDATE staged s
           SET status = CASE WHEN h.id IS NULL THEN 'deleted' ELSE 'before' END, reason = NULL
          FROM audit_events e
          LEFT JOIN here h ON h.kind = e.resource AND h.id = e.resource_id
         WHERE e.action = 'create' AND e.request_id = 'move' AND e.resource = s.kind AND e.resource_id = s.id
           AND (h.id IS NULL OR h.key = s.key
                OR coalesce(h.created_at = (s.content ->> 'created_at')::timestamptz, s.kind <> 'user'));
        UPDATE staged s
           SET status = 'refused', reason = 'its id is that of another row here'
          FROM here h
         WHERE s.status = 'new' AND h.kind = s.kind AND h.id = s.id
        """
    )
    for table in TABLES:
        for field, parent in table.parents:
            target.execute(
                """
                UPDATE staged s
                   SET status = 'refused',
                       reason = concat(%(column)s::text, ': ', content ->> %(field)s, ' is not among the ',
                                       %(parent)s::text, 's here')
                 WHERE kind = %(kind)s AND status = 'new'
                   AND NOT EXISTS (
                       SELECT
                         FROM staged p
                        WHERE p.kind = %(parent)s AND p.status IN ('new', 'before')
                          AND p.id = (s.content ->> %(field)s)::bigint)
                """,
                {"kind": table.kind, "parent": parent, "field": field, "column": layout[table.kind].columns[field]},
            )
        # Of rows with the same key the one with the lowest id is taken, unless the key is in use here.
        target.execute(
            """
            UPDATE staged s
               SET status = 'refused',
                   reason = CASE kind
                       WHEN 'user' THEN concat('its e-mail address, capitals aside, is that of user ', r.id)
                       ELSE concat('mapping ', r.id, ' has the same patient and doctor') END
              FROM (SELECT n.place, coalesce(h.id, nullif(min(n.id) OVER (PARTITION BY n.key), n.id)) AS id
                      FROM staged n
                      LEFT JOIN here h ON h.kind = n.kind AND h.key = n.key
                     WHERE n.kind = %(kind)s AND n.status = 'new' AND n.key IS NOT NULL) r
             WHERE s.kind = %(kind)s AND s.place = r.place AND r.id IS NOT NULL
            """,
            {"kind": table.kind},
        )


def write_report(target: Connection[Any], table: type[Moved], name: str, file: BinaryIO) -> None:
    """A line for each row and each value that is not taken: where it is and why, never what it is."""
    query = """
        COPY (SELECT %(name)s, id, 'row', reason
                FROM staged
               WHERE kind = %(kind)s AND status = 'refused'
               UNION ALL
              SELECT %(name)s, id, l.key, l.value
                FROM staged, jsonb_each_text(lost) l
               WHERE kind = %(kind)s AND status = 'new'
               ORDER BY 2, 3) TO STDOUT (FORMAT csv)
        """
    with target.cursor().copy(query, {"name": name, "kind": table.kind}) as copy:
        for data in copy:
            file.write(data)


def count(target: Connection[Any], table: type[Moved]) -> tuple[int, ...]:
    """In all, taken, before, not taken, without a value."""
    (row,) = target.execute(
        """
        SELECT count(*),
               count(*) FILTER (WHERE status = 'new'),
               count(*) FILTER (WHERE status IN ('before', 'deleted')),
               count(*) FILTER (WHERE status = 'refused'),
               count(*) FILTER (WHERE status = 'new' AND lost <> '{}')
          FROM staged
         WHERE kind = %s
        """,
        [table.kind],
    )
    return tuple(row)


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


def take(target: Connection[Any], table: type[Moved], rows: int, advance: Advance) -> None:
    batch = f"SELECT act_as(NULL, 'operator', 'move');{table.insert}"  # sent together, so one transaction
    for first in range(0, rows, BATCH):
        ClientCursor(target).execute(batch, {"first": first, "end": first + BATCH})
        advance(min(BATCH, rows - first))
