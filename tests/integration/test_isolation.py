"""What one account gets of another's, and what each database role cannot do even when it is given SQL."""

import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote

import psycopg
import pytest
from psycopg import errors
from pydantic import BaseModel, ValidationError

from healthcare.accounts.passwords import hashed
from healthcare.database.migrate import ROLES
from healthcare.web.api import Route
from tests.booking import book, free_times, new_doctor
from tests.conftest import TEMPLATE, Database
from tests.gateway import Answer, Client, Gateway
from tests.integration.test_sharing import invite, link, opened
from tools.openapi.declared import TIME, routes
from tools.openapi.events import day, events

# Every route as everybody -------------------------------------------------------------------------------------------
#
# The sample events are one user's day, and their ids are those of the first rows. Ann lives it, up to the deletions;
# then each of the others sends the same to the same ids. A new route is among them by itself.

ANN, READER, WRITER, DOCTOR, RECEPTION, STRANGER = range(1, 7)
OF_ANN = " of Ann"  # in every text of hers that may hold it
NOBODYS = 999_999

# What is everybody's to read: the directory, and what is said of its entries.
PUBLIC = "/api/doctors"

# What is between Ann and one of the others: a delegate knows her name and may leave, a doctor runs its own calendar.
THEIRS = {READER: ("/api/owners",), WRITER: ("/api/owners",), DOCTOR: (PUBLIC, "/api/practice/appointments")}


@dataclass(frozen=True)
class Sample:
    name: str
    route: Route
    event: dict[str, Any]

    @property
    def is_public(self) -> bool:
        return self.route.path.startswith(PUBLIC) and self.route.method == "GET"

    @property
    def names_a_row(self) -> bool:
        return "{" in self.route.path or "_id" in (self.event["body"] or "")


@cache
def samples() -> list[Sample]:
    declared = {(route.method, route.path): route for _, route in routes()}
    by_name = dict(events())
    found = [
        Sample(name, declared[by_name[name]["httpMethod"], by_name[name]["resource"]], by_name[name])
        for name in day()
        if not name.startswith("docs/")
    ]
    return [sample for sample in found if not sample.route.open]


def _marked(model: type[BaseModel], body: dict[str, Any]) -> dict[str, Any]:
    """The body with a mark in each text where its model admits it."""
    for name, value in body.items():
        if isinstance(value, str):
            try:
                model.model_validate_json(json.dumps(body | {name: value + OF_ANN}))
            except ValidationError:
                continue
            body[name] = value + OF_ANN
        if isinstance(value, dict):  # what a record says
            body[name] = {inner: text + OF_ANN for inner, text in value.items()}
    return body


