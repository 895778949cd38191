import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

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
