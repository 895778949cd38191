"""What an attacker with a free account, odd input or a role's own SQL tried."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from psycopg import errors

from healthcare.database import migrate as migrations
from healthcare.database.migrate import migrate
from healthcare.database.operations import broken_audit_links, delete_doctor
from tests.booking import booking, new_doctor
from tests.conftest import Database
from tests.gateway import Client

FFL = "\ufb2c"  # three code points in NFC


def test_logins_to_an_own_account_buy_no_guesses_at_others(
    ann: Client, anonymous: Client, sign_up: Callable[..., Client], database: Database
) -> None:
    """From an address that waits after a hundred failures; the own account is known there."""
    own = sign_up("Mallory").user
    guess = {"email": ann.user["email"], "password": "wrong horse"}
    for number in range(99):
        anonymous.post("/api/auth/login", guess | {"email": f"{number}@example.org"}, source_ip="198.51.100.7")
    login = {"email": own["email"], "password": own["password"]}
    anonymous.post("/api/auth/login", login, source_ip="198.51.100.7").expect(200)
    statuses = []
    for number in range(10):
        anonymous.post("/api/auth/login", login, source_ip="198.51.100.7").expect(200)
        answer = anonymous.post(
            "/api/auth/login", guess | {"email": f"x{number}@example.org"}, source_ip="198.51.100.7"
        )
        statuses.append(answer.status)
    assert statuses.count(401) <= 1
    assert database.value("SELECT max(failures) FROM attempts") >= 99  # type: ignore[operator]


def test_a_login_sweeps_out_a_bounded_number_of_old_attempts(
    ann: Client, anonymous: Client, database: Database
) -> None:
    with database.connect() as connection:
        connection.execute(
            """
            INSERT INTO attempts (subject, failures, blocked_until, updated_at)
            SELECT sha256(n::text::bytea), 1, now(), now() - interval '31 days' FROM generate_series(1, 250) AS n
            """
        )
    login = {"email": ann.user["email"], "password": ann.user["password"]}
    for left in (150, 50, 0):
        anonymous.post("/api/auth/login", login).expect(200)
        assert database.value("SELECT count(*) FROM attempts WHERE updated_at < now() - interval '30 days'") == left


def test_an_event_without_an_address_can_log_in(ann: Client, anonymous: Client) -> None:
    login = {"email": ann.user["email"], "password": ann.user["password"]}
    anonymous.post("/api/auth/login", login, source_ip="test-invoke-source-ip").expect(200)


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("/api/auth/register", {"name": "x", "password": "seven green kettles"}),
        ("/api/patients", {"name": "x"}),
        ("/api/doctors", {"name": "x", "specialty": "x"}),
    ],
)
def test_lengths_are_those_of_the_normalised_text(ann: Client, url: str, body: dict[str, Any]) -> None:
    problem = ann.post(url, body | {"email": FFL * 81 + "@example.org"}).refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == ["/email"]


@pytest.mark.parametrize(
    "name",
    [
        "\u200b\u200b",
        "\u202eevil",
        "a\u2066b",
        "a\x1bb",
        "a\x7fb",
        "a\x9fb",
        "line\nbreak",
        "\ufffd",
        "a\ufffdb",
        "---",
        "\U0001f600",
    ],
)
def test_a_name_is_text_that_people_can_read(ann: Client, name: str) -> None:
    problem = ann.post("/api/patients", {"name": name}).refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == ["/name"]


@pytest.mark.parametrize(
    "name",
    ["שָׁלוֹם", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "नेहा शर्मा", "O\u2019Brien", "👩\u200d⚕\ufe0f Ann"],
)
def test_marks_and_joiners_of_scripts_stay(ann: Client, name: str) -> None:
    assert ann.create("/api/patients", name=name)["name"]


def test_an_address_may_have_lines_and_nothing_hidden(ann: Client) -> None:
    assert ann.create("/api/patients", name="x", address="1 High St\n\tLondon")["address"] == "1 High St\n\tLondon"
    for hidden in ("a\x1bb", "a\u202eb", "a\ufffdb", "a\x00b"):
        ann.post("/api/patients", {"name": "x", "address": hidden}).refuse(422, "validation")


@pytest.mark.parametrize(
    "value", ["0", "86400", "1990", 0, "1990-01-01T00:00", "+1990-01-01", "\uff11\uff19\uff19\uff10-01-01"]
)
def test_a_date_of_birth_is_written_as_a_date(ann: Client, value: object) -> None:
    problem = ann.post("/api/patients", {"name": "x", "date_of_birth": value}).refuse(422, "validation")
    assert problem["errors"] == [{"pointer": "/date_of_birth", "detail": "Input should be a date as YYYY-MM-DD"}]


def test_an_integer_of_thousands_of_digits_is_called_what_it_is(ann: Client) -> None:
    body = f'{{"patient_id": {"9" * 5000}, "doctor_id": 1}}'
    problem = ann.post("/api/mappings", body).refuse(422, "validation")
    assert problem["errors"] == [{"pointer": "/patient_id", "detail": "Input should be a number of fewer digits"}]


def test_an_etag_has_one_spelling(ann: Client) -> None:
    patient = ann.create("/api/patients", name="Zoë")
    for etag in ('"01"', '"+1"', '"1.0"', '" 1"', '"\uff11"'):
        answer = ann.patch(f"/api/patients/{patient['id']}", {"name": "Yan"}, headers={"If-Match": etag})
        assert answer.status in (412, 422)
    assert ann.get(f"/api/patients/{patient['id']}").expect(200)["name"] == "Zoë"


def test_an_expired_key_does_not_replay_while_older_ones_wait_to_be_swept(ann: Client, database: Database) -> None:
    key = {"Idempotency-Key": "mine"}
    first = ann.post("/api/patients", {"name": "Zoë"}, headers=key).expect(201)
    with database.connect() as connection:
        connection.execute("UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")
        connection.execute(
            """
            INSERT INTO idempotency_keys (user_id, actor_id, key, fingerprint, created_at)
            SELECT id, id, n::text, '', now() - interval '3 days' FROM users, generate_series(1, 1500) AS n
            """
        )
    second = ann.post("/api/patients", {"name": "Zoë"}, headers=key).expect(201)
    assert second["id"] != first["id"]
    assert ann.post("/api/patients", {"name": "Zoë"}, headers=key).expect(201) == second


# Bounded work ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def popular(ann: Client, sign_up: Callable[..., Client], database: Database) -> int:
    """A doctor of Ann's to whom 1,200 patients of Bob's are assigned."""
    bob = sign_up("Bob")
    doctor: int = ann.create("/api/doctors", name="Popular", specialty="Time")["id"]
    with database.connect("healthcare_owner") as connection:
        connection.execute(
            """
            WITH new AS (
                INSERT INTO patients (owner_id, name) SELECT %s, 'x' FROM generate_series(1, 1200)
                RETURNING id, owner_id)
            INSERT INTO mappings (owner_id, patient_id, doctor_id) SELECT owner_id, id, %s FROM new
            """,
            [bob.user["id"], doctor],
        )
    return doctor


def test_a_doctor_of_very_many_patients_is_deleted_by_an_operator(
    ann: Client, sign_up: Callable[..., Client], popular: int, database: Database
) -> None:
    admin = sign_up("Admin", admin=True)
    for client in (ann, admin):
        problem = client.delete(f"/api/doctors/{popular}").refuse(409, "doctor-in-use")
        assert "1,000" in problem["detail"]
    assert database.value("SELECT count(*) FROM mappings") == 1200
    assert delete_doctor(database.conninfo("healthcare_owner"), popular, batch=500) == 1200
    ann.get(f"/api/doctors/{popular}").refuse(404, "not-found")
    assert broken_audit_links(database.conninfo("healthcare_owner")) == []


def test_a_lock_that_is_not_to_be_had_in_time_is_unavailable(ann: Client, database: Database) -> None:
    patient = ann.create("/api/patients", name="Zoë")
    with database.connect() as connection:
        connection.execute(f"ALTER ROLE healthcare_api IN DATABASE {database.name} SET lock_timeout = '100ms'")
    ann.gateway.disconnect()
    with database.connect() as connection, connection.transaction():
        connection.execute("SELECT FROM patients FOR UPDATE")
        answer = ann.patch(f"/api/patients/{patient['id']}", {"name": "Yan"})
    answer.refuse(503, "unavailable")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("state", "status"),
    [("53200", 503), ("53300", 503), ("57014", 503), ("57P03", 503), ("58030", 503), ("40001", 503), ("XX000", 500)],
)
def test_what_passes_by_itself_is_unavailable(ann: Client, database: Database, state: str, status: int) -> None:
    with database.connect() as connection:
        connection.execute(
            f"""
            CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$;
            CREATE TRIGGER fail BEFORE INSERT ON patients EXECUTE FUNCTION fail()
            """
        )
    assert ann.post("/api/patients", {"name": "Zoë"}).status == status


# What a role does by SQL of its own -----------------------------------------------------------------------------------


def test_what_a_role_sets_for_itself_ends_at_the_next_migration(database: Database) -> None:
    with database.connect("healthcare_api") as connection:
        connection.execute("ALTER ROLE healthcare_api SET statement_timeout = 0")
        connection.execute(f"ALTER ROLE healthcare_api IN DATABASE {database.name} SET row_security = off")
    migrate(database.conninfo("healthcare_owner"))
    with database.connect("healthcare_api") as connection:
        assert connection.execute("SHOW statement_timeout").fetchone() == ("5s",)
        assert connection.execute("SHOW row_security").fetchone() == ("on",)


def test_a_lock_that_is_held_for_ever_ends_a_migration_with_an_error(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "_PATIENCE", "200ms")
    with database.connect("healthcare_api") as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [migrations._LOCK])
        with pytest.raises(errors.LockNotAvailable):
            migrate(database.conninfo("healthcare_owner"))


def test_a_whole_chain_of_events_that_is_gone_is_noticed(ann: Client, database: Database) -> None:
    with database.connect() as connection:
        connection.execute("DELETE FROM audit_events; DELETE FROM audit_heads")
    (broken,) = broken_audit_links(database.conninfo("healthcare_owner"))
    assert (broken["owner_id"], broken["reason"]) == (ann.user["id"], "the chain has no end")


def test_statements_are_made_of_literals_only() -> None:
    """What stands between the braces of a statement is a constant of a module, in capitals."""
    for path in Path("layers/common/healthcare").rglob("*.py"):
        calls = [found for found in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(found, ast.Call)]
        for call in calls:
            if getattr(call.func, "attr", "") in ("row", "rows", "execute", "finish") and path.name != "operations.py":
                for part in (part for argument in call.args for part in ast.walk(argument)):
                    if isinstance(part, ast.FormattedValue):
                        name = getattr(part.value, "id", None) or getattr(part.value, "attr", "")
                        assert name.isupper(), (path, call.lineno)


@pytest.mark.parametrize("offset", ["+16:00", "-16:00", "+23:59", "-23:59"])
def test_a_time_may_have_an_offset_that_postgresql_does_not_take(ann: Client, offset: str) -> None:
    patient = ann.create("/api/patients", name="Zo\xeb")["id"]
    doctor = new_doctor(ann)
    record = {"kind": "note", "content": {"text": "x"}, "occurred_at": f"2025-03-02T09:30:00{offset}"}
    ann.post(f"/api/patients/{patient}/records", record).expect(201)
    closure = {"starts_at": f"2030-03-02T09:30:00{offset}", "ends_at": f"2030-03-02T10:30:00{offset}"}
    ann.post(f"/api/doctors/{doctor}/closures", closure).expect(201)
    moment = f"2030-03-02T09:30:00{quote(offset)}"
    ann.get(f"/api/appointments?from={moment}").expect(200)
    ann.get(f"/api/doctors/{doctor}/slots?visit=first&from={moment}").expect(200)
    ann.post("/api/appointments", booking(patient, doctor, f"2030-03-02T09:31:00{offset}")).refuse(422, "not-offered")