class World:
    """Ann's rows, and who else there is."""

    def __init__(self, gateway: Gateway, database: Database) -> None:
        self.gateway = gateway
        self.database = database
        self.free_time = TIME
        with database.connect() as connection:
            for id in (ANN, READER, WRITER, DOCTOR, RECEPTION, STRANGER):
                connection.execute(
                    "INSERT INTO users (id, name, email, password_hash) VALUES (%s, %s, %s, %s)",
                    [id, f"User {id}", f"user-{id}@example.org", hashed("some password")],
                )
        for sample in samples():
            if sample.route.method != "DELETE":
                answer = self.ask(sample, ANN, mark=not sample.route.path.startswith(PUBLIC))
                if sample.route.path.endswith("/slots"):
                    self.free_time = answer.json["items"][0]["starts_at"]
        with database.connect() as connection:
            connection.execute(
                """
                INSERT INTO delegates (owner_id, user_id, access)
                VALUES (%s, %s, 'read'), (%s, %s, 'write'), (%s, %s, 'write')
                """,
                [ANN, READER, ANN, WRITER, DOCTOR, RECEPTION],
            )
            connection.execute("UPDATE doctors SET account_id = %s", [DOCTOR])
            # As if its bytes had come.
            connection.execute("ALTER TABLE documents DISABLE TRIGGER complete")
            connection.execute("UPDATE documents SET object_version = 'first'")
            connection.execute("ALTER TABLE documents ENABLE TRIGGER complete")
            connection.execute(  # whose sample has an address that nobody has
                """
                INSERT INTO webhooks (owner_id, url, events, secret)
                SELECT %s, 'https://example.org/ of Ann', '{appointment.booked}', ''
                 WHERE NOT EXISTS (SELECT FROM webhooks)
                """,
                [ANN],
            )

    def open_patient(self, access: str) -> None:
        with self.database.connect() as connection:
            connection.execute("UPDATE mappings SET access = %s WHERE owner_id = %s", [access, ANN])

    def ask(
        self, sample: Sample, caller: int, *, acting_for: int | None = None, mark: bool = False, id: int | None = None
    ) -> Answer:
        """`id` takes the place of every id that is not a doctor's."""
        event = deepcopy(sample.event)
        event["requestContext"]["authorizer"] |= {"user_id": str(caller), "principalId": str(caller)}
        if acting_for:
            event["headers"]["Acting-For"] = str(acting_for)
            event["multiValueHeaders"]["Acting-For"] = [str(acting_for)]
        event["body"] = event["body"] and event["body"].replace(TIME, self.free_time)
        if mark and sample.route.body:
            event["body"] = json.dumps(_marked(sample.route.body, json.loads(event["body"])))
        if id:
            event["body"] = event["body"] and re.sub(r'("(?!doctor)\w+_id": )\d+', rf"\g<1>{id}", event["body"])
            if not sample.route.path.startswith(PUBLIC):
                event["pathParameters"] = event["pathParameters"] and dict.fromkeys(event["pathParameters"], str(id))
        answer = self.gateway.environments[sample.name.partition("/")[0]].invoke(event)
        return Answer(answer["statusCode"], answer["headers"], answer["body"])

    def rows_of_ann(self) -> dict[str, object]:
        """All that is Ann's, in whichever table; who else read it is written down beside it."""
        found = {}
        with self.database.connect() as connection:
            columns = connection.execute(
                """
                SELECT table_name, min(column_name)
                  FROM information_schema.columns
                  JOIN pg_class ON relname = table_name AND relkind = 'r'
                 WHERE table_schema = 'public' AND column_name IN ('owner_id', 'created_by')
                   AND table_name NOT IN ('disclosures', 'audit_heads')
                 GROUP BY table_name
                """
            ).fetchall()
            for table, column in [*columns, ("users", "id")]:
                found[table] = connection.execute(
                    f"SELECT jsonb_agg(to_jsonb(t) ORDER BY t::text) FROM {table} t WHERE {column} = %s", [ANN]
                ).fetchone()
        return found

    @contextmanager
    def twin(self) -> Iterator[None]:
        """Inside, everything goes to a copy of the database."""
        self.gateway.disconnect()
        name = f"twin_{secrets.token_hex(6)}"
        with psycopg.connect(self.database.server.conninfo(), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s", [self.database.name]
            )
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {self.database.name} STRATEGY FILE_COPY")
            os.environ["PGDATABASE"] = name
            yield
            self.gateway.disconnect()
            os.environ["PGDATABASE"] = self.database.name
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def everyone(gateway: Gateway, database: Database) -> World:
    return World(gateway, database)


def test_ann_has_a_row_in_every_table_that_rows_are_kept_apart_in(everyone: World) -> None:
    assert [table for table, rows in everyone.rows_of_ann().items() if rows == (None,)] == []


