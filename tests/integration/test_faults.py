"""What a client sees, and what is in the database, when the connection or the server fails."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.conftest import Database
from tests.gateway import Answer, Client
from tests.wire import Wire


def _unavailable(answer: Answer) -> None:
    answer.refuse(503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0


def test_a_connection_that_died_while_idle_is_noticed_before_it_is_used(ann: Client, database: Database) -> None:
    ann.create("/api/patients", name="Zoë")
    with database.connect() as connection:
        connection.execute(
            """
            SELECT pg_terminate_backend(pid, 5000)
              FROM pg_stat_activity
             WHERE datname = %s AND pid <> pg_backend_pid()
            """,
            [database.name],
        )
    assert ann.create("/api/patients", name="Yan")["name"] == "Yan"


def test_a_read_is_repeated_on_a_new_connection(wire: Wire, ann: Client) -> None:
    ann.create("/api/patients", name="Zoë")
    cuts = iter([True])
    wire.on_answer = lambda data: next(cuts, False)
    assert len(ann.get("/api/patients").expect(200)["items"]) == 1
    wire.on_answer = None


def test_a_read_that_is_cut_twice_says_so(wire: Wire, ann: Client) -> None:
    ann.create("/api/patients", name="Zoë")
    wire.on_answer = lambda data: True
    _unavailable(ann.get("/api/patients"))
    wire.on_answer = None
    assert len(ann.get("/api/patients").expect(200)["items"]) == 1


def test_a_write_whose_answer_is_lost_is_not_repeated(wire: Wire, ann: Client, database: Database) -> None:
    ann.create("/api/patients", name="Zoë")
    wire.on_answer = lambda data: True
    _unavailable(ann.post("/api/patients", {"name": "Yan"}))
    wire.on_answer = None
    assert database.value("SELECT count(*) FROM patients WHERE name = 'Yan'") == 1


@pytest.mark.parametrize("cut", range(5))
def test_a_keyed_write_survives_a_cut_at_any_of_its_messages(
    wire: Wire, ann: Client, database: Database, cut: int
) -> None:
    ann.create("/api/patients", name="Zoë")
    answers = iter(range(100))
    wire.on_answer = lambda data: next(answers) == cut
    patient = ann.post("/api/patients", {"name": "Yan"}, headers={"Idempotency-Key": "key"}).expect(201)
    wire.on_answer = None
    assert database.value("SELECT array_agg(id) FROM patients WHERE name = 'Yan'") == [patient["id"]]


def test_a_server_out_of_reach_is_503_and_serves_again_when_it_is_back(ann: Client, database: Database) -> None:
    ann.create("/api/patients", name="Zoë")
    with database.connect() as connection, _nobody_may_connect(database, connection):
        for answer in (ann.get("/api/patients"), ann.post("/api/patients", {"name": "Yan"}), ann.get("/health")):
            _unavailable(answer)
            assert database.name not in answer.text
    assert ann.get("/health").expect(200) == {"status": "ok"}
    assert ann.create("/api/patients", name="Yan")["id"]
    assert database.value("SELECT count(*) FROM patients") == 2


@contextmanager
def _nobody_may_connect(database: Database, connection: psycopg.Connection) -> Iterator[None]:
    connection.execute(f"ALTER DATABASE {database.name} CONNECTION LIMIT 0")
    connection.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
        [database.name],
    )
    yield
    connection.execute(f"ALTER DATABASE {database.name} CONNECTION LIMIT -1")


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "key"}])
def test_a_statement_that_takes_too_long_is_given_up(
    ann: Client, database: Database, key: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.connect("healthcare_owner") as owner:
        owner.execute("ALTER ROLE healthcare_api IN DATABASE " + database.name + " SET statement_timeout = '300ms'")
    patient = ann.create("/api/patients", name="Zoë")
    with psycopg.connect(database.conninfo()) as blocker:
        blocker.execute("LOCK TABLE patients")
        _unavailable(ann.post("/api/patients", {"name": "Yan"}, headers=key))
        _unavailable(ann.get(f"/api/patients/{patient['id']}"))
    assert ann.get(f"/api/patients/{patient['id']}").expect(200) == patient
    ann.post("/api/patients", {"name": "Yan"}, headers=key).expect(201)
    assert database.value("SELECT count(*) FROM patients") == 2


def test_what_a_deadlock_undid_is_done_once_more(ann: Client, database: Database) -> None:
    patient = ann.create("/api/patients", name="Zoë")
    doctor = ann.create("/api/doctors", name="Who", specialty="Time")
    ann.create("/api/mappings", patient_id=patient["id"], doctor_id=doctor["id"])
    with database.connect() as superuser:
        superuser.execute(f"ALTER ROLE healthcare_api IN DATABASE {database.name} SET deadlock_timeout = '100ms'")
    ann.gateway.disconnect()
    with psycopg.connect(database.conninfo()) as other:
        # The deletion takes the patient first; whoever holds its mappings then asks for the patient. It is the
        # deletion that notices.
        other.execute("SET deadlock_timeout = '10s'")
        other.execute("SELECT 1 FROM mappings FOR UPDATE")
        answers: list[Answer] = []
        deletion = threading.Thread(target=lambda: answers.append(ann.delete(f"/api/patients/{patient['id']}")))
        deletion.start()
        database.wait_for_a_lock()
        other.execute("UPDATE patients SET name = 'Yan'")
    deletion.join()
    answers[0].expect(204)
    ann.get(f"/api/patients/{patient['id']}").refuse(404, "not-found")
    assert ann.get("/api/mappings").json["items"] == []


def test_without_credentials_to_sign_in_with_the_database_is_unavailable(
    ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = ann.gateway.environments["patients"]
    settings = environment.modules["healthcare.platform.settings"].settings
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("DATABASE_AUTH", "iam")
    monkeypatch.setenv("PGHOST", "127.0.0.1")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "of a start from a snapshot")
    settings.cache_clear()
    environment.disconnect()
    _unavailable(ann.get("/api/patients"))
    monkeypatch.undo()
    settings.cache_clear()
    ann.get("/api/patients").expect(200)


def test_a_read_only_server_still_reads(ann: Client, database: Database) -> None:
    patient = ann.create("/api/patients", name="Zoë")
    with database.connect() as connection:
        connection.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    ann.gateway.disconnect()
    assert ann.get(f"/api/patients/{patient['id']}").expect(200) == patient
    _unavailable(ann.post("/api/patients", {"name": "Yan"}))
    _unavailable(ann.delete(f"/api/patients/{patient['id']}"))
