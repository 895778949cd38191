import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from healthcare.database.operations import broken_audit_links
from tests.conftest import Database
from tests.gateway import Client


def _seen(client: Client, query: str = "limit=100") -> list[tuple[str, str]]:
    return [(event["action"], event["resource"]) for event in client.get(f"/api/audit?{query}").expect(200)["items"]]


def test_each_change_leaves_one_event_newest_first(ann: Client) -> None:
    patient = ann.create("/api/patients", name="Zoë", gender="female")
    changed = ann.patch(f"/api/patients/{patient['id']}", {"name": "Zoe", "gender": None})
    ann.patch(f"/api/patients/{patient['id']}", {"name": "Zoe"}).expect(200)
    ann.delete(f"/api/patients/{patient['id']}").expect(204)
    events = ann.get("/api/audit").expect(200)["items"]
    assert [(event["action"], event["resource"]) for event in events] == [
        ("delete", "patient"),
        ("update", "patient"),
        ("create", "patient"),
        ("create", "user"),
    ]
    assert events[1].keys() == {"id", "at", "actor_id", "action", "resource", "resource_id", "request_id", "changes"}
    assert events[1]["changes"] == {"name": {"from": "Zoë", "to": "Zoe"}, "gender": {"from": "female", "to": None}}
    assert events[1]["actor_id"] == ann.user["id"]
    assert events[1]["resource_id"] == patient["id"]
    assert events[1]["request_id"] == changed.headers["X-Request-Id"]
    assert abs(datetime.fromisoformat(events[1]["at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert events[0]["changes"] == {"name": {"from": "Zoe", "to": None}}
    assert events[2]["changes"] == {"name": {"from": None, "to": "Zoë"}, "gender": {"from": None, "to": "female"}}


def test_a_patients_events_are_those_of_its_mappings_too(ann: Client) -> None:
    patient = ann.create("/api/patients", name="Zoë")
    other = ann.create("/api/patients", name="Yan")
    doctor = ann.create("/api/doctors", name="Who", specialty="Time")
    ann.create("/api/mappings", patient_id=patient["id"], doctor_id=doctor["id"])
    ann.create("/api/mappings", patient_id=other["id"], doctor_id=doctor["id"])
    ann.delete(f"/api/patients/{patient['id']}").expect(204)
    found = _seen(ann, f"patient_id={patient['id']}")
    assert sorted(found[:2]) == [("delete", "mapping"), ("delete", "patient")]
    assert found[2:] == [("create", "mapping"), ("create", "patient")]
    assert _seen(ann, "patient_id=999") == []


def test_what_an_admin_does_shows_to_the_owner(sign_up: Callable[..., Client]) -> None:
    ann, bob, eve = sign_up("Ann"), sign_up("Bob"), sign_up("Eve", admin=True)
    doctor = ann.create("/api/doctors", name="Who", specialty="Time")
    patient = bob.create("/api/patients", name="Zoë")
    bob.create("/api/mappings", patient_id=patient["id"], doctor_id=doctor["id"])
    eve.delete(f"/api/doctors/{doctor['id']}").expect(204)
    (deleted, *_) = ann.get("/api/audit").json["items"]
    assert (deleted["action"], deleted["resource"], deleted["actor_id"]) == ("delete", "doctor", eve.user["id"])
    (deleted, *_) = bob.get("/api/audit").json["items"]
    assert (deleted["action"], deleted["resource"], deleted["actor_id"]) == ("delete", "mapping", eve.user["id"])
    # The one event of Eve's own besides her account's creation is her promotion, which happened outside the API.
    assert [(e["action"], e["resource"], e["actor_id"]) for e in eve.get("/api/audit").json["items"]] == [
        ("update", "user", None),
        ("create", "user", eve.user["id"]),
    ]


def test_no_secret_enters_the_audit(ann: Client, database: Database) -> None:
    new = {"current_password": ann.user["password"], "new_password": "battery staple"}
    ann.post("/api/auth/password", new).expect(204)
    (event, *_) = ann.get("/api/audit").json["items"]
    assert event["changes"] == {"password_hash": {"from": None, "to": None}}
    everything = json.dumps(database.value("SELECT jsonb_agg(a) FROM audit_events a"))
    assert "$2b$" not in everything
    assert "battery" not in everything


def test_a_request_that_fails_leaves_no_event(ann: Client, bob: Client, database: Database) -> None:
    doctor = ann.create("/api/doctors", name="Who", specialty="Time")
    patient = bob.create("/api/patients", name="Zoë")
    bob.create("/api/mappings", patient_id=patient["id"], doctor_id=doctor["id"])
    before = database.value("SELECT count(*) FROM audit_events")
    ann.delete(f"/api/doctors/{doctor['id']}").refuse(409, "doctor-in-use")
    bob.patch(f"/api/patients/{patient['id']}", {"name": "X"}, headers={"If-Match": '"7"'}).refuse(412, "stale")
    assert database.value("SELECT count(*) FROM audit_events") == before


@pytest.fixture
def history(ann: Client, bob: Client) -> Client:
    """Ann, with a chain of five events beside Bob's."""
    for name in ("Zoë", "Yan", "Xue", "Wim"):
        ann.create("/api/patients", name=name)
    bob.create("/api/patients", name="Vic")
    return ann


def _broken(database: Database) -> list[tuple[object, object, object]]:
    links = broken_audit_links(database.conninfo("healthcare_owner"))
    return [(link["owner_id"], link["number"], link["reason"]) for link in links]


def test_the_chain_of_events_holds(history: Client, database: Database) -> None:
    assert _broken(database) == []
    assert database.value("SELECT array_agg(number ORDER BY id) FROM audit_events WHERE owner_id = 1") == [
        1,
        2,
        3,
        4,
        5,
    ]


@pytest.mark.parametrize(
    ("tampering", "number", "reason"),
    [
        ("""UPDATE audit_events SET changes = '{"name": "other"}' WHERE number = 3""", 3, "changed"),
        ("UPDATE audit_events SET at = at - interval '1 hour' WHERE number = 2", 2, "changed"),
        ("UPDATE audit_events SET actor_id = 7 WHERE number = 5", 5, "changed"),
        ("UPDATE audit_events SET request_id = NULL WHERE number = 4", 4, "changed"),
        ("UPDATE audit_events SET digest = sha256(digest) WHERE number = 3", 3, "changed"),
        ("DELETE FROM audit_events WHERE number = 3", 4, "events before it are missing"),
        ("DELETE FROM audit_events WHERE number = 1", 2, "events before it are missing"),
        ("DELETE FROM audit_events WHERE number = 5", 5, "the end of the chain is missing"),
        ("DELETE FROM audit_heads", None, "the chain has no end"),
        (
            """
            DELETE FROM audit_events WHERE number = 5;
            UPDATE audit_heads SET number = 4 WHERE owner_id = 1
            """,
            4,
            "the end of the chain is missing",
        ),
    ],
)
def test_tampering_by_a_superuser_is_found(
    history: Client, database: Database, tampering: str, number: int | None, reason: str
) -> None:
    with database.connect() as superuser:
        superuser.execute(tampering)
    assert (history.user["id"], number, reason) == _broken(database)[0]


def test_an_event_that_was_slipped_in_is_found(history: Client, database: Database) -> None:
    with database.connect() as superuser:
        superuser.execute(
            """
            SET session_replication_role = replica;
            INSERT INTO audit_events (owner_id, action, resource, resource_id, changes, number, digest)
            VALUES (1, 'create', 'patient', 9, '{}', 6, 'made up')
            """
        )
    assert _broken(database)[0] == (1, 6, "changed")


def test_events_of_one_owner_at_once_make_one_chain(ann: Client, database: Database) -> None:
    def write(number: int) -> None:
        with database.connect("healthcare_api") as connection, connection.transaction():
            connection.execute("SELECT act_as(%s, 'user', 'x')", [ann.user["id"]])
            for _ in range(5):
                connection.execute("INSERT INTO patients (owner_id, name) VALUES (%s, 'Zoë')", [ann.user["id"]])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert database.value("SELECT count(*) FROM audit_events WHERE owner_id = 1") == 41
    assert _broken(database) == []