@pytest.mark.parametrize("caller", [STRANGER, READER, WRITER, DOCTOR], ids=["stranger", "reader", "writer", "doctor"])
def test_without_acting_for_her_nobody_gets_anything_of_anns(
    everyone: World, caller: int, subtests: pytest.Subtests
) -> None:
    before = everyone.rows_of_ann()
    for sample in samples():
        if sample.route.path.startswith(THEIRS.get(caller, ())):
            continue
        with subtests.test(sample.name):
            answer = everyone.ask(sample, caller)
            assert OF_ANN not in answer.text
            if sample.is_public:
                assert answer.status in (200, 404)
            elif "{" in sample.route.path:
                assert answer.status in (403, 404)
            elif '"items"' in answer.text:
                assert 1 not in [item["id"] for item in answer.json["items"]]
    assert everyone.rows_of_ann() == before


def test_what_is_anns_answers_a_stranger_as_what_does_not_exist(everyone: World, subtests: pytest.Subtests) -> None:
    for sample in samples():
        if sample.names_a_row and not sample.route.path.startswith(PUBLIC):
            with subtests.test(sample.name):
                hers = everyone.ask(sample, STRANGER)
                nobodys = everyone.ask(sample, STRANGER, id=NOBODYS)
                assert hers.status == nobodys.status
                of_this_request = {"instance": "", "request_id": ""}
                assert hers.json | of_this_request == nobodys.json | of_this_request


def test_a_stranger_acts_for_nobody(everyone: World, subtests: pytest.Subtests) -> None:
    before = everyone.rows_of_ann()
    for sample in samples():
        for owner in (ANN, STRANGER, NOBODYS):
            with subtests.test(sample.name, owner=owner):
                answer = everyone.ask(sample, STRANGER, acting_for=owner)
                if sample.route.takes_acting_for:
                    answer.refuse(403, "not-delegated")
                else:
                    answer.refuse(422, "validation")
    assert everyone.rows_of_ann() == before


def test_a_delegate_with_read_reads_what_ann_does_and_changes_nothing(
    everyone: World, subtests: pytest.Subtests
) -> None:
    before = everyone.rows_of_ann()
    for sample in samples():
        with subtests.test(sample.name):
            answer = everyone.ask(sample, READER, acting_for=ANN)
            if not sample.route.takes_acting_for:
                answer.refuse(422, "validation")
            elif sample.route.method != "GET":
                answer.refuse(403, "read-only")
            else:
                assert _comparable(answer) == _comparable(everyone.ask(sample, ANN))
    assert everyone.rows_of_ann() == before


def test_a_delegate_with_write_gets_what_ann_gets(everyone: World, subtests: pytest.Subtests) -> None:
    sent = [sample for sample in samples() if sample.route.takes_acting_for]
    with everyone.twin():
        answers = [everyone.ask(sample, ANN) for sample in sent]
    for sample, answer_to_ann in zip(sent, answers, strict=True):
        with subtests.test(sample.name):
            answer = everyone.ask(sample, WRITER, acting_for=ANN)
            assert answer.status == answer_to_ann.status
            if sample.route.method == "GET" and not sample.route.path.endswith("/disclosures"):
                assert _comparable(answer) == _comparable(answer_to_ann)


@pytest.mark.parametrize("access", ["none", "read", "write"])
def test_a_doctors_account_reaches_what_is_opened_to_it(
    everyone: World, access: str, subtests: pytest.Subtests
) -> None:
    everyone.open_patient(access)
    before = everyone.rows_of_ann()
    for sample in samples():
        if not sample.route.path.startswith("/api/practice/patients"):
            continue
        with subtests.test(sample.name):
            answer = everyone.ask(sample, DOCTOR)
            if access == "none":
                assert OF_ANN not in answer.text
                assert answer.status == 404 or answer.json["items"] == []
            elif sample.route.method == "GET":
                assert (answer.status, OF_ANN in unquote(unquote(answer.text))) in ((200, True), (404, False))
            elif access == "read":
                answer.refuse(403, "read-only")
            elif sample.name.endswith(("amend_record", "retract_record")):
                answer.refuse(403, "forbidden")  # Ann is their author
            else:
                assert answer.status not in (403, 404)
            everyone.ask(sample, RECEPTION, acting_for=DOCTOR).refuse(422, "validation")
            everyone.ask(sample, STRANGER).refuse(404, "not-found")
    if access != "write":
        assert everyone.rows_of_ann() == before


