"""`make move`, from a database of the original's schema on a real PostgreSQL."""

import csv
import secrets
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import psycopg
import pytest

from healthcare.database.operations import broken_audit_links
from tests.conftest import Database
from tests.gateway import Client
from tools.move.__main__ import main

SCHEMA = """
CREATE TABLE users (
    id SERIAL PRIMARY KEY, name VARCHAR(100) NOT NULL, email VARCHAR(100) UNIQUE NOT NULL,
    password VARCHAR(255) NOT NULL, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE patients (
    id SERIAL PRIMARY KEY, name VARCHAR(100) NOT NULL, age INTEGER, gender VARCHAR(10), address TEXT, phone VARCHAR(20),
    user_id INTEGER REFERENCES users(id) ON DELETE CASCADE, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE doctors (
    id SERIAL PRIMARY KEY, name VARCHAR(100) NOT NULL, specialization VARCHAR(100), phone VARCHAR(20),
    email VARCHAR(100), created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE patient_doctor_mappings (
    id SERIAL PRIMARY KEY, patient_id INTEGER REFERENCES patients(id) ON DELETE CASCADE,
    doctor_id INTEGER REFERENCES doctors(id) ON DELETE CASCADE, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP,
    UNIQUE(patient_id, doctor_id));
"""
PASSWORD = "an old password"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()


def _source_with(users: int) -> str:
    """Each with three patients, each of these with a doctor."""
    return f"""
    INSERT INTO users (name, email, password, created_at)
    SELECT 'User ' || i, 'User' || i || '@Example.org',
           (ARRAY['$2a$', '$2b$', '$2y$'])[i % 3 + 1] || substr('{HASH}', 5), '2024-01-02 03:04:05.678901'
      FROM generate_series(1, {users}) i;
    INSERT INTO doctors (name, specialization, phone, email)
    SELECT 'Doctor ' || i, 'Cardiology', '+1 555 0100', 'doctor' || i || '@example.org' FROM generate_series(1, 20) i;
    INSERT INTO patients (name, age, gender, address, phone, user_id, created_at)
    SELECT 'Patient ' || i, 30, 'Female', '1 High Street', '555-0100', (i - 1) / 3 + 1, '2024-02-03 04:05:06'
      FROM generate_series(1, 3 * {users}) i;
    INSERT INTO patient_doctor_mappings (patient_id, doctor_id)
    SELECT i, i % 20 + 1 FROM generate_series(1, 3 * {users}) i
    """


COUNTS = """
SELECT ARRAY[(SELECT count(*) FROM users), (SELECT count(*) FROM doctors), (SELECT count(*) FROM patients),
             (SELECT count(*) FROM mappings), (SELECT count(*) FROM audit_events)]
"""


@dataclass(frozen=True)
class Outcome:
    status: int
    said: str
    report: list[tuple[str, str, str, str]]

    def counts(self, table: str) -> list[int]:
        """In all, taken, before, not taken, without a value."""
        (line,) = [line for line in self.said.splitlines() if line.split()[:1] == [table]]
        return [int(number.replace(",", "")) for number in line.split()[1:]]


