"""What each operation takes with a thousand, a hundred thousand and five million patients.

    python -m tests.benchmarks.scale --sizes 1000 100000 5000000 --data DIR

Fills a database of each size, once for each DIR (five million take about ten minutes, and 15 GB with the log), and
calls the layer's functions as the role that functions have, in turns over the sizes, so that what else the machine does
hits all alike. One owner has a fifth of the patients (of a thousand: half), and it is this one who asks. Exits with 1
when an operation reads a table from end to end; of less than a hundred thousand patients, small tables rightly are.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import date
from hashlib import md5
from pathlib import Path
from secrets import token_hex
from statistics import quantiles
from typing import Any, NamedTuple

import psycopg

sys.path.insert(0, str(Path(__file__).parents[2] / "layers" / "common"))

from healthcare import audit, doctors, mappings, patients, practice, records
from healthcare.audit import AuditQuery
from healthcare.database import connection as db
from healthcare.database.connection import Database, Row
from healthcare.database.migrate import ROLES, migrate
from healthcare.doctors import DoctorQuery, NewDoctor
from healthcare.errors import Unavailable
from healthcare.fields import Found, PageQuery, SearchQuery, encode_cursor, encode_word_cursor
from healthcare.mappings import NewMapping
from healthcare.patients import NewPatient
from healthcare.records import RecordQuery
from local.database.postgres import EmbeddedPostgres, kept

OWNER = 1  # who has so many
BATCH = 500_000  # patients

SERVER = {
    "shared_buffers": "4GB",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "16GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "synchronous_commit": "off",
}

# Ranks are drawn so that the n-th word comes up about 1/n as often as the first: one given name in twenty is the most
# common one. Every tenth patient has a word of its own besides, and the last in a hundred one that nobody before has.
PREPARE = """
SET session_replication_role = replica;  -- what the triggers would do, the statements below do for many rows at once
SET work_mem = '256MB';
SELECT setseed(0.5);