@pytest.mark.parametrize("access", ["none", "read", "write"])
def test_neither_a_doctors_account_nor_its_reception_is_the_owner_of_a_patient_that_is_opened(
    everyone: World, access: str, subtests: pytest.Subtests
) -> None:
    everyone.open_patient(access)
    before = everyone.rows_of_ann()
    for sample in samples():
        if sample.route.path.startswith(("/api/practice", PUBLIC)):
            continue
        with subtests.test(sample.name):
            for caller, acting_for in ((DOCTOR, None), (RECEPTION, None), (RECEPTION, DOCTOR)):
                answer = everyone.ask(sample, caller, acting_for=acting_for)
                assert OF_ANN not in answer.text
                if "{" in sample.route.path:
                    assert answer.status in (403, 404) or (acting_for and answer.status == 422)
    assert everyone.rows_of_ann() == before


def _comparable(answer: Answer) -> object:
    """Without what differs between two requests, or between two who ask for the same owner."""

    def stripped(value: Any) -> Any:
        if isinstance(value, dict):
            of_the_actor = ("actor_", "author_", "request_id", "url")
            return {name: stripped(inner) for name, inner in value.items() if not name.startswith(of_the_actor)}
        if isinstance(value, list):
            return [stripped(inner) for inner in value]
        return re.sub(r"^\d{4}-\d\d-\d\dT.*", "", value) if isinstance(value, str) else value

    body = answer.text
    return answer.status, stripped(json.loads(body)) if body.startswith("{") else body


# SQL as each role ---------------------------------------------------------------------------------------------------


@pytest.fixture
def world(ann: Client, bob: Client) -> dict[str, int]:
    """Everything of Ann's that Bob might reach for."""
    patient = ann.create("/api/patients", name="Ann's patient", phone="+44 20 7946 0000")
    doctor = ann.create("/api/doctors", name="Ann's doctor", specialty="Time")
    mapping = ann.create("/api/mappings", patient_id=patient["id"], doctor_id=doctor["id"])
    open_doctor = new_doctor(ann)
    book(ann, patient["id"], open_doctor, free_times(ann, open_doctor)[0])
    ann.create(f"/api/doctors/{open_doctor}/closures", starts_at="2030-01-01T00:00:00Z", ends_at="2030-01-02T00:00:00Z")
    return {"patient": patient["id"], "doctor": doctor["id"], "mapping": mapping["id"]}


def _everything(database: Database) -> object:
    tables = (
        *("users", "patients", "patient_words", "doctors", "doctor_words", "mappings", "delegates", "invitations"),
        "audit_events",
    )
    return [database.value(f"SELECT array_agg(t::text ORDER BY t::text) FROM {table} t") for table in tables]


@pytest.fixture
def api_role(database: Database) -> Iterator[psycopg.Connection]:
    with database.connect("healthcare_api") as connection:
        yield connection


@pytest.fixture
def doctor_role(database: Database) -> Iterator[psycopg.Connection]:
    with database.connect("healthcare_doctor") as connection:
        yield connection


@pytest.fixture
def auth_role(database: Database) -> Iterator[psycopg.Connection]:
    with database.connect("healthcare_auth") as connection:
        yield connection


def _act_as(connection: psycopg.Connection, client: Client, role: str = "user") -> None:
    connection.execute("SELECT act_as(%s, %s, 'test')", [client.user["id"], role])


PROTECTED = (
    *("patients", "patient_words", "doctors", "doctor_words", "mappings", "hours", "closures", "appointments"),
    *("invitations", "idempotency_keys", "audit_events"),
)


@pytest.mark.parametrize("table", PROTECTED)
def test_a_statement_without_act_as_sees_no_row(
    ann: Client, world: dict[str, int], api_role: psycopg.Connection, table: str, database: Database
) -> None:
    ann.post("/api/patients", {"name": "Keyed"}, headers={"Idempotency-Key": "key"}).expect(201)
    ann.create("/api/invitations", kind="delegate", access="read")
    assert database.value(f"SELECT count(*) > 0 FROM {table}")
    assert api_role.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


