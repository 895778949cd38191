"""Network round trips to PostgreSQL, counted on the wire."""

from collections.abc import Callable

import pytest

from tests.gateway import Answer, Client
from tests.integration.test_sharing import invite, link, opened
from tests.wire import Wire

PLAIN: dict[str, Callable[[Client, int, int], object]] = {
    "get": lambda ann, patient, doctor: ann.get(f"/api/patients/{patient}").expect(200),
    "get, not modified": lambda ann, patient, doctor: ann.get(
        f"/api/patients/{patient}", headers={"If-None-Match": '"1"'}
    ).expect(304),
    "get, not found": lambda ann, patient, doctor: ann.get("/api/patients/99").expect(404),
    "list": lambda ann, patient, doctor: ann.get("/api/patients?limit=100").expect(200),
    "search": lambda ann, patient, doctor: ann.get("/api/patients?q=zoë").expect(200),
    "list of doctors": lambda ann, patient, doctor: ann.get("/api/doctors?specialty=time&q=who").expect(200),
    "doctors of a patient": lambda ann, patient, doctor: ann.get(f"/api/patients/{patient}/doctors").expect(200),
    "mappings": lambda ann, patient, doctor: ann.get("/api/mappings").expect(200),
    "audit": lambda ann, patient, doctor: ann.get("/api/audit").expect(200),
    "account": lambda ann, patient, doctor: ann.get("/api/auth/me").expect(200),
    "post": lambda ann, patient, doctor: ann.post("/api/patients", {"name": "Yan"}).expect(201),
    "post of a mapping": lambda ann, patient, doctor: ann.post(
        "/api/mappings", {"patient_id": patient, "doctor_id": doctor}
    ).expect(201),
    "put": lambda ann, patient, doctor: ann.put(
        f"/api/patients/{patient}", {"name": "Yan"}, headers={"If-Match": '"1"'}
    ).expect(200),
    "patch": lambda ann, patient, doctor: ann.patch(f"/api/doctors/{doctor}", {"name": "Yan"}).expect(200),
    "delete": lambda ann, patient, doctor: ann.delete(f"/api/patients/{patient}").expect(204),
    "delete of a doctor": lambda ann, patient, doctor: ann.delete(f"/api/doctors/{doctor}").expect(204),
    "registration": lambda ann, patient, doctor: (
        Client(ann.gateway)
        .post("/api/auth/register", {"name": "Yan", "email": "yan@example.org", "password": "correct horse"})
        .expect(201)
    ),
    "refresh": lambda ann, patient, doctor: (
        Client(ann.gateway).post("/api/auth/refresh", {"refresh_token": ann.tokens["refresh_token"]}).expect(200)
    ),
    "health": lambda ann, patient, doctor: ann.get("/health").expect(200),
}


@pytest.mark.parametrize("request_", PLAIN.values(), ids=PLAIN.keys())
def test_a_plain_request_is_one_round_trip(
    wire: Wire, ann: Client, request_: Callable[[Client, int, int], object]
) -> None:
    patient = ann.create("/api/patients", name="Zoë")
    doctor = ann.create("/api/doctors", name="Who", specialty="Time")
    for warm_up in ("/health", "/api/mappings", "/api/audit"):
        ann.get(warm_up).expect(200)
    before = wire.round_trips
    request_(ann, patient["id"], doctor["id"])
    assert wire.round_trips - before == 1


def test_a_login_is_two_and_a_keyed_creation_or_its_repetition_three(wire: Wire, ann: Client) -> None:
    ann.create("/api/patients", name="Zoë")
    before = wire.round_trips
    login = {"email": ann.user["email"], "password": ann.user["password"]}
    Client(ann.gateway).post("/api/auth/login", login).expect(200)
    assert wire.round_trips - before == 2
    for _ in range(2):
        before = wire.round_trips
        ann.post("/api/patients", {"name": "Yan"}, headers={"Idempotency-Key": "key"}).expect(201)
        assert wire.round_trips - before == 3


def test_a_delegates_and_a_doctors_plain_request_is_one_round_trip_too(wire: Wire, ann: Client, bob: Client) -> None:
    for_ann = invite(ann, bob)
    doctor = ann.create("/api/doctors", name="Who", specialty="Time")["id"]
    link(ann, doctor, bob)
    patient, mapping = opened(ann, doctor)
    code = ann.create("/api/invitations", kind="delegate", access="read")["code"]
    requests: list[Callable[[], Answer]] = [
        lambda: bob.get("/api/patients", headers=for_ann),
        lambda: bob.get(f"/api/patients/{patient['id']}", headers=for_ann),
        lambda: bob.patch(f"/api/patients/{patient['id']}", {"name": "Yan"}, headers=for_ann),
        lambda: bob.post("/api/patients", {"name": "Yan"}, headers=for_ann),
        lambda: ann.get("/api/patients", headers={"Acting-For": "999"}),
        lambda: bob.get("/api/practice"),
        lambda: bob.get("/api/practice/patients"),
        lambda: bob.get("/api/practice/patients?q=yan"),
        lambda: bob.get(f"/api/practice/patients/{patient['id']}"),
        lambda: ann.patch(f"/api/mappings/{mapping}", {"access": "write"}),
        lambda: ann.get("/api/delegates"),
        lambda: bob.get("/api/owners"),
        lambda: ann.get("/api/invitations"),
        lambda: bob.post("/api/invitations/accept", {"code": code}),
        lambda: ann.post("/api/invitations", {"kind": "doctor", "doctor_id": doctor}),
        lambda: ann.delete(f"/api/doctors/{doctor}/account"),
    ]
    for warm_up in ("/api/patients", "/api/practice", "/api/mappings", "/api/doctors", "/api/owners"):
        bob.get(warm_up).expect(200)
    for number, request in enumerate(requests):
        before = wire.round_trips
        status = request().status
        assert (number, status < 300 or status == 403, wire.round_trips - before) == (number, True, 1)
