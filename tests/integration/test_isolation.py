"""What one account gets of another's, and what each database role cannot do even when it is given SQL."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors

from tests.conftest import TEMPLATE, Database
from tests.gateway import Answer, Client, routes


@pytest.fixture
def world(ann: Client, bob: Client) -> dict[str, int]:
    """Everything of Ann's that Bob might reach for."""
    patient = ann.create("/api/patients", name="Ann's patient", phone="+44 20 7946 0000")
    doctor = ann.create("/api/doctors", name="Ann's doctor", specialty="Time")
    mapping = ann.create("/api/mappings", patient_id=patient["id"], doctor_id=doctor["id"])
    return {"patient": patient["id"], "doctor": doctor["id"], "mapping": mapping["id"]}


def _attempts(bob: Client, world: dict[str, int]) -> dict[tuple[str, str], Answer]:
    """Every route of Bob's, aimed at what is Ann's."""
    patient, doctor, mapping = world["patient"], world["doctor"], world["mapping"]
    new_patient, new_doctor = {"name": "Bob was here"}, {"name": "Bob was here", "specialty": "Theft"}
    return {
        ("GET", "/api/patients/{id}"): bob.get(f"/api/patients/{patient}"),
        ("PUT", "/api/patients/{id}"): bob.put(f"/api/patients/{patient}", new_patient),
        ("PATCH", "/api/patients/{id}"): bob.patch(f"/api/patients/{patient}", new_patient),
        ("DELETE", "/api/patients/{id}"): bob.delete(f"/api/patients/{patient}"),
        ("GET", "/api/patients/{id}/doctors"): bob.get(f"/api/patients/{patient}/doctors"),
        ("PUT", "/api/doctors/{id}"): bob.put(f"/api/doctors/{doctor}", new_doctor),
        ("PATCH", "/api/doctors/{id}"): bob.patch(f"/api/doctors/{doctor}", {"name": "Bob was here"}),
        ("DELETE", "/api/doctors/{id}"): bob.delete(f"/api/doctors/{doctor}"),
        ("POST", "/api/mappings"): bob.post("/api/mappings", {"patient_id": patient, "doctor_id": doctor}),
        ("GET", "/api/mappings/{id}"): bob.get(f"/api/mappings/{patient}"),
        ("DELETE", "/api/mappings/{id}"): bob.delete(f"/api/mappings/{mapping}"),
        ("GET", "/api/doctors/{id}"): bob.get(f"/api/doctors/{doctor}"),
        ("GET", "/api/patients"): bob.get("/api/patients?q=ann"),
        ("GET", "/api/mappings"): bob.get("/api/mappings"),
        ("GET", "/api/audit"): bob.get(f"/api/audit?patient_id={patient}"),
    }


def test_no_route_gives_one_user_anything_of_anothers(
    ann: Client, bob: Client, world: dict[str, int], database: Database
) -> None:
    before = _everything(database)
    for (method, path), answer in _attempts(bob, world).items():
        if (method, path) == ("GET", "/api/doctors/{id}"):
            assert answer.expect(200)["name"] == "Ann's doctor"
        elif path.startswith("/api/doctors"):
            answer.refuse(403, "forbidden")
        elif "{id}" in path or method == "POST":
            answer.refuse(404, "not-found")
        else:
            assert answer.expect(200) == {"items": [], "next_cursor": None}
        assert "patient's" not in answer.text
        assert "7946" not in answer.text
    assert _everything(database) == before


def test_what_is_anothers_answers_as_what_does_not_exist(bob: Client, world: dict[str, int]) -> None:
    nothing = dict.fromkeys(world, 999_999)
    for route, answer in _attempts(bob, world).items():
        if "doctors" in route[1] and "patients" not in route[1]:
            continue  # the directory is everybody's
        other = _attempts(bob, nothing | {"doctor": world["doctor"]})[route]
        of_this_request = {"instance", "request_id"}
        assert {k: v for k, v in answer.json.items() if k not in of_this_request} == {
            k: v for k, v in other.json.items() if k not in of_this_request
        }


def test_the_attempts_cover_every_route_that_names_or_lists_rows(bob: Client, world: dict[str, int]) -> None:
    own = {("POST", "/api/patients"), ("POST", "/api/doctors"), ("GET", "/api/doctors")}
    covered = _attempts(bob, world).keys() | own
    protected = {(method, path) for method, path, folder, is_open in routes() if not is_open and folder != "auth"}
    assert protected == covered


def _everything(database: Database) -> object:
    tables = ("users", "patients", "patient_words", "doctors", "doctor_words", "mappings", "audit_events")
    return [database.value(f"SELECT array_agg(t::text ORDER BY t::text) FROM {table} t") for table in tables]


@pytest.fixture
def api_role(database: Database) -> Iterator[psycopg.Connection]:
    with database.connect("healthcare_api") as connection:
        yield connection


@pytest.fixture
def auth_role(database: Database) -> Iterator[psycopg.Connection]:
    with database.connect("healthcare_auth") as connection:
        yield connection


def _act_as(connection: psycopg.Connection, client: Client, role: str = "user") -> None:
    connection.execute("SELECT act_as(%s, %s, 'test')", [client.user["id"], role])


PROTECTED = ("patients", "patient_words", "doctors", "doctor_words", "mappings", "idempotency_keys", "audit_events")


@pytest.mark.parametrize("table", PROTECTED)
def test_a_statement_without_act_as_sees_no_row(
    ann: Client, world: dict[str, int], api_role: psycopg.Connection, table: str, database: Database
) -> None:
    ann.post("/api/patients", {"name": "Keyed"}, headers={"Idempotency-Key": "key"}).expect(201)
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
    "INSERT INTO mappings (owner_id, patient_id, doctor_id) VALUES (%(ann)s, %(patient)s, %(doctor)s)",
    "INSERT INTO patient_words (owner_id, word, patient_id) VALUES (%(ann)s, 'planted', %(patient)s)",
    "INSERT INTO doctor_words (word, doctor_id) VALUES ('planted', %(doctor)s)",
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
    "UPDATE idempotency_keys SET response = 'Bob was here'",
    "DELETE FROM patients",
    "DELETE FROM doctors",
    "DELETE FROM mappings",
    "DELETE FROM patient_words",
    "DELETE FROM doctor_words",
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


BEYOND_THE_AUTH_ROLE = (
    "SELECT name FROM patients",
    "SELECT name FROM doctors",
    "SELECT id FROM mappings",
    "SELECT id FROM audit_events",
    "INSERT INTO users (name, email, password_hash, role) VALUES ('x', 'x@example.org', 'x', 'admin')",
    "UPDATE users SET role = 'admin'",
    "UPDATE users SET email = 'x@example.org'",
    "DELETE FROM users",
    "TRUNCATE users CASCADE",
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
    for role in ("healthcare_api", "healthcare_auth"):
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
    for role in ("healthcare_api", "healthcare_auth"):
        assert (
            database.value("SELECT rolsuper OR rolbypassrls OR rolcreaterole FROM pg_roles WHERE rolname = %s", role)
            is False
        )
        assert (
            database.value("SELECT count(*) FROM pg_shdepend WHERE deptype = 'o' AND refobjid = %s::regrole", role) == 0
        )
    assert database.value("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = 'healthcare_owner'") is False