@pytest.mark.parametrize("table", ["users", "sessions"])
def test_the_auth_role_sees_no_row_either_and_then_only_its_own(
    ann: Client, bob: Client, auth_role: psycopg.Connection, table: str
) -> None:
    assert auth_role.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    with auth_role.transaction():
        _act_as(auth_role, ann)
        assert auth_role.execute(f"SELECT count(*) FROM {table}").fetchone() == (1,)


def test_acting_ends_with_the_transaction(ann: Client, world: dict[str, int], api_role: psycopg.Connection) -> None:
    with api_role.transaction():
        _act_as(api_role, ann)
        assert api_role.execute("SELECT count(*) FROM patients").fetchone() == (1,)
    assert api_role.execute("SELECT count(*) FROM patients").fetchone() == (0,)


BEYOND_THE_API_ROLE = (
    "SELECT password_hash FROM users",
    "SELECT id FROM users",
    "SELECT token_hash FROM sessions",
    "SELECT subject FROM attempts",
    "UPDATE users SET role = 'admin'",
    "INSERT INTO patients (owner_id, name) VALUES (%(ann)s, 'planted')",
    "UPDATE patients SET owner_id = %(bob)s",
    "UPDATE patients SET version = 1",
    "INSERT INTO patients (id, owner_id, name) VALUES (1, %(bob)s, 'chosen id')",
    "INSERT INTO patients (owner_id, name, created_at) VALUES (%(bob)s, 'backdated', '2000-01-01')",
    "INSERT INTO doctors (created_by, name, specialty) VALUES (%(ann)s, 'in her name', 'x')",
    "UPDATE doctors SET created_by = %(bob)s",
    "UPDATE doctors SET account_id = %(bob)s",
    "INSERT INTO doctors (created_by, name, specialty, verified) VALUES (%(bob)s, 'x', 'x', true)",
    "SELECT id FROM delegates",
    "INSERT INTO delegates (owner_id, user_id, access) VALUES (%(ann)s, %(bob)s, 'write')",
    "INSERT INTO my_owners (user_id) VALUES (%(ann)s)",
    "INSERT INTO my_delegates (user_id) VALUES (%(ann)s)",
    "UPDATE my_delegates SET user_id = %(bob)s",
    "UPDATE my_owners SET access = 'write'",
    "SELECT code_hash FROM invitations",
    "INSERT INTO invitations (owner_id, kind, access, code_hash) VALUES (%(ann)s, 'delegate', 'write', 'x')",
    "INSERT INTO invitations (owner_id, kind, doctor_id, code_hash) VALUES (%(bob)s, 'doctor', %(doctor)s, 'x')",
    "UPDATE invitations SET access = 'write'",
    "UPDATE mappings SET patient_id = 1",
    "SELECT attempt('x')",
    "SELECT close_patients()",
    "INSERT INTO mappings (owner_id, patient_id, doctor_id) VALUES (%(ann)s, %(patient)s, %(doctor)s)",
    "INSERT INTO patient_words (owner_id, word, patient_id, words) VALUES (%(bob)s, 'a', %(patient)s, 'a')",
    "INSERT INTO doctor_words (specialty_key, word, doctor_id, words) VALUES ('', 'a', %(doctor)s, 'a')",
    "DELETE FROM patient_words",
    "DELETE FROM doctor_words",
    "INSERT INTO idempotency_keys (user_id, key, fingerprint) VALUES (%(ann)s, 'planted', '')",
    "INSERT INTO audit_events (action, resource, resource_id, changes) VALUES ('x', 'x', 1, '{}')",
    "UPDATE audit_events SET actor_id = %(ann)s",
    "DELETE FROM audit_events",
    "DELETE FROM idempotency_keys",
    "SELECT digest FROM audit_heads",
    "UPDATE audit_heads SET number = 0",
    "TRUNCATE audit_events",
    "TRUNCATE patients CASCADE",
    "ALTER TABLE patients DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE patients NO FORCE ROW LEVEL SECURITY",
    "DROP POLICY own ON patients",
    "CREATE POLICY mine ON patients USING (true)",
    "ALTER TABLE patients DISABLE TRIGGER ALL",
    "SET session_replication_role = replica",
    "SET ROLE healthcare_owner",
    "SET ROLE healthcare_auth",
    "SET SESSION AUTHORIZATION postgres",
    "ALTER ROLE healthcare_api BYPASSRLS",
    "SELECT audit()",
    "SELECT delete_mappings_of_doctor()",
    "CREATE TABLE mine (id int)",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION app_user_id() RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",
    "COPY patients TO '/tmp/patients'",
    "COPY patients TO PROGRAM 'cat'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT rolpassword FROM pg_authid",
    "INSERT INTO schema_migrations (name, checksum) VALUES ('x', 'x')",
)