CREATE FUNCTION pg_temp.word(rank bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg(substr(letters, (rank / size %% length(letters) + 1)::int, 1), '' ORDER BY place)
      FROM (VALUES (1, 1, 'BCDFGHJKLMNPRSTVWZ'), (2, 18, 'aeiou'), (3, 90, 'nrlstmdkbg'), (4, 900, 'aeiou'),
                   (5, 4500, 'nrlstmdkbg'), (6, 45000, 'aeiou')) AS letter (place, size, letters)
$$;

CREATE TEMP TABLE given_names AS SELECT rank, pg_temp.word(rank * 7919 %% 2000) || 'a' AS name
  FROM generate_series(0, 1999) AS rank;
CREATE TEMP TABLE surnames AS SELECT rank, pg_temp.word(rank * 7919 %% 50000) || 'son' AS name
  FROM generate_series(0, 49999) AS rank;
CREATE UNIQUE INDEX ON given_names (rank) INCLUDE (name);
CREATE UNIQUE INDEX ON surnames (rank) INCLUDE (name);
ANALYZE given_names, surnames;

CREATE AGGREGATE pg_temp.chained(audit_events) (sfunc = audit_digest, stype = bytea, initcond = '');
"""

USERS = """
INSERT INTO users (id, name, email, password_hash)
SELECT id, 'User ' || id, 'user' || id || '@example.org', 'none' FROM generate_series(1, %(owners)s) AS id
"""

DOCTORS = """
INSERT INTO doctors (id, created_by, name, specialty)
SELECT id, 1 + id %% %(owners)s, 'Dr. ' || g.name || ' ' || s.name,
       'Specialty ' || floor(3 * (exp(random() * ln(1 + 60 / 3.0)) - 1))
  FROM (SELECT id, floor(3 * (exp(random() * ln(1 + 2000 / 3.0)) - 1)) AS given,
               floor(3 * (exp(random() * ln(1 + 50000 / 3.0)) - 1)) AS surname
          FROM generate_series(1, %(doctors)s) AS id) AS drawn
  JOIN given_names g ON g.rank = given
  JOIN surnames s ON s.rank = surname
 ORDER BY id;

INSERT INTO doctor_words (specialty_key, word, doctor_id, words)
SELECT key, word, id, words
  FROM doctors, unnest(ARRAY['', specialty_key]) AS key, string_to_table(words, ' ') AS word
 ORDER BY key, word, id
"""

PATIENTS = """
INSERT INTO patients (id, owner_id, name, date_of_birth, gender)
SELECT id,
       CASE WHEN id %% %(share)s = 0 THEN 1 ELSE 2 + id * 7919 %% (%(owners)s - 1) END,
       g.name || ' ' || s.name
       || CASE WHEN id / 5 %% 10 = 0 THEN ' X' || left(md5(id::text), 10) ELSE '' END
       || CASE WHEN id > %(patients)s * 0.99 THEN ' Imported' ELSE '' END,
       date '1930-01-01' + (id %% 30000)::int,
       CASE id %% 2 WHEN 0 THEN 'female' ELSE 'male' END
  FROM (SELECT id, floor(3 * (exp(random() * ln(1 + 2000 / 3.0)) - 1)) AS given,
               floor(3 * (exp(random() * ln(1 + 50000 / 3.0)) - 1)) AS surname
          FROM generate_series(%(first)s::bigint, %(last)s) AS id) AS drawn
  JOIN given_names g ON g.rank = given
  JOIN surnames s ON s.rank = surname
 ORDER BY id
"""

WORDS = """
INSERT INTO patient_words (owner_id, word, patient_id, words)
SELECT owner_id, word, id, words FROM patients, string_to_table(words, ' ') AS word ORDER BY owner_id, word, id
"""

# Every fourth patient has a doctor, and one has as many as there are, up to two hundred.
MAPPINGS = """
INSERT INTO mappings (owner_id, patient_id, doctor_id)
SELECT owner_id, id, 1 + id %% %(doctors)s FROM patients WHERE id %% 4 = 0 AND id <> %(share)s ORDER BY id;
INSERT INTO mappings (owner_id, patient_id, doctor_id)
SELECT 1, %(share)s, doctor FROM generate_series(1, least(%(doctors)s, 200)) AS doctor
"""

# The digests are chained by the function that the trigger calls, as an aggregate that runs along each owner's events.
AUDIT = """
INSERT INTO audit_events (id, at, owner_id, actor_id, action, resource, resource_id, patient_id, request_id, changes,
                          number, digest)
OVERRIDING SYSTEM VALUE
SELECT (event).id, (event).at, (event).owner_id, (event).actor_id, (event).action, (event).resource,
       (event).resource_id, (event).patient_id, (event).request_id, (event).changes, (event).number,
       pg_temp.chained(event) OVER (PARTITION BY (event).owner_id ORDER BY (event).number)
  FROM (SELECT ROW(row_number() OVER (), now(), owner_id, owner_id, 'create', resource, id, patient_id, 'filling',
                   changes, row_number() OVER (PARTITION BY owner_id), NULL)::audit_events AS event
          FROM (SELECT id AS owner_id, 'user' AS resource, id, NULL::bigint AS patient_id,
                       jsonb_build_object(
                           'name', jsonb_build_object('from', NULL, 'to', name),
                           'email', jsonb_build_object('from', NULL, 'to', email),
                           'role', jsonb_build_object('from', NULL, 'to', role),
                           'password_hash', jsonb_build_object('from', NULL, 'to', NULL)) AS changes
                  FROM users
                 UNION ALL
                SELECT created_by, 'doctor', id, NULL,
                       jsonb_build_object(
                           'name', jsonb_build_object('from', NULL, 'to', name),
                           'specialty', jsonb_build_object('from', NULL, 'to', specialty))
                  FROM doctors
                 UNION ALL
                SELECT owner_id, 'patient', id, id,
                       jsonb_build_object(
                           'name', jsonb_build_object('from', NULL, 'to', name),
                           'date_of_birth', jsonb_build_object('from', NULL, 'to', date_of_birth),
                           'gender', jsonb_build_object('from', NULL, 'to', gender))
                  FROM patients
                 UNION ALL
                SELECT owner_id, 'mapping', id, patient_id,
                       jsonb_build_object(
                           'patient_id', jsonb_build_object('from', NULL, 'to', patient_id),
                           'doctor_id', jsonb_build_object('from', NULL, 'to', doctor_id))
                  FROM mappings) AS made) AS numbered;

INSERT INTO audit_heads (owner_id, number, digest)
SELECT DISTINCT ON (owner_id) owner_id, number, digest FROM audit_events ORDER BY owner_id, number DESC
"""

# One doctor with an account, who sees so many patients of all owners; so many records of one patient; and a delegate of
# the one owner. Their events are left out of the audit.
SHARING = """
INSERT INTO doctors (id, created_by, name, specialty, account_id)
VALUES (%(doctors)s + 1, 1, 'Dr. Grace Okafor', 'Cardiology', %(account)s);
INSERT INTO mappings (owner_id, patient_id, doctor_id, access)
SELECT owner_id, id, %(doctors)s + 1, 'read' FROM patients WHERE id <= %(opened)s ORDER BY id;
INSERT INTO opened_words (doctor_id, word, patient_id, words)
SELECT %(doctors)s + 1, word, id, words
  FROM patients, string_to_table(words, ' ') AS word
 WHERE id <= %(opened)s
 ORDER BY word, id;
INSERT INTO delegates (owner_id, user_id, access)
SELECT 1, %(delegate)s, 'write' UNION ALL SELECT id, id - 1, 'read' FROM generate_series(5, %(owners)s) AS id;
INSERT INTO records (owner_id, patient_id, kind, content, author_id, author_name)
SELECT 1, %(share)s, 'note', '{"text": "A cough that stays"}', 1, 'User 1' FROM generate_series(1, %(opened)s)
"""

FINISH = """
SELECT setval(pg_get_serial_sequence('users', 'id'), max(id)) FROM users;
SELECT setval(pg_get_serial_sequence('doctors', 'id'), max(id)) FROM doctors;
SELECT setval(pg_get_serial_sequence('patients', 'id'), max(id)) FROM patients;
SELECT setval(pg_get_serial_sequence('audit_events', 'id'), max(id)) FROM audit_events;
SET session_replication_role = DEFAULT
"""

# The same names once more, by way of the triggers.
TWINS = """
INSERT INTO patients (owner_id, name, date_of_birth, gender)
SELECT owner_id, name, date_of_birth, gender FROM patients WHERE id = ANY (%(ids)s) ORDER BY id
RETURNING id
"""

MADE = """
SELECT (SELECT array_agg(word ORDER BY word)
          FROM patient_words w
         WHERE w.owner_id = p.owner_id AND w.patient_id = p.id),
       (SELECT array_agg((e.action, e.resource, e.changes)::text)
          FROM audit_events e
         WHERE e.owner_id = p.owner_id AND e.patient_id = p.id AND e.resource = 'patient')
  FROM patients p
 WHERE id = ANY (%(ids)s)
 ORDER BY id
"""

TABLE_SCANS = "SELECT relname, seq_scan FROM pg_stat_xact_user_tables"


class Caller(NamedTuple):
    role: str
    user_id: int
    acting_for: int | None = None

    def session(self, kind: type[Database] = Database) -> Database:
        return kind(
            self.user_id, "user", "scale", acting_for=self.acting_for, purpose="read" if self.acting_for else "write"
        )


AS_OWNER = Caller("healthcare_api", OWNER)
AS_DOCTOR = Caller("healthcare_doctor", 2)
AS_DELEGATE = Caller("healthcare_api", 3, OWNER)


class Scale:
    """A database of one size, and what there is in it to ask for."""

    def __init__(self, server: EmbeddedPostgres, patients: int, password: str) -> None:
        self.server = server
        self.name = f"patients_{patients}"
        self.password = password
        self.patients = patients
        self.owners = max(10, patients // 100)
        self.doctors = max(20, patients // 50)
        self.share = 2 if patients <= 1000 else 5  # of the patients, one in so many is the one owner's
        self.opened = 10 if patients <= 1000 else 100_000  # patients to a doctor, and records of a patient
        self.in_the_middle = patients // 2 // 50 * 50
        self.word_of_its_own = f"x{md5(str(self.in_the_middle).encode()).hexdigest()[:10]}"
        self.with_many_doctors = self.share

    def prepare(self) -> None:
        """Fills it unless that has been done, and brings it to the newest version."""
        with psycopg.connect(self.server.conninfo(), autocommit=True) as connection:
            if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [self.name]).rowcount:
                started = time.monotonic()
                connection.execute("DROP DATABASE IF EXISTS filling")
                connection.execute("CREATE DATABASE filling OWNER healthcare_owner")
                self._migrate("filling")
                self._fill("filling")
                connection.execute(f"ALTER DATABASE filling RENAME TO {self.name}")
                print(f"Filled {self.name} in {time.monotonic() - started:.0f} s", file=sys.stderr)
        self._migrate(self.name)

    def enter(self, caller: Caller) -> Database:
        """From now on the layer's functions work here."""
        os.environ |= {"PGHOST": "127.0.0.1", "PGPORT": str(self.server.port), "PGDATABASE": self.name}
        os.environ |= {"PGUSER": caller.role, "PGPASSWORD": self.password}
        db.disconnect()
        return caller.session()

    def deep(self, table: str) -> str:
        """The cursor of a page near the end of the owner's list."""
        with psycopg.connect(self.server.conninfo(dbname=self.name)) as connection:
            query = f"SELECT id FROM {table} WHERE owner_id = %s ORDER BY id DESC OFFSET 30 LIMIT 1"
            row = connection.execute(query, [OWNER]).fetchone()
        assert row
        return encode_cursor(row[0])

    def deep_in(self, word: str) -> str:
        """The cursor of a page near the end of what the owner finds by a word."""
        with psycopg.connect(self.server.conninfo(dbname=self.name)) as connection:
            row = connection.execute(
                """
                SELECT patient_id
                  FROM patient_words
                 WHERE owner_id = %s AND word = %s
                 ORDER BY patient_id DESC
                OFFSET 30
                 LIMIT 1
                """,
                [OWNER, word],
            ).fetchone()
        return encode_word_cursor(Found(id=row[0] if row else 1, word=word))

    def _migrate(self, name: str) -> None:
        conninfo = self.server.conninfo(user="healthcare_owner", password=self.password, dbname=name)
        migrate(conninfo, passwords=dict.fromkeys(ROLES, self.password))

    def _fill(self, name: str) -> None:
        values = {"patients": self.patients, "owners": self.owners, "doctors": self.doctors, "share": self.share}
        values |= {"opened": self.opened, "account": AS_DOCTOR.user_id, "delegate": AS_DELEGATE.user_id}
        with psycopg.connect(
            self.server.conninfo(dbname=name), autocommit=True, cursor_factory=psycopg.ClientCursor
        ) as connection:
            for statement in PREPARE, USERS, DOCTORS:
                connection.execute(statement, values)
            for first in range(1, self.patients + 1, BATCH):
                last = min(self.patients, first + BATCH - 1)
                connection.execute(PATIENTS, values | {"first": first, "last": last})
            for statement in WORDS, MAPPINGS, AUDIT, SHARING, FINISH:
                connection.execute(statement, values)
            connection.execute("VACUUM (ANALYZE, FREEZE)")
            self._compare_with_triggers(connection)

    def _compare_with_triggers(self, connection: psycopg.Connection[Any]) -> None:
        if self.patients <= 100_000:  # of five million it would take longer than filling
            assert connection.execute("SELECT FROM broken_audit_links()").rowcount == 0
        ids = random.Random(1).sample(range(1, self.patients + 1), 200)
        with connection.transaction(force_rollback=True):
            twins = [id for (id,) in connection.execute(TWINS, {"ids": ids}).fetchall()]
            made = [connection.execute(MADE, {"ids": of}).fetchall() for of in (ids, twins)]
            assert made[0] == made[1]


Operation = Callable[[Database], object]


def operations(scale: Scale) -> Iterator[tuple[str, Operation]]:
    def search(q: str, cursor: str | None = None) -> Operation:
        return lambda session: patients.search(session, SearchQuery(q=q, cursor=cursor))

    def directory(**query: Any) -> Operation:
        return lambda session: doctors.search(session, DoctorQuery(**query))

    def events(**query: Any) -> Operation:
        return lambda session: audit.search(session, AuditQuery(**query))

    def assignments(**query: Any) -> Operation:
        return lambda session: mappings.search(session, PageQuery(**query))

    deep = scale.deep("patients")
    yield "get a patient", lambda session: patients.get(session, scale.in_the_middle)
    yield "list patients", lambda session: patients.search(session, SearchQuery())
    yield "  a deep page", lambda session: patients.search(session, SearchQuery(cursor=deep))
    yield "search patients: a common word", search("bananaa")
    yield "  a deep page", search("bananaa", scale.deep_in("bananaa"))
    yield "  a word that one has", search(scale.word_of_its_own)
    yield "  a word that nobody has", search("nobody")
    yield "  the beginning of a common word", search("banan")
    yield "  one letter", search("b")
    yield "  the beginning of many rare words", search("x1")
    yield "  a common word, all at the end", search("imported")
    yield "  two common words", search("bananaa bananason")
    yield "  a common and a rare word", search(f"bananaa {scale.word_of_its_own}")
    yield "  two common words that never meet", search("bananaa perinaa")
    yield "create a patient", lambda session: patients.create(session, NEW_PATIENT)
    yield "create a mapping", create_mapping
    yield "list mappings", assignments()
    yield "  a deep page", assignments(cursor=scale.deep("mappings"))
    yield (
        "list a patient's doctors",
        lambda session: doctors.of_patient(session, scale.with_many_doctors, PageQuery()),
    )
    yield "create a doctor", lambda session: doctors.create(session, NEW_DOCTOR)
    yield "list doctors", directory()
    yield "  of a specialty", directory(specialty="specialty 0")
    yield "search doctors: a word that all have", directory(q="dr")
    yield "  a common word", directory(q="bananaa")
    yield "  a word that nobody has", directory(q="nobody")
    yield "  one letter", directory(q="b")
    yield "  a word that all have, of a specialty", directory(q="dr", specialty="specialty 0")
    yield "  a word that all have, of a rare specialty", directory(q="dr", specialty="specialty 50")
    yield "  a common word, of a specialty", directory(q="bananaa", specialty="specialty 0")
    yield "list audit events", events()
    yield "  a deep page", events(cursor=scale.deep("audit_events"))
    yield "  of a patient", events(patient_id=scale.with_many_doctors)
    yield "  of a patient without any", events(patient_id=2**62)
    yield "list records of a patient", lambda session: records.search(session, scale.with_many_doctors, RecordQuery())


def as_doctor(scale: Scale) -> Iterator[tuple[str, Operation]]:
    def search(**query: Any) -> Operation:
        return lambda session: practice.search_patients(session, SearchQuery(**query))

    yield "as a doctor: get a patient", lambda session: practice.get_patient(session, scale.opened // 2)
    yield "  list patients", search()
    yield "  a deep page", search(cursor=encode_cursor(scale.opened - 30 if scale.opened > 30 else 1))
    yield "  search: a common word", search(q="bananaa")
    yield "  search: one letter", search(q="b")
    yield "  search: a word that nobody has", search(q="nobody")


def as_delegate(scale: Scale) -> Iterator[tuple[str, Operation]]:
    deep = scale.deep("patients")
    yield "as a delegate: get a patient", lambda session: patients.get(session, scale.in_the_middle)
    yield "  list patients", lambda session: patients.search(session, SearchQuery())
    yield "  a deep page", lambda session: patients.search(session, SearchQuery(cursor=deep))
    yield "  search: a common word", lambda session: patients.search(session, SearchQuery(q="bananaa"))


def lines(scale: Scale) -> list[tuple[str, Caller, Operation]]:
    sides = {AS_OWNER: operations, AS_DOCTOR: as_doctor, AS_DELEGATE: as_delegate}
    return [(name, caller, operation) for caller, side in sides.items() for name, operation in side(scale)]


NEW_PATIENT = NewPatient(name="Bananaa Bananason", date_of_birth=date(1990, 2, 3), gender="female")
NEW_DOCTOR = NewDoctor(name="Dr. Bananaa Bananason", specialty="Specialty 1")


def create_mapping(session: Database) -> float:
    """Answers the seconds without those of making the patient."""
    patient = patients.create(session, NEW_PATIENT)
    started = time.perf_counter()
    mappings.create(session, NewMapping(patient_id=patient.id, doctor_id=1))
    return time.perf_counter() - started


def measured(operation: Operation, session: Database) -> float:
    """Seconds; those of the role's timeout when it ran into that."""
    started = time.perf_counter()
    try:
        answer = operation(session)
    except Unavailable:
        return 5.0
    return answer if isinstance(answer, float) else time.perf_counter() - started


class Explaining(Database):
    """Notes how PostgreSQL would find the rows of each statement."""

    def rows(self, model: type[Row], query: Any, **values: Any) -> list[Row]:
        plan = self._execute("EXPLAIN (FORMAT JSON) " + query, values).fetchone()
        assert plan
        self.scans = set(scans(plan["QUERY PLAN"][0]["Plan"]))
        return super().rows(model, query, **values)


def scans(plan: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "Relation Name" in plan and plan["Node Type"] != "ModifyTable":
        yield plan["Node Type"], plan["Relation Name"]
    for inner in plan.get("Plans", ()):
        yield from scans(inner)


def tables_read_whole(operation: Operation, caller: Caller) -> set[str]:
    """By the plan of its statement, and by PostgreSQL's count of what it and the functions that it calls have done."""
    session = caller.session(Explaining)
    assert isinstance(session, Explaining)
    connection = db.connect()
    with session.transaction():
        before = dict(connection.execute(TABLE_SCANS).fetchall())
        try:
            operation(session)
        except Unavailable:
            return {"(timeout)"}
        after = dict(connection.execute(TABLE_SCANS).fetchall())
    planned = {table for node, table in session.scans if "Index" not in node and "Bitmap" not in node}
    return planned | {table for table, number in after.items() if number > before.get(table, 0)}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.scale", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 100_000], help="numbers of patients")
    parser.add_argument("--data", type=Path, help="where the databases are, or will be; a temporary folder without it")
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = arguments.data or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(EmbeddedPostgres(folder, SERVER | ({} if arguments.data else {"fsync": "off"})))
        password = kept(folder / "password", token_hex)
        with psycopg.connect(server.conninfo(), autocommit=True) as connection:
            if not connection.execute("SELECT FROM pg_roles WHERE rolname = 'healthcare_owner'").rowcount:
                connection.execute(
                    psycopg.sql.SQL("CREATE ROLE healthcare_owner LOGIN CREATEROLE PASSWORD {}").format(password)
                )
        stack.callback(db.disconnect)
        scales = [Scale(server, size, password) for size in sorted(arguments.sizes)]
        for scale in scales:
            scale.prepare()
        return measure(scales, arguments.rounds)


def measure(scales: list[Scale], rounds: int) -> int:
    tables = [lines(scale) for scale in scales]
    times: dict[tuple[int, int], list[float]] = defaultdict(list)
    for _ in range(rounds):
        for column, scale in enumerate(scales):
            entered = None
            for line, (_, caller, operation) in enumerate(tables[column]):
                if caller != entered:
                    session, entered = scale.enter(caller), caller
                deadline = time.monotonic() + 0.3
                measured(operation, session)
                while True:
                    times[line, column].append(measured(operation, session) * 1000)
                    if len(times[line, column]) % 10 == 0 or time.monotonic() > deadline:
                        break
    read_whole = []
    for _, caller, operation in tables[-1]:
        scales[-1].enter(caller)
        read_whole.append(tables_read_whole(operation, caller))
    print("| ms: median (quartiles) | " + " | ".join(f"{scale.patients:,}" for scale in scales) + " | ratio | reads |")
    print("|---|" + "--:|" * len(scales) + "--:|---|")
    for line, (name, _, _) in enumerate(tables[-1]):
        quarters = [quantiles(times[line, column], n=4) for column in range(len(scales))]
        cells = [f"{middle:.2f} ({low:.2f}-{high:.2f})" for low, middle, high in quarters]
        what = f"all of {', '.join(sorted(read_whole[line]))}" if read_whole[line] else "by index"
        name = name.replace("  ", "… ", 1) if name.startswith("  ") else name
        print(f"| {name} | {' | '.join(cells)} | {quarters[-1][1] / quarters[0][1]:.2f} | {what} |")
    return 1 if any(read_whole) and scales[-1].patients >= 100_000 else 0


if __name__ == "__main__":
    sys.exit(main())
