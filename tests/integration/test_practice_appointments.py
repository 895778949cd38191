"""Appointments, as the doctor sees them."""

from collections.abc import Callable

import pytest

from tests.booking import book, booking, free_times, let_pass, new_doctor, new_patient
from tests.conftest import Database
from tests.gateway import Client

CALENDAR = "/api/practice/appointments"


@pytest.fixture
def dora(sign_up: Callable[..., Client]) -> Client:
    """Whom the doctor is linked to."""
    return sign_up("Dora")


@pytest.fixture
def doctor(ann: Client, dora: Client, database: Database) -> int:
    doctor = new_doctor(ann, cancel_minutes=24 * 60)
    with database.connect() as connection:
        connection.execute("UPDATE doctors SET account_id = %s WHERE id = %s", [dora.user["id"], doctor])
    return doctor


@pytest.fixture
def appointment(bob: Client, doctor: int) -> int:
    patient = new_patient(bob)
    made: int = book(bob, patient, doctor, free_times(bob, doctor, soon=True)[0], reason="A cough")["id"]
    return made


def test_a_doctor_sees_its_own_calendar_and_who_comes(ann: Client, bob: Client, dora: Client, doctor: int) -> None:
    times = free_times(bob, doctor)
    patient = new_patient(bob)
    made = [book(bob, patient, doctor, time, reason="A cough") for time in times[:12:4]]
    book(bob, patient, new_doctor(ann), times[20])
    assert dora.walk(f"{CALENDAR}?limit=2") == made
    assert dora.get(f"{CALENDAR}/{made[1]['id']}").expect(200) == made[1]
    assert dora.walk(f"{CALENDAR}?from={times[4]}&to={times[8]}") == [made[1]]
    assert dora.walk(f"{CALENDAR}?status=arrived") == []
    dora.get(f"{CALENDAR}?patient_id={patient}").refuse(422, "validation")
    # That it is booked does not open the patient.
    assert dora.walk("/api/practice/patients") == []
    dora.get(f"/api/practice/patients/{patient}").refuse(404, "not-found")


def test_nobody_else_sees_the_calendar(ann: Client, bob: Client, dora: Client, doctor: int, appointment: int) -> None:
    other = new_doctor(ann)
    foreign = book(bob, new_patient(bob), other, free_times(bob, other)[0])["id"]
    url = f"{CALENDAR}/{foreign}"
    for answer in (
        ann.get(CALENDAR),
        ann.get(f"{CALENDAR}/{appointment}"),
        bob.post(f"{CALENDAR}/{appointment}/arrive", None),
        dora.get(url),
        dora.post(f"{url}/arrive", None),
        dora.post(f"{url}/cancel", {}),
        dora.post(f"{url}/join", None),
    ):
        answer.refuse(404, "not-found")


def test_a_visit_takes_its_course_and_never_goes_back(bob: Client, dora: Client, appointment: int) -> None:
    url = f"{CALENDAR}/{appointment}"
    dora.post(f"{url}/fulfil", None).refuse(409, "wrong-status")
    dora.post(f"{url}/no-show", None).refuse(409, "wrong-status")  # before it starts
    dora.post(f"{url}/arrive", None, headers={"If-Match": '"7"'}).refuse(412, "stale")
    assert dora.post(f"{url}/arrive", None).expect(200)["status"] == "arrived"
    assert dora.post(f"{url}/arrive", None).headers["ETag"] == '"2"'
    assert dora.post(f"{url}/fulfil", None, headers={"If-Match": '"2"'}).expect(200)["status"] == "fulfilled"
    for step in ("arrive", "no-show"):
        dora.post(f"{url}/{step}", None).refuse(409, "wrong-status")
    dora.post(f"{url}/cancel", {}).refuse(409, "wrong-status")
    assert bob.get(f"/api/appointments/{appointment}").expect(200)["status"] == "fulfilled"
    events = bob.get("/api/audit").expect(200)["items"][:2]
    assert [(event["actor_id"], event["changes"]["status"]["to"]) for event in events] == [
        (dora.user["id"], "fulfilled"),
        (dora.user["id"], "arrived"),
    ]


def test_who_does_not_come_is_missed_once_the_visit_has_started(
    bob: Client, dora: Client, appointment: int, database: Database
) -> None:
    let_pass(database, appointment, hours=2)
    dora.post(f"{CALENDAR}/{appointment}/cancel", {}).refuse(409, "too-late")
    missed = dora.post(f"{CALENDAR}/{appointment}/no-show", None).expect(200)
    assert missed["status"] == "noshow"
    bob.delete(f"/api/patients/{missed['patient_id']}").refuse(409, "has-history")


def test_a_doctor_cancels_until_the_visit_starts(bob: Client, dora: Client, doctor: int, appointment: int) -> None:
    bob.post(f"/api/appointments/{appointment}/cancel", {}).refuse(409, "too-late")
    dora.post(f"{CALENDAR}/{appointment}/arrive", None).expect(200)
    cancelled = dora.post(f"{CALENDAR}/{appointment}/cancel", {"reason": "I am ill"}).expect(200)
    assert (cancelled["status"], cancelled["cancelled_by"], cancelled["cancel_reason"]) == (
        "cancelled",
        "doctor",
        "I am ill",
    )
    assert bob.get(f"/api/appointments/{appointment}").expect(200) == cancelled
    book(bob, cancelled["patient_id"], doctor, cancelled["starts_at"])


def test_the_reception_runs_the_calendar(ann: Client, bob: Client, dora: Client, doctor: int, appointment: int) -> None:
    code = dora.create("/api/invitations", kind="delegate", access="write")["code"]
    ann.post("/api/invitations/accept", {"code": code}).expect(200)
    for_dora = {"Acting-For": str(dora.user["id"])}
    assert [item["patient_name"] for item in ann.get(CALENDAR, headers=for_dora).expect(200)["items"]] == ["Zoë"]
    ann.post(f"{CALENDAR}/{appointment}/arrive", None, headers=for_dora).expect(200)
    closure = {"starts_at": "2030-01-01T00:00:00Z", "ends_at": "2030-01-02T00:00:00Z"}
    ann.post(f"/api/doctors/{doctor}/closures", closure, headers=for_dora).expect(201)
    assert bob.get("/api/audit").expect(200)["items"][0]["actor_id"] == ann.user["id"]


def test_a_booking_tells_a_doctor_nothing_that_another_owner_did_not_book(
    ann: Client, dora: Client, doctor: int, database: Database
) -> None:
    other = new_doctor(ann)
    patient = new_patient(ann, "Secret")
    foreign = ann.create("/api/appointments", **booking(patient, other, free_times(ann, other)[0]))["id"]
    with database.connect("healthcare_doctor") as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT act_as(%s, 'user', '')", [dora.user["id"]])
        assert connection.execute("SELECT booked_patient(%s)", [foreign]).fetchone() == (None,)
        assert connection.execute("SELECT count(*) FROM appointments").fetchone() == (0,)