def test_the_api_role_cannot(
    ann: Client,
    bob: Client,
    world: dict[str, int],
    api_role: psycopg.Connection,
    database: Database,
    subtests: pytest.Subtests,
) -> None:
    """Acting as Bob, with whatever SQL."""
    before = _everything(database)
    # Of these, row-level security and missing privileges are 42501, and a trigger's function is no function to call.
    refusals = (errors.InsufficientPrivilege, errors.FeatureNotSupported, errors.InvalidParameterValue)
    for statement in BEYOND_THE_API_ROLE:
        with subtests.test(statement), api_role.transaction(force_rollback=True):
            _act_as(api_role, bob)
            with pytest.raises(refusals):
                api_role.execute(statement, {"ann": ann.user["id"], "bob": bob.user["id"], **world})
    assert _everything(database) == before


ON_ALL_ROWS = (
    "UPDATE patients SET name = 'Bob was here'",
    "UPDATE doctors SET name = 'Bob was here'",
    "UPDATE doctors SET verified = true",
    "UPDATE idempotency_keys SET response = 'Bob was here'",
    "DELETE FROM patients",
    "DELETE FROM doctors",
    "DELETE FROM mappings",
    "UPDATE mappings SET access = 'none'",
    "DELETE FROM invitations",
    "UPDATE my_delegates SET access = 'write'",
    "DELETE FROM my_delegates",
    "DELETE FROM my_owners",
)


def test_a_statement_on_all_rows_touches_none_of_another_user(
    bob: Client,
    world: dict[str, int],
    api_role: psycopg.Connection,
    database: Database,
    subtests: pytest.Subtests,
) -> None:
    before = _everything(database)
    for statement in ON_ALL_ROWS:
        with subtests.test(statement), api_role.transaction():
            _act_as(api_role, bob)
            assert api_role.execute(statement).rowcount == 0
    assert _everything(database) == before


@pytest.fixture
def opened_world(ann: Client, bob: Client, sign_up: Callable[..., Client]) -> dict[str, int]:
    """Bob is a doctor to whom one of Ann's two patients is opened, and Eve his reception."""
    eve = sign_up("Eve")
    doctor = ann.create("/api/doctors", name="Bob", specialty="Time")["id"]
    link(ann, doctor, bob)
    patient, mapping = opened(ann, doctor, "read")
    closed = ann.create("/api/patients", name="Closed")["id"]
    ann.create("/api/mappings", patient_id=closed, doctor_id=doctor)
    invite(bob, eve)
    people = {"ann": ann.user["id"], "bob": bob.user["id"], "eve": eve.user["id"]}
    return people | {"doctor": doctor, "patient": patient["id"], "closed": closed, "mapping": mapping}