@pytest.fixture
def source(database: Database) -> Iterator[Database]:
    name = f"original_{secrets.token_hex(6)}"
    with database.connect() as superuser:
        superuser.execute(f"CREATE DATABASE {name}")
        yield Database(database.server, name, {})
        superuser.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def move(
    source: Database, database: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    def move(**environ: str) -> Outcome:
        capfd.readouterr()
        variables = {"FROM": source.conninfo(), "TO": database.conninfo("healthcare_owner")}
        status = main(variables | {"LOCAL_DIR": str(tmp_path), **environ})
        report = []
        for path in tmp_path.glob("move-*.csv"):
            with path.open(newline="") as file:
                _, *report = [(table, id, what, reason) for table, id, what, reason in csv.reader(file)]
            path.unlink()
        captured = capfd.readouterr()
        return Outcome(status, captured.out + captured.err, report)

    return move


@pytest.fixture
def log_in(anonymous: Client) -> Callable[[str], Client]:
    def log_in(email: str) -> Client:
        tokens = anonymous.post("/api/auth/login", {"email": email, "password": PASSWORD}).expect(200)
        return Client(anonymous.gateway, tokens["access_token"], tokens["user"])

    return log_in


def _fill(database: Database, *statements: str) -> None:
    with database.connect() as connection:
        for statement in statements:
            connection.execute(statement)


def test_old_users_log_in_with_their_old_passwords_and_find_what_they_had(
    source: Database, database: Database, move: Callable[..., Outcome], log_in: Callable[[str], Client]
) -> None:
    _fill(source, SCHEMA, _source_with(users=1000))
    outcome = move()
    assert (outcome.status, outcome.report) == (0, []), outcome.said
    assert "Every row was taken" in outcome.said
    for number in (1, 2, 3, 1000):  # each spelling of bcrypt
        user = log_in(f"uSER{number}@example.org")
        assert user.user["id"] == number
        assert user.user["email"] == f"User{number}@Example.org"
        assert user.user["created_at"] == "2024-01-02T03:04:05.678901Z"
        patients = user.walk("/api/patients")
        assert [patient["id"] for patient in patients] == [number * 3 - 2, number * 3 - 1, number * 3]
    assert patients[0] == {
        "id": 2998,
        "name": "Patient 2998",
        "date_of_birth": None,
        "gender": "female",
        "phone": "555-0100",
        "email": None,
        "address": "1 High Street",
        "created_at": "2024-02-03T04:05:06Z",
        "updated_at": "2024-02-03T04:05:06Z",
    }
    assert [patient["id"] for patient in user.walk("/api/patients?q=2999")] == [2999]
    (doctor,) = user.walk("/api/patients/2998/doctors")
    assert (doctor["id"], doctor["specialty"], doctor["created_by"]) == (19, "Cardiology", None)
    assert [mapping["id"] for mapping in user.walk("/api/mappings")] == [2998, 2999, 3000]
    assert user.create("/api/patients", name="New")["id"] == 3001
    assert user.create("/api/doctors", name="New", specialty="New")["id"] == 21
    assert user.create("/api/mappings", patient_id=3001, doctor_id=21)["id"] == 3001


def test_the_audit_says_that_it_was_a_move(
    source: Database, database: Database, move: Callable[..., Outcome], log_in: Callable[[str], Client]
) -> None:
    _fill(source, SCHEMA, _source_with(users=100))
    move()
    events = log_in("user7@example.org").walk("/api/audit?patient_id=20")
    assert [(event["action"], event["resource"], event["resource_id"]) for event in events] == [
        ("create", "mapping", 20),
        ("create", "patient", 20),
    ]
    assert {(event["actor_id"], event["request_id"]) for event in events} == {(None, "move")}
    assert broken_audit_links(database.conninfo("healthcare_owner")) == []


AWKWARD = f"""
ALTER TABLE users ALTER email TYPE varchar(400), ALTER name TYPE varchar(400);
ALTER TABLE patients DROP CONSTRAINT patients_user_id_fkey, ALTER phone TYPE varchar(90);
ALTER TABLE doctors ALTER specialization TYPE varchar(400);
ALTER TABLE patient_doctor_mappings DROP CONSTRAINT patient_doctor_mappings_patient_id_doctor_id_key,
    DROP CONSTRAINT patient_doctor_mappings_patient_id_fkey, DROP CONSTRAINT patient_doctor_mappings_doctor_id_fkey;
INSERT INTO users (id, name, email, password) VALUES
    (-1, 'Negative', 'negative@example.org', '{HASH}'),
    (2, 'Ann', 'ann@example.org', '{HASH}'),
    (3, 'Ann again', ' ANN@example.org', '{HASH}'),
    (4, '   ', 'blank@example.org', '{HASH}'),
    (5, repeat('n', 201), 'long@example.org', '{HASH}'),
    (6, 'No address', 'nowhere', '{HASH}'),
    (7, 'Control', E'con\\x01trol@example.org', '{HASH}'),
    (8, 'Long', repeat('l', 250) || '@example.org', '{HASH}'),
    (9, 'Plain', 'plain@example.org', 'open sesame'),
    (10, 'Empty', 'empty@example.org', ''),
    (11, 'Short hash', 'short@example.org', '$2b$10$abc'),
    (12, E'E\\u0301va', E'e\\u0301va@example.org', '{HASH}'),
    (13, 'Éva', 'éva@example.org', '{HASH}'),
    (14, 'Nobody''s but one', 'zoe@example.org', '{HASH}');
INSERT INTO doctors (id, name, specialization, phone, email) VALUES
    (1, 'Grey', 'Cardiology', NULL, NULL),
    (2, '', 'Cardiology', NULL, NULL),
    (3, 'House', NULL, NULL, NULL),
    (4, 'Who', repeat('s', 101), 'none', 'none');
INSERT INTO patients (id, name, age, gender, address, phone, user_id) VALUES
    (1, 'Of the loser', NULL, NULL, NULL, NULL, 3),
    (2, 'Of nobody', NULL, NULL, NULL, NULL, NULL),
    (3, 'Of the deleted', NULL, NULL, NULL, NULL, 99),
    (4, '', NULL, NULL, NULL, NULL, 2),
    (5, ' Male ', 44, 'M', '', ' ', 2),
    (6, 'Spelt', NULL, ' FEMALE', NULL, '(555) 0100', 2),
    (7, 'Sideways', NULL, 'attack h.', repeat('a', 501), 'call me', 2),
    (8, 'Of Zoe', NULL, 'other', NULL, repeat('1', 33), 14),
    (9, 'Of the locked out', NULL, NULL, NULL, NULL, 9);
UPDATE patients SET created_at = 'infinity' WHERE id = 6;
UPDATE patients SET created_at = NULL WHERE id = 7;
INSERT INTO patient_doctor_mappings (id, patient_id, doctor_id) VALUES
    (1, 5, 1), (2, 5, 1), (3, 5, 2), (4, 1, 1), (5, 99, 1), (6, NULL, 1), (7, 6, 3);
"""


def test_what_cannot_be_taken_is_reported_and_stops_nothing(
    source: Database, database: Database, move: Callable[..., Outcome], log_in: Callable[[str], Client]
) -> None:
    _fill(source, SCHEMA, AWKWARD)
    outcome = move()
    assert outcome.status == 0, outcome.said
    assert sorted(outcome.report, key=lambda line: (line[0], int(line[1]), line[2])) == [
        ("doctors", "2", "row", "name: there is none"),
        ("doctors", "3", "specialization", "there is none"),
        ("doctors", "4", "email", "Input should be an e-mail address"),
        ("doctors", "4", "phone", "Input should be a phone number: digits, spaces and ( ) + - . / # x"),
        ("doctors", "4", "specialization", "String should have at most 100 characters"),
        ("patient_doctor_mappings", "2", "row", "mapping 1 has the same patient and doctor"),
        ("patient_doctor_mappings", "3", "row", "doctor_id: 2 is not among the doctors here"),
        ("patient_doctor_mappings", "4", "row", "patient_id: 1 is not among the patients here"),
        ("patient_doctor_mappings", "5", "row", "patient_id: 99 is not among the patients here"),
        ("patient_doctor_mappings", "6", "row", "patient_id: there is none"),
        ("patients", "1", "row", "user_id: 3 is not among the users here"),
        ("patients", "2", "row", "user_id: there is none"),
        ("patients", "3", "row", "user_id: 99 is not among the users here"),
        ("patients", "4", "row", "name: there is none"),
        ("patients", "7", "address", "String should have at most 500 characters"),
        ("patients", "7", "gender", "Input should be 'male', 'female', 'other' or 'unknown'"),
        ("patients", "7", "phone", "Input should be a phone number: digits, spaces and ( ) + - . / # x"),
        ("patients", "8", "phone", "String should have at most 32 characters"),
        ("users", "-1", "row", "id: Input should be greater than 0"),
        ("users", "3", "row", "its e-mail address, capitals aside, is that of user 2"),
        ("users", "4", "row", "name: there is none"),
        ("users", "5", "row", "name: String should have at most 200 characters"),
        ("users", "6", "row", "email: Input should be an e-mail address"),
        ("users", "7", "row", "email: Input should be an e-mail address"),
        ("users", "8", "row", "email: String should have at most 254 characters"),
        ("users", "9", "password", "Input should be a hash of bcrypt"),
        ("users", "10", "password", "there is none"),
        ("users", "11", "password", "Input should be a hash of bcrypt"),
        ("users", "13", "row", "its e-mail address, capitals aside, is that of user 12"),
    ]
    assert outcome.counts("users") == [14, 6, 0, 8, 3]
    assert outcome.counts("doctors") == [4, 3, 0, 1, 2]
    assert outcome.counts("patients") == [9, 5, 0, 4, 2]
    assert outcome.counts("patient_doctor_mappings") == [7, 2, 0, 5, 0]
    assert "patients.age: not taken (1 rows have one), an age gives no date of birth" in outcome.said
    everything = outcome.said + str(outcome.report)
    assert [
        value for value in ("example.org", "nowhere", "attack", "call me", "sesame", "$2") if value in everything
    ] == []
    ann = log_in("ann@example.org")
    male, spelt, sideways = ann.walk("/api/patients")
    assert (male["name"], male["gender"], male["address"], male["phone"]) == ("Male", "male", None, None)
    assert (spelt["gender"], spelt["phone"]) == ("female", "(555) 0100")
    assert (sideways["gender"], sideways["address"], sideways["phone"]) == (None, None, None)
    assert [doctor["specialty"] for doctor in ann.walk("/api/doctors")] == ["Cardiology", "Unspecified", "Unspecified"]
    assert log_in("éva@example.org").user["id"] == 12


def test_whoever_has_no_usable_hash_is_kept_but_cannot_log_in(
    source: Database, database: Database, move: Callable[..., Outcome], anonymous: Client
) -> None:
    _fill(source, SCHEMA, AWKWARD)
    move()
    for password in ("open sesame", PASSWORD, "x"):
        login = {"email": "plain@example.org", "password": password}
        anonymous.post("/api/auth/login", login).refuse(401, "unauthenticated")
    taken = {"name": "Other", "email": "PLAIN@example.org", "password": "a password of others"}
    anonymous.post("/api/auth/register", taken).refuse(409, "email-taken")
    assert database.value("SELECT owner_id FROM patients WHERE name = 'Of the locked out'") == 9


def test_a_second_run_takes_what_is_new_and_leaves_the_rest_as_it_is_here(
    source: Database, database: Database, move: Callable[..., Outcome], log_in: Callable[[str], Client]
) -> None:
    no_time = "UPDATE users SET created_at = NULL, email = ' User9@example.org ' WHERE id = 9"
    _fill(source, SCHEMA, _source_with(users=100), no_time)
    move()
    user = log_in("user1@example.org")
    user.patch("/api/patients/1", {"name": "Changed here"}).expect(200)
    user.delete("/api/patients/2").expect(204)
    before = database.value(COUNTS)
    again = move()
    assert (again.status, again.report) == (0, []), again.said
    assert database.value(COUNTS) == before
    assert [again.counts(name)[1:3] for name in ("users", "doctors", "patients")] == [[0, 100], [0, 20], [0, 300]]
    _fill(
        source,
        f"INSERT INTO users (name, email, password) VALUES ('Late', 'late@example.org', '{HASH}')",
        "INSERT INTO patients (name, user_id) VALUES ('Late', 1), ('Later', 101)",
        "INSERT INTO patient_doctor_mappings (patient_id, doctor_id) VALUES (2, 1), (301, 1)",
        "UPDATE patients SET name = 'Changed there' WHERE id <= 300",
    )
    late = move()
    assert late.report == [("patient_doctor_mappings", "301", "row", "patient_id: 2 is not among the patients here")]
    assert late.counts("patients") == [302, 2, 300, 0, 0]
    assert [patient["name"] for patient in user.walk("/api/patients")] == ["Changed here", "Patient 3", "Late"]
    assert [patient["id"] for patient in log_in("late@example.org").walk("/api/patients")] == [302]


def test_a_dry_run_says_the_same_and_writes_nothing(
    source: Database, database: Database, move: Callable[..., Outcome]
) -> None:
    _fill(source, SCHEMA, AWKWARD)
    dry = move(DRY="1")
    assert "Nothing was written: this was a dry run." in dry.said
    assert database.value(COUNTS) == [0, 0, 0, 0, 0]
    assert database.value("SELECT pg_sequence_last_value('users_id_seq')") is None
    assert move(DRY="1").report == dry.report == move().report
    assert dry.counts("users") == [14, 6, 0, 8, 3]


def test_ids_and_addresses_that_are_in_use_here_stay_with_those_who_have_them(
    source: Database, database: Database, move: Callable[..., Outcome], sign_up: Callable[..., Client]
) -> None:
    ann = sign_up("Ann")
    ann.create("/api/patients", name="Zoë")
    _fill(
        source,
        SCHEMA,
        f"""
        INSERT INTO users (id, name, email, password) VALUES
            (1, 'Bob', 'bob@example.org', '{HASH}'), (2, 'Ann', upper('{ann.user["email"]}'), '{HASH}'),
            (3, 'Eve', 'eve@example.org', '{HASH}');
        INSERT INTO patients (id, name, user_id) VALUES (1, 'Of Eve', 3), (2, 'Of Bob', 1), (3, 'Of Eve', 3);
        INSERT INTO doctors (id, name) VALUES (1, 'Who');
        INSERT INTO patient_doctor_mappings (patient_id, doctor_id) VALUES (1, 1), (3, 1)
        """,
    )
    assert [line for line in move().report if line[0] != "doctors"] == [
        ("users", "1", "row", "its id is that of another row here"),
        ("users", "2", "row", "its e-mail address, capitals aside, is that of user 1"),
        ("patients", "1", "row", "its id is that of another row here"),
        ("patients", "2", "row", "user_id: 1 is not among the users here"),
        ("patient_doctor_mappings", "1", "row", "patient_id: 1 is not among the patients here"),
    ]
    assert [patient["name"] for patient in ann.walk("/api/patients")] == ["Zoë"]
    assert ann.walk("/api/mappings") == []


def test_another_source_is_not_taken_for_the_one_before(
    source: Database, database: Database, move: Callable[..., Outcome]
) -> None:
    _fill(source, SCHEMA, _source_with(users=100))
    move()
    _fill(
        source,
        "UPDATE users SET email = 'other' || email, created_at = '2020-01-01' WHERE id = 1",
        "INSERT INTO patients (name, user_id) VALUES ('Of another', 1)",
    )
    assert ("users", "1", "row", "its id is that of another row here") in (report := move().report)
    assert ("patients", "301", "row", "user_id: 1 is not among the users here") in report


def test_tables_and_columns_may_be_spelt_otherwise(
    source: Database, database: Database, move: Callable[..., Outcome], log_in: Callable[[str], Client]
) -> None:
    _fill(
        source,
        """
        CREATE TABLE "Users" (id bigint, "fullName" text, email text, "passwordHash" text, role text,
                              "createdAt" timestamptz, "updatedAt" timestamptz);
        CREATE TABLE "Patients" (id smallint, name text, dob timestamp, sex text, "phoneNumber" bigint, "userId" int);
        CREATE TABLE doctor (id int, name text, speciality text, created_at date);
        CREATE TABLE "PatientDoctor" (id int, "patientId" int, "doctorId" int, "assignedAt" timestamp, notes text);
        CREATE TABLE "SequelizeMeta" (name text)
        """,
        f"""
        INSERT INTO "Users" VALUES (7, 'Ann', 'ann@example.org', '{HASH}', 'admin',
                                    '2024-01-02 03:04:05+02', '2024-06-01 00:00:00Z');
        INSERT INTO "Patients" VALUES (8, 'Zoë', '1990-02-03', 'f', 5550100, 7), (9, 'Yan', '0044-03-15 BC', 'm', 1, 7);
        INSERT INTO doctor VALUES (9, 'Who', 'Time', '2024-01-01');
        INSERT INTO "PatientDoctor" VALUES (10, 8, 9, '2024-01-02', 'a note')
        """,
    )
    outcome = move()
    assert outcome.status == 0, outcome.said
    assert "Users.role: not taken (1 rows have one), there is nothing like it here" in outcome.said
    assert "PatientDoctor.notes: not taken (1 rows have one)" in outcome.said
    assert "SequelizeMeta: not taken" in outcome.said
    assert [line[:3] for line in outcome.report] == [
        ("Patients", "9", "dob"),
        ("Patients", "9", "phoneNumber"),
    ]
    ann = log_in("ann@example.org")
    assert (ann.user["role"], ann.user["created_at"]) == ("user", "2024-01-02T01:04:05Z")
    assert ann.user["updated_at"] == "2024-06-01T00:00:00Z"
    zoe, _ = ann.walk("/api/patients")
    assert (zoe["date_of_birth"], zoe["gender"], zoe["phone"]) == ("1990-02-03", "female", "5550100")
    (mapping,) = ann.walk("/api/mappings")
    assert (mapping["id"], mapping["specialty"], mapping["created_at"]) == (10, "Time", "2024-01-02T00:00:00Z")


def test_times_are_in_utc_or_in_the_zone_that_is_given(
    source: Database, database: Database, move: Callable[..., Outcome]
) -> None:
    _fill(source, SCHEMA, _source_with(users=100))
    assert move(ZONE="Asia/Kolkata").status == 0
    first = database.value("SELECT created_at = '2024-01-01 21:34:05.678901Z' FROM users WHERE id = 1")
    assert first is True
    wrong = move(ZONE="Mars/Olympus")
    assert wrong.status == 1
    assert 'The move has stopped: time zone "Mars/Olympus" not recognized.' in wrong.said


def _content(database: Database) -> object:
    tables = ("users", "patients", "doctors", "patient_doctor_mappings")
    return [database.value(f"SELECT jsonb_agg(t ORDER BY id) FROM {table} t") for table in tables]


def test_the_source_is_only_read(source: Database, database: Database, move: Callable[..., Outcome]) -> None:
    _fill(source, SCHEMA, AWKWARD)
    before = _content(source)
    assert move().status == 0
    assert _content(source) == before
    _fill(
        source,
        """
        CREATE FUNCTION count_reader() RETURNS text LANGUAGE sql VOLATILE AS
            $$ INSERT INTO patients (name, user_id) VALUES ('Read', 2) RETURNING name $$;
        ALTER TABLE users RENAME TO accounts;
        CREATE VIEW users AS SELECT id, count_reader() AS name, email, password FROM accounts
        """,
    )
    stopped = move()
    assert (stopped.status, "cannot execute INSERT in a read-only transaction" in stopped.said) == (1, True)


def test_a_move_that_has_stopped_goes_on(
    source: Database, database: Database, move: Callable[..., Outcome], log_in: Callable[[str], Client]
) -> None:
    _fill(source, SCHEMA, _source_with(users=300), "UPDATE patients SET phone = 'none' WHERE id IN (1, 900)")
    _fill(
        database,
        """
        CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no space left'; END $$;
        CREATE TRIGGER stop BEFORE INSERT ON patients FOR EACH ROW WHEN (NEW.id = 700) EXECUTE FUNCTION stop()
        """,
    )
    stopped = move()
    assert (stopped.status, stopped.said.splitlines()[-1]) == (
        1,
        "The move has stopped: no space left. Run it again, and it goes on.",
    )
    assert len(log_in("user1@example.org").walk("/api/patients")) == 3  # of the batch before
    assert [line[:3] for line in stopped.report] == [("patients", "1", "phone"), ("patients", "900", "phone")]
    _fill(database, "DROP TRIGGER stop ON patients")
    again = move()
    assert again.counts("users") == [300, 0, 300, 0, 0]
    assert again.counts("patients") == [900, 400, 500, 0, 1]
    assert again.counts("patient_doctor_mappings") == [900, 900, 0, 0, 0]
    assert [line[:3] for line in again.report] == [("patients", "900", "phone")]


def test_nothing_is_taken_from_a_source_that_cannot_be_read_to_its_end(
    source: Database, database: Database, move: Callable[..., Outcome]
) -> None:
    _fill(
        source,
        SCHEMA,
        _source_with(users=300),
        "ALTER TABLE patients RENAME TO people",
        "CREATE VIEW patients AS SELECT id, name || 1 / (id - 700) AS name, user_id, created_at FROM people",
    )
    stopped = move()
    assert (stopped.status, stopped.said.splitlines()[-1]) == (
        1,
        "The move has stopped: division by zero. Run it again, and it goes on.",
    )
    assert database.value(COUNTS) == [0, 0, 0, 0, 0]
    _fill(source, "DROP VIEW patients", "ALTER TABLE people RENAME TO patients")
    assert move().counts("patient_doctor_mappings") == [900, 900, 0, 0, 0]


def test_what_a_source_lacks_is_said_all_at_once(source: Database, move: Callable[..., Outcome]) -> None:
    _fill(
        source,
        SCHEMA,
        "DROP TABLE doctors CASCADE",
        "ALTER TABLE users DROP password",
        "ALTER TABLE patients DROP user_id, ADD user_id uuid",
    )
    outcome = move()
    assert outcome.status == 1
    assert outcome.said.splitlines() == [
        "The source is not laid out like the original's database:",
        "  no column password or password_hash or hashed_password in users; it has id, name, email, created_at",
        "  no table doctors; it has patient_doctor_mappings, patients, users",
        "  patients.user_id is uuid; only whole numbers can stay what they are",
    ]


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"FROM": ""}, "Which database? make move FROM=postgresql://user@host/database"),
        ({"FROM": "postgresql://127.0.0.1:1/x"}, "The database of FROM does not let us in: "),
        ({"TO": "postgresql://127.0.0.1:1/x"}, "The database of TO does not let us in: "),
        ({"FROM": "postgresql://a:1%x@b/c"}, "FROM should look like postgresql://user:password@host:5432/database."),
        ({"LOCAL_DIR": "/dev/null"}, "/dev/null/move-"),
    ],
)
def test_what_keeps_it_from_running_is_one_sentence(
    source: Database, move: Callable[..., Outcome], environ: dict[str, str], sentence: str
) -> None:
    _fill(source, SCHEMA)
    outcome = move(**environ)
    assert outcome.status == 1
    assert outcome.said.splitlines()[-1].startswith(sentence)
    assert "Traceback" not in outcome.said