BEYOND_THE_DOCTOR_ROLE = (
    "INSERT INTO patients (owner_id, name) VALUES (%(ann)s, 'planted')",
    "UPDATE patients SET name = 'x'",
    "DELETE FROM patients",
    "INSERT INTO mappings (owner_id, patient_id, doctor_id, access) VALUES (%(ann)s, %(closed)s, %(doctor)s, 'write')",
    "UPDATE mappings SET access = 'write'",
    "DELETE FROM mappings",
    "UPDATE doctors SET account_id = %(eve)s",
    "UPDATE doctors SET verified = true",
    "INSERT INTO idempotency_keys (user_id, actor_id, key, fingerprint) VALUES (%(ann)s, %(bob)s, 'planted', '')",
    "SELECT id FROM users",
    "SELECT id FROM sessions",
    "SELECT id FROM audit_events",
    "SELECT id FROM delegates",
    "SELECT id FROM invitations",
    "SELECT accept_invitation('x')",
    "SELECT unlink_doctor(%(doctor)s, NULL)",
    "SELECT attempt('x')",
    "ALTER TABLE mappings DISABLE ROW LEVEL SECURITY",
    "SET ROLE healthcare_api",
    "SET ROLE healthcare_owner",
)


def test_the_doctor_role_cannot(
    opened_world: dict[str, int], database: Database, doctor_role: psycopg.Connection, subtests: pytest.Subtests
) -> None:
    before = _everything(database)
    for statement in BEYOND_THE_DOCTOR_ROLE:
        with subtests.test(statement), doctor_role.transaction(force_rollback=True):
            doctor_role.execute("SELECT act_as(%(bob)s, 'admin', 'test')", opened_world)
            with pytest.raises(errors.InsufficientPrivilege):
                doctor_role.execute(statement, opened_world)
    assert _everything(database) == before


def test_the_doctor_role_sees_what_is_opened_to_the_doctor_in_person_and_nothing_else(
    opened_world: dict[str, int], doctor_role: psycopg.Connection
) -> None:
    def seen(act: str) -> list[object]:
        with doctor_role.transaction():
            doctor_role.execute(act, opened_world)
            return [
                [row[0] for row in doctor_role.execute(f"SELECT id FROM {table}")]
                for table in ("doctors", "mappings", "patients")
            ]

    doctor, mapping, patient = (opened_world[name] for name in ("doctor", "mapping", "patient"))
    assert seen("SELECT act_as(%(bob)s, 'user', 'test')") == [[doctor], [mapping], [patient]]
    assert seen("SELECT act_for(%(eve)s, %(bob)s, 'read', 'test')") == [[doctor], [], []]
    for act in (
        "act_as(%(eve)s, 'user', 'test')",
        "act_as(%(ann)s, 'admin', 'test')",
        "act_as(NULL, 'anonymous', 'x')",
    ):
        assert seen(f"SELECT {act}") == [[], [], []]
    assert seen("SELECT 1") == [[], [], []]


def test_acting_for_an_owner_takes_a_delegation_and_lends_no_role(
    opened_world: dict[str, int], api_role: psycopg.Connection
) -> None:
    for act in ("act_for(%(eve)s, %(ann)s, 'read', 'x')", "act_for(%(bob)s, %(eve)s, 'read', 'x')"):
        with pytest.raises(psycopg.Error) as caught:
            api_role.execute(f"SELECT {act}", opened_world)
        assert caught.value.sqlstate == "HC001"
    with api_role.transaction():
        api_role.execute("SELECT act_as(%(eve)s, 'admin', 'x'), act_for(%(eve)s, %(bob)s, 'write', 'x')", opened_world)
        settings = api_role.execute("SELECT app_user_id(), app_actor_id(), app_role()").fetchone()
        assert settings == (opened_world["bob"], opened_world["eve"], "user")
    assert api_role.execute("SELECT app_user_id(), app_actor_id(), app_role()").fetchone() == (None, None, "")


def test_a_delegation_is_seen_from_its_two_sides_only(
    opened_world: dict[str, int], api_role: psycopg.Connection
) -> None:
    def seen(user: str) -> list[object]:
        with api_role.transaction():
            api_role.execute(f"SELECT act_as({user}, 'admin', 'x')", opened_world)
            return [
                [row[0] for row in api_role.execute(f"SELECT user_id FROM {view}")]
                for view in ("my_delegates", "my_owners")
            ]

    assert seen("%(bob)s") == [[opened_world["eve"]], []]
    assert seen("%(eve)s") == [[], [opened_world["bob"]]]
    assert seen("%(ann)s") == seen("NULL") == [[], []]


def test_not_even_its_creator_verifies_a_doctor(opened_world: dict[str, int], api_role: psycopg.Connection) -> None:
    with api_role.transaction(force_rollback=True):
        api_role.execute("SELECT act_as(%(ann)s, 'user', 'x')", opened_world)
        with pytest.raises(errors.InsufficientPrivilege):
            api_role.execute("UPDATE doctors SET verified = true")


BEYOND_THE_AUTH_ROLE = (
    "SELECT name FROM patients",
    "SELECT name FROM doctors",
    "SELECT id FROM mappings",
    "SELECT id FROM audit_events",
    "INSERT INTO users (name, email, password_hash, role) VALUES ('x', 'x@example.org', 'x', 'admin')",
    "UPDATE users SET role = 'admin'",
    "UPDATE users SET closed_at = now()",
    "DELETE FROM users",
    "TRUNCATE users CASCADE",
    "SELECT id FROM outbox",
    "UPDATE mailed_tokens SET token_hash = 'x'",
    "INSERT INTO mailed_tokens (user_id, purpose, message_id) VALUES (1, 'reset', 1)",
    "SET ROLE healthcare_owner",
    "SET ROLE healthcare_api",
    "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
)


def test_the_auth_role_cannot(ann: Client, auth_role: psycopg.Connection, subtests: pytest.Subtests) -> None:
    for statement in BEYOND_THE_AUTH_ROLE:
        with subtests.test(statement), auth_role.transaction(force_rollback=True):
            _act_as(auth_role, ann)
            with pytest.raises(errors.InsufficientPrivilege):
                auth_role.execute(statement)


def test_the_auth_role_changes_no_other_account(ann: Client, bob: Client, auth_role: psycopg.Connection) -> None:
    with auth_role.transaction():
        _act_as(auth_role, bob)
        assert auth_role.execute("UPDATE users SET name = 'x' WHERE id = %s", [ann.user["id"]]).rowcount == 0
        assert auth_role.execute("DELETE FROM sessions WHERE user_id = %s", [ann.user["id"]]).rowcount == 0


def test_no_role_makes_a_temporary_table_that_later_users_of_a_connection_would_meet(database: Database) -> None:
    # In the database that was migrated: a clone does not have its privileges.
    for role in ROLES:
        with (
            psycopg.connect(database.conninfo(role), dbname=TEMPLATE, autocommit=True) as connection,
            pytest.raises(errors.InsufficientPrivilege),
        ):
            connection.execute("CREATE TEMPORARY TABLE patients (name text)")


def test_every_table_is_either_protected_or_out_of_reach(database: Database) -> None:
    unprotected = database.value(
        """
        SELECT array_agg(relname ORDER BY relname)
          FROM pg_class
         WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND NOT (relrowsecurity AND relforcerowsecurity)
        """
    )
    assert unprotected == ["attempts", "schema_migrations"]


def test_the_application_roles_own_nothing_and_bypass_nothing(database: Database) -> None:
    for role in ROLES:
        assert (
            database.value("SELECT rolsuper OR rolbypassrls OR rolcreaterole FROM pg_roles WHERE rolname = %s", role)
            is False
        )
        assert (
            database.value("SELECT count(*) FROM pg_shdepend WHERE deptype = 'o' AND refobjid = %s::regrole", role) == 0
        )
    assert database.value("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = 'healthcare_owner'") is False