def test_only_the_owner_of_the_target_moves(source: Database, database: Database, move: Callable[..., Outcome]) -> None:
    _fill(source, SCHEMA)
    outcome = move(TO=database.conninfo("healthcare_api"))
    assert (outcome.status, outcome.said) == (
        1,
        "healthcare_api does not own the target's tables: log in as who does.\n",
    )
    assert "has no tables of this API" in move(TO=source.conninfo()).said


def test_text_that_does_not_say_how_it_is_encoded_needs_a_word(
    source: Database, database: Database, move: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.connect() as superuser:
        superuser.execute(f"DROP DATABASE {source.name}")
        superuser.execute(f"CREATE DATABASE {source.name} ENCODING SQL_ASCII LOCALE 'C' TEMPLATE template0")
    with psycopg.connect(source.conninfo(), autocommit=True) as connection:
        connection.execute(SCHEMA)
        connection.execute(rb"INSERT INTO users (name, email, password) VALUES (E'Zo\xeb', 'zoe@example.org', '')")
    outcome = move()
    assert (outcome.status, "Set PGCLIENTENCODING" in outcome.said) == (1, True)
    monkeypatch.setenv("PGCLIENTENCODING", "UTF8")
    outcome = move()
    assert (outcome.status, "invalid byte sequence" in outcome.said) == (1, True)
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    assert move().status == 0
    assert database.value("SELECT name FROM users") == "Zoë"


def test_a_terminal_shows_a_bar(
    source: Database, move: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(source, SCHEMA, _source_with(users=100))
    assert "\r" not in move(DRY="1").said
    with monkeypatch.context() as patch:
        patch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        patch.setenv("TERM", "xterm")
        shown: Any = move(DRY="1").said
    assert "█" * 30 + " 100 of 100" in shown
