"""Appointments, as the owner of the patients sees them."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import icalendar
import pytest
from livekit.api import TokenVerifier
from psycopg import errors

from tests.booking import HOURS, VISIT, book, booking, free_times, later, let_pass, new_doctor, new_patient
from tests.conftest import Database, LogLines
from tests.gateway import Client

SERVER = {"url": "wss://video.example.com", "key": "key", "secret": "a secret of LiveKit's with thirty-two bytes"}


@pytest.fixture
def doctor(ann: Client) -> int:
    return new_doctor(ann)


@pytest.fixture
def patient(bob: Client) -> int:
    return new_patient(bob)


def test_a_free_time_is_booked_read_and_no_longer_free(bob: Client, doctor: int, patient: int) -> None:
    times = free_times(bob, doctor)
    answer = bob.post("/api/appointments", booking(patient, doctor, times[4], reason="A cough"))
    appointment = answer.expect(201)
    made_up = {"id", "created_at", "updated_at"}
    assert {name: value for name, value in appointment.items() if name not in made_up} == {
        "patient_id": patient,
        "patient_name": "Zoë",
        "doctor_id": doctor,
        "doctor_name": "Who",
        "visit": "first",
        "visit_name": "First visit",
        "modality": "video",
        "starts_at": times[4],
        "ends_at": later(times[4], minutes=30),
        "time_zone": "Etc/UTC",
        "status": "booked",
        "reason": "A cough",
        "cancelled_by": None,
        "cancel_reason": None,
    }
    assert answer.headers["Location"].endswith(f"/api/appointments/{appointment['id']}")
    read = bob.get(f"/api/appointments/{appointment['id']}")
    assert read.expect(200) == appointment
    assert read.headers["ETag"] == answer.headers["ETag"] == '"1"'
    # Thirty minutes that begin a quarter of an hour earlier or later would overlap.
    assert free_times(bob, doctor)[:4] == [*times[:3], times[6]]


def test_nobody_sees_or_changes_the_appointment_of_somebody_else(
    ann: Client, bob: Client, doctor: int, patient: int
) -> None:
    times = free_times(bob, doctor)
    url = f"/api/appointments/{book(bob, patient, doctor, times[0])['id']}"
    for answer in (
        ann.get(url),
        ann.get(f"{url}/ics"),
        ann.post(f"{url}/cancel", {}),
        ann.post(f"{url}/reschedule", {"starts_at": times[9]}),
        ann.post(f"{url}/join", None),
        ann.get("/api/appointments/999"),
    ):
        answer.refuse(404, "not-found")
    assert ann.walk("/api/appointments") == []
    assert bob.get(url).expect(200)["status"] == "booked"


def test_whoever_books_is_told_which_of_patient_and_doctor_is_missing(
    ann: Client, bob: Client, doctor: int, patient: int
) -> None:
    time = free_times(bob, doctor)[0]
    book(bob, patient, doctor, time)
    other = new_doctor(ann)
    # Another owner's patient is as unknown as none, also at a time when it has an appointment.
    for client, body, missing in [
        (bob, booking(999, doctor, time), "patient_id"),
        (ann, booking(patient, other, time), "patient_id"),
        (ann, booking(patient, other, later(time, days=2)), "patient_id"),
        (bob, booking(patient, 999, time), "doctor_id"),
    ]:
        assert (
            client.post("/api/appointments", body).refuse(404, "not-found")["detail"].endswith(f"with this {missing}.")
        )


def test_a_time_is_booked_once_and_a_patient_is_in_one_place(
    ann: Client, bob: Client, doctor: int, patient: int
) -> None:
    time = free_times(bob, doctor)[4]
    book(bob, patient, doctor, time)
    anns = new_patient(ann)
    for minutes in (-15, 0, 15):
        refused = ann.post("/api/appointments", booking(anns, doctor, later(time, minutes=minutes)))
        assert time not in json.dumps(refused.refuse(409, "slot-taken"))
    other = new_doctor(ann)
    for minutes in (-15, 0, 15):
        refused = bob.post("/api/appointments", booking(patient, other, later(time, minutes=minutes)))
        refused.refuse(409, "patient-busy")
    book(ann, anns, other, time)
    book(bob, patient, other, later(time, minutes=30))


def test_the_buffer_is_the_doctors_and_not_the_patients(ann: Client, bob: Client, patient: int) -> None:
    doctor, other = new_doctor(ann, buffer_minutes=20), new_doctor(ann)
    time = free_times(bob, doctor)[4]
    book(bob, patient, doctor, time)
    second = new_patient(bob, "Ada")
    for minutes in (-45, 45):
        bob.post("/api/appointments", booking(second, doctor, later(time, minutes=minutes))).refuse(409, "slot-taken")
    book(bob, patient, other, later(time, minutes=30))
    book(bob, second, doctor, later(time, minutes=60))


@pytest.mark.parametrize(
    "change",
    [
        {"minutes": 7},  # between two starts
        {"minutes": 1 / 60},
        {"days": 91},  # beyond the horizon
        {"days": -1},
        {"hours": -1},  # without notice
    ],
)
def test_a_time_that_is_not_offered_is_not_booked(
    bob: Client, doctor: int, patient: int, change: dict[str, int]
) -> None:
    time = later(free_times(bob, doctor, soon=True)[0], **change)
    problem = bob.post("/api/appointments", booking(patient, doctor, time)).refuse(422, "not-offered")
    assert [error["pointer"] for error in problem["errors"]] == ["/starts_at"]


def test_what_is_offered_is_decided_by_hours_closures_and_visits_as_they_are(
    ann: Client, bob: Client, doctor: int, patient: int
) -> None:
    time = free_times(bob, doctor)[4]
    bob.post("/api/appointments", booking(patient, doctor, time, visit="other")).refuse(422, "not-offered")
    closure = ann.create(
        f"/api/doctors/{doctor}/closures", starts_at=later(time, minutes=29), ends_at=later(time, hours=1)
    )
    bob.post("/api/appointments", booking(patient, doctor, time)).refuse(422, "not-offered")
    ann.delete(f"/api/doctors/{doctor}/closures/{closure['id']}").expect(204)
    ann.put(f"/api/doctors/{doctor}/hours", HOURS | {"weekly": []}).expect(200)
    bob.post("/api/appointments", booking(patient, doctor, time)).refuse(422, "not-offered")
    without_hours = ann.create("/api/doctors", name="Who", specialty="Time")["id"]
    bob.post("/api/appointments", booking(patient, without_hours, time)).refuse(422, "not-offered")


def test_how_a_visit_takes_place_is_the_visits_or_chosen(bob: Client, doctor: int, patient: int) -> None:
    times = free_times(bob, doctor)
    for body in (
        booking(patient, doctor, times[0], modality=None),
        booking(patient, doctor, times[0], visit="talk", modality="in_person"),
    ):
        problem = bob.post("/api/appointments", body).refuse(422, "not-offered")
        assert [error["pointer"] for error in problem["errors"]] == ["/modality"]
    assert book(bob, patient, doctor, times[0], modality="in_person")["modality"] == "in_person"
    assert book(bob, patient, doctor, times[4], visit="talk", modality=None)["modality"] == "video"


def test_an_account_has_no_more_bookings_to_come_than_the_doctor_allows(
    ann: Client, bob: Client, patient: int, database: Database
) -> None:
    doctor = new_doctor(ann, bookings_per_account=2)
    times = free_times(bob, doctor)
    first, second = book(bob, patient, doctor, times[0]), book(bob, patient, doctor, times[4])
    bob.post("/api/appointments", booking(patient, doctor, times[8])).refuse(409, "too-many-bookings")
    bob.post(f"/api/appointments/{second['id']}/reschedule", {"starts_at": times[8]}).expect(200)
    book(ann, new_patient(ann), doctor, times[4])
    bob.post(f"/api/appointments/{second['id']}/cancel", {}).expect(200)
    book(bob, patient, doctor, times[12])
    bob.post("/api/appointments", booking(patient, doctor, times[16])).refuse(409, "too-many-bookings")
    let_pass(database, first["id"], days=2)
    book(bob, patient, doctor, times[16])


def test_a_retry_with_the_same_key_books_once(bob: Client, doctor: int, patient: int) -> None:
    body = booking(patient, doctor, free_times(bob, doctor)[0])
    first, second = (bob.post("/api/appointments", body, headers={"Idempotency-Key": "one"}) for _ in range(2))
    assert (first.expect(201), first.headers["Location"]) == (second.expect(201), second.headers["Location"])
    bob.post("/api/appointments", body, headers={"Idempotency-Key": "two"}).refuse(409, "slot-taken")
    assert bob.walk("/api/appointments") == [first.json]


# Lists --------------------------------------------------------------------------------------------------------------


def test_lists_are_in_the_order_of_time_and_can_be_narrowed(ann: Client, bob: Client, patient: int) -> None:
    doctors, patients = [new_doctor(ann), new_doctor(ann)], [patient, new_patient(bob, "Ada")]
    times = free_times(bob, doctors[0])[:40:4]
    # Two at the same time, and later times first.
    made = [
        book(bob, patients[which], doctors[which], time)
        for number, time in enumerate(times[::-1])
        for which in ((0, 1) if number % 2 else (1,))
    ]
    ordered = sorted(made, key=lambda appointment: (appointment["starts_at"], appointment["id"]))
    for limit in (1, 2, 7, 100):
        assert bob.walk(f"/api/appointments?limit={limit}") == ordered
    cancelled = bob.post(f"/api/appointments/{ordered[3]['id']}/cancel", {}).expect(200)
    ordered[3] = cancelled
    for query, is_meant in {
        f"patient_id={patient}": lambda a: a["patient_id"] == patient,
        f"doctor_id={doctors[1]}": lambda a: a["doctor_id"] == doctors[1],
        "status=cancelled": lambda a: a["status"] == "cancelled",
        "status=arrived": lambda a: False,
        f"from={times[3]}&to={times[6]}": lambda a: times[3] <= a["starts_at"] < times[6],
    }.items():
        assert bob.walk(f"/api/appointments?limit=2&{query}") == [a for a in ordered if is_meant(a)], query
    assert ann.walk("/api/appointments") == []
    page = bob.get("/api/appointments?limit=1")
    assert page.headers["Link"] == f'</v1/api/appointments?limit=1&cursor={page.json["next_cursor"]}>; rel="next"'


def test_a_walk_meets_every_appointment_that_stands_although_others_come_move_and_go(
    ann: Client, bob: Client, patient: int
) -> None:
    doctor = new_doctor(ann)
    times = free_times(bob, doctor)[::4]
    standing = [book(bob, patient, doctor, time)["id"] for time in (times[1], times[3], times[5])]
    moving = book(bob, patient, doctor, times[2])["id"]
    page = bob.get("/api/appointments?limit=2").expect(200)
    assert [item["id"] for item in page["items"]] == [standing[0], moving]
    # Where the cursor stands, there is nothing any more.
    bob.post(f"/api/appointments/{moving}/reschedule", {"starts_at": times[4]}).expect(200)
    book(bob, patient, doctor, times[0])
    rest = bob.get(f"/api/appointments?cursor={page['next_cursor']}").expect(200)
    assert [item["id"] for item in rest["items"]] == [standing[1], moving, standing[2]]


@pytest.mark.parametrize("cursor", ["", "A", "A" * 17, "AAAAAI" + "A" * 10, "AAAAAA==AAAAAAAA", "0", "é" * 16])
def test_a_cursor_that_no_page_gave_is_refused(bob: Client, cursor: str) -> None:
    problem = bob.get(f"/api/appointments?cursor={cursor}").refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == ["query/cursor"]


# Changes ------------------------------------------------------------------------------------------------------------


def test_a_cancelled_appointment_frees_its_time_and_stays_cancelled(bob: Client, doctor: int, patient: int) -> None:
    times = free_times(bob, doctor)
    url = f"/api/appointments/{book(bob, patient, doctor, times[4])['id']}"
    bob.post(f"{url}/cancel", {}, headers={"If-Match": '"9"'}).refuse(412, "stale")
    answer = bob.post(f"{url}/cancel", {"reason": "Travelling"}, headers={"If-Match": '"1"'})
    cancelled = answer.expect(200)
    assert (cancelled["status"], cancelled["cancelled_by"], cancelled["cancel_reason"]) == (
        "cancelled",
        "owner",
        "Travelling",
    )
    assert answer.headers["ETag"] == '"2"'
    assert free_times(bob, doctor) == times
    # Again, as after an answer that was lost: with the version of then, too.
    for headers in ({}, {"If-Match": '"1"'}):
        again = bob.post(f"{url}/cancel", {"reason": "Another one"}, headers=headers)
        assert (again.expect(200), again.headers["ETag"]) == (cancelled, '"2"')
    for time in (times[4], times[8]):
        bob.post(f"{url}/reschedule", {"starts_at": time}).refuse(409, "wrong-status")
    book(bob, patient, doctor, times[4])


def test_a_move_is_all_or_nothing_and_in_place(ann: Client, bob: Client, doctor: int, patient: int) -> None:
    times = free_times(bob, doctor)
    appointment = book(bob, patient, doctor, times[4], reason="A cough")
    url = f"/api/appointments/{appointment['id']}"
    book(ann, new_patient(ann), doctor, times[8])
    other = new_doctor(ann)
    book(bob, patient, other, times[12])
    for time, status, slug in [
        (times[8], 409, "slot-taken"),
        (times[12], 409, "patient-busy"),
        (later(times[5], minutes=1), 422, "not-offered"),
    ]:
        bob.post(f"{url}/reschedule", {"starts_at": time}).refuse(status, slug)
        assert bob.get(url).expect(200) == appointment
    bob.post(f"{url}/reschedule", {"starts_at": times[5]}, headers={"If-Match": '"7"'}).refuse(412, "stale")
    # By a quarter of an hour, over where it lies itself.
    answer = bob.post(f"{url}/reschedule", {"starts_at": times[5]}, headers={"If-Match": '"1"'})
    moved = answer.expect(200)
    expected = appointment | {"starts_at": times[5], "ends_at": later(times[5], minutes=30)}
    assert moved == expected | {"updated_at": moved["updated_at"]}
    again = bob.post(f"{url}/reschedule", {"starts_at": times[5]}, headers={"If-Match": '"1"'})
    assert (again.expect(200), again.headers["ETag"]) == (moved, '"2"')
    assert times[3] in free_times(bob, doctor)


def test_a_move_is_to_what_the_doctor_offers_now(ann: Client, bob: Client, doctor: int, patient: int) -> None:
    times = free_times(bob, doctor)
    url = f"/api/appointments/{book(bob, patient, doctor, times[4])['id']}"
    longer = [VISIT | {"minutes": 60, "name": "A longer visit"}]
    ann.put(f"/api/doctors/{doctor}/hours", HOURS | {"visits": longer, "time_zone": "Europe/Berlin"}).expect(200)
    moved = bob.post(f"{url}/reschedule", {"starts_at": times[8]}).expect(200)
    assert (moved["ends_at"], moved["visit_name"]) == (later(times[8], minutes=60), "A longer visit")
    assert moved["time_zone"] == "Europe/Berlin"
    ann.put(f"/api/doctors/{doctor}/hours", HOURS | {"visits": [VISIT | {"modality": "in_person"}]}).expect(200)
    problem = bob.post(f"{url}/reschedule", {"starts_at": times[4]}).refuse(422, "not-offered")
    assert [error["pointer"] for error in problem["errors"]] == ["/modality"]


def test_what_starts_soon_or_has_started_is_neither_cancelled_nor_moved(
    ann: Client, bob: Client, patient: int, database: Database
) -> None:
    doctor = new_doctor(ann, cancel_minutes=24 * 60, notice_minutes=0)
    times = free_times(bob, doctor, f"&from={later(_now(), hours=25)}")
    appointment = book(bob, patient, doctor, times[0])
    url = f"/api/appointments/{appointment['id']}"
    bob.post(f"{url}/reschedule", {"starts_at": times[1]}).expect(200)
    let_pass(database, appointment["id"], hours=3)
    bob.post(f"{url}/cancel", {}).refuse(409, "too-late")
    bob.post(f"{url}/reschedule", {"starts_at": times[9]}).refuse(409, "too-late")
    ann.put(f"/api/doctors/{doctor}/hours", HOURS).expect(200)
    let_pass(database, appointment["id"], hours=23)
    bob.post(f"{url}/cancel", {}).refuse(409, "too-late")


# What stays ---------------------------------------------------------------------------------------------------------


def test_a_patient_goes_with_its_cancelled_appointments_and_stays_with_others(
    bob: Client, doctor: int, patient: int, database: Database
) -> None:
    appointment = book(bob, patient, doctor, free_times(bob, doctor)[0])["id"]
    bob.delete(f"/api/patients/{patient}").refuse(409, "has-appointments")
    with database.connect() as connection:
        connection.execute("UPDATE appointments SET status = 'arrived'")
        connection.execute("UPDATE appointments SET status = 'fulfilled'")
    bob.delete(f"/api/patients/{patient}").refuse(409, "has-history")
    other = new_patient(bob)
    other_appointment = book(bob, other, doctor, free_times(bob, doctor)[0])["id"]
    bob.post(f"/api/appointments/{other_appointment}/cancel", {}).expect(200)
    bob.delete(f"/api/patients/{other}").expect(204)
    assert [item["id"] for item in bob.walk("/api/appointments")] == [appointment]
    actions = [(event["resource"], event["action"]) for event in bob.walk(f"/api/audit?patient_id={other}")]
    assert actions == [
        ("appointment", "delete"),
        ("patient", "delete"),
        ("appointment", "update"),
        ("appointment", "create"),
        ("patient", "create"),
    ]


def test_a_doctor_with_appointments_stays(ann: Client, bob: Client, doctor: int, patient: int) -> None:
    appointment = book(bob, patient, doctor, free_times(bob, doctor)[0])["id"]
    ann.delete(f"/api/doctors/{doctor}").refuse(409, "doctor-in-use")
    bob.post(f"/api/appointments/{appointment}/cancel", {}).expect(200)
    ann.delete(f"/api/doctors/{doctor}").expect(204)
    bob.get(f"/api/appointments/{appointment}").refuse(404, "not-found")
    bob.get(f"/api/doctors/{doctor}/hours").refuse(404, "not-found")


def test_the_access_log_and_the_audit_say_whose_appointment_it_was(
    bob: Client, doctor: int, patient: int, log_lines: LogLines
) -> None:
    appointment = book(bob, patient, doctor, free_times(bob, doctor)[0], reason="Secret")["id"]
    bob.get("/api/appointments").expect(200)
    assert bob.get(f"/api/appointments/{appointment}/ics").status == 200
    bob.post(f"/api/appointments/{appointment}/cancel", {"reason": "Secret"}).expect(200)
    lines = [line for line in log_lines() if "/api/appointments" in line["message"]]
    assert [line["patients"] for line in lines] == [[patient]] * 4
    assert "Secret" not in json.dumps(lines)
    events = bob.get(f"/api/audit?patient_id={patient}").expect(200)["items"]
    assert [(event["resource"], event["resource_id"], event["action"]) for event in events[:2]] == [
        ("appointment", appointment, "update"),
        ("appointment", appointment, "create"),
    ]
    # That the room changed shows, and no room.
    assert events[0]["changes"].keys() == {"status", "cancelled_by", "cancel_reason", "room"}
    assert events[0]["changes"]["room"] == {"from": None, "to": None}


# States -------------------------------------------------------------------------------------------------------------

STATES = ("booked", "arrived", "fulfilled", "noshow", "cancelled")
LEADS_TO = {
    ("booked", "arrived"),
    ("arrived", "fulfilled"),
    ("booked", "noshow"),
    ("booked", "cancelled"),
    ("arrived", "cancelled"),
}


@pytest.mark.parametrize("role", ["healthcare_owner", "healthcare_api", "healthcare_doctor"])
def test_no_role_takes_a_way_between_states_that_is_not_in_the_table(
    ann: Client, bob: Client, doctor: int, patient: int, database: Database, role: str
) -> None:
    appointment = book(bob, patient, doctor, free_times(bob, doctor)[0])["id"]
    user = ann.user["id"] if role == "healthcare_doctor" else bob.user["id"]
    with database.connect() as superuser:
        superuser.execute("UPDATE doctors SET account_id = %s", [ann.user["id"]])
        superuser.execute("SET session_replication_role = replica")
        for before in STATES:
            for after in STATES:
                # Nobody fails to come to what has not started, and what has started is not cancelled.
                starts_at = datetime.now(UTC) + timedelta(days=-1 if after == "noshow" else 1)
                superuser.execute(
                    """
                    UPDATE appointments
                       SET status = %(status)s, cancelled_by = CASE %(status)s WHEN 'cancelled' THEN 'owner' END,
                           starts_at = date_trunc('hour', %(start)s), ends_at = %(start)s, busy_until = %(start)s
                    """,
                    {"status": before, "start": starts_at},
                )
                leads_on = (before, after) in LEADS_TO and (role != "healthcare_api" or after == "cancelled")
                assert _becomes(database, role, user, after) == (leads_on or before == after), (before, after)
    assert database.value("SELECT id FROM appointments") == appointment


def _becomes(database: Database, role: str, user: int, status: str) -> bool:
    """Whether the role may give the only appointment this status; it is taken back."""
    with database.connect(role) as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT act_as(%s, 'user', '')", [user])
        try:
            return connection.execute("UPDATE appointments SET status = %s", [status]).rowcount == 1
        except errors.CheckViolation as refusal:
            return refusal.diag.constraint_name != "appointments_transition"


def test_only_the_database_says_who_cancelled_and_where_a_visit_takes_place(database: Database) -> None:
    for role in ("healthcare_api", "healthcare_doctor"):
        with database.connect(role) as connection:
            for column in (
                "cancelled_by",
                "room",
                "ends_at",
                "busy_until",
                "visit",
                "owner_id",
                "doctor_id",
                "time_zone",
            ):
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(f"UPDATE appointments SET {column} = {column}")
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute("DELETE FROM appointments")
    with database.connect("healthcare_doctor") as connection, pytest.raises(errors.InsufficientPrivilege):
        connection.execute("UPDATE appointments SET starts_at = starts_at")


# Calendars ----------------------------------------------------------------------------------------------------------


def test_a_calendar_file_follows_an_appointment_and_names_no_patient(bob: Client, doctor: int, patient: int) -> None:
    times = free_times(bob, doctor)
    appointment = book(bob, patient, doctor, times[4], reason="Secret")
    url = f"/api/appointments/{appointment['id']}"

    def event() -> tuple[icalendar.Calendar, Any]:
        answer = bob.get(f"{url}/ics")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/calendar; charset=utf-8"
        assert answer.headers["ETag"] == bob.get(url).headers["ETag"]
        for hidden in ("Secret", "Zoë", "First visit"):
            assert hidden not in answer.text.replace("\r\n ", "")
        calendar = icalendar.Calendar.from_ical(answer.text)
        (event,) = calendar.walk("VEVENT")
        return calendar, event

    calendar, booked = event()
    assert (calendar["METHOD"], calendar["VERSION"]) == ("PUBLISH", "2.0")
    assert _text(booked.decoded("DTSTART")) == times[4]
    assert _text(booked.decoded("DTEND")) == later(times[4], minutes=30)
    assert (booked["SUMMARY"], booked["STATUS"], booked["SEQUENCE"]) == ("Appointment with Who", "CONFIRMED", 0)
    bob.post(f"{url}/reschedule", {"starts_at": times[8]}).expect(200)
    _, moved = event()
    assert (moved["UID"], moved["SEQUENCE"], _text(moved.decoded("DTSTART"))) == (booked["UID"], 1, times[8])
    bob.post(f"{url}/cancel", {}).expect(200)
    calendar, cancelled = event()
    assert (cancelled["UID"], cancelled["SEQUENCE"], cancelled["STATUS"]) == (booked["UID"], 2, "CANCELLED")
    assert calendar["METHOD"] == "CANCEL"
    other = book(bob, patient, doctor, times[4])["id"]
    assert str(booked["UID"]) not in bob.get(f"/api/appointments/{other}/ics").text


# Video --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def video_server(secrets_manager: None) -> Iterator[Callable[[object], None]]:
    """Puts what the secret holds."""
    client = boto3.client("secretsmanager")
    client.create_secret(Name="healthcare/video", SecretString=json.dumps(SERVER))
    yield lambda value: client.put_secret_value(SecretId="healthcare/video", SecretString=json.dumps(value))
    client.delete_secret(SecretId="healthcare/video", ForceDeleteWithoutRecovery=True)


@pytest.fixture
def begun(bob: Client, doctor: int, patient: int, database: Database) -> int:
    """A video visit that starts in less than 15 minutes."""
    time = free_times(bob, doctor, soon=True)[0]
    appointment: int = book(bob, patient, doctor, time)["id"]
    let_pass(database, appointment, minutes=60)
    return appointment


def test_a_video_visit_is_joined_with_a_token_that_livekits_own_code_takes(
    bob: Client, begun: int, patient: int, video_server: object, log_lines: LogLines
) -> None:
    answers = [bob.post(f"/api/appointments/{begun}/join", None).expect(200) for _ in range(2)]
    entry = answers[0]
    assert entry.keys() == {"url", "room", "token", "expires_at"}
    assert entry["url"] == SERVER["url"]
    claims = TokenVerifier(SERVER["key"], SERVER["secret"]).verify(entry["token"])
    assert claims.video
    assert (claims.video.room, claims.video.room_join) == (entry["room"], True)
    assert not any([claims.video.room_admin, claims.video.room_create, claims.video.room_list])
    # The same person again takes the place of before, and nobody learns who it is.
    again = TokenVerifier(SERVER["key"], SERVER["secret"]).verify(answers[1]["token"])
    assert again.identity == claims.identity
    assert len(claims.identity) == 64
    assert (claims.name, claims.metadata, claims.attributes) == ("", "", {})
    good_for = datetime.fromisoformat(entry["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=2) < good_for <= timedelta(minutes=5)
    joined = [line for line in log_lines() if "/join" in line["message"]]
    assert [line["patients"] for line in joined] == [[patient]] * 2
    assert entry["token"] not in json.dumps(joined)
    with pytest.raises(Exception, match="Signature verification failed"):
        TokenVerifier(SERVER["key"], "another secret with as many bytes as that one").verify(entry["token"])


def test_both_sides_meet_in_one_room_as_two_people(
    ann: Client, bob: Client, doctor: int, begun: int, video_server: object, database: Database
) -> None:
    with database.connect() as connection:
        connection.execute("UPDATE doctors SET account_id = %s WHERE id = %s", [ann.user["id"], doctor])
    urls = [(bob, f"/api/appointments/{begun}/join"), (ann, f"/api/practice/appointments/{begun}/join")]
    entries = [client.post(url, None).expect(200) for client, url in urls]
    verifier = TokenVerifier(SERVER["key"], SERVER["secret"])
    assert entries[0]["room"] == entries[1]["room"]
    assert len({verifier.verify(entry["token"]).identity for entry in entries}) == 2


def test_a_move_and_a_cancellation_give_a_room_up(bob: Client, doctor: int, patient: int, database: Database) -> None:
    times = free_times(bob, doctor)
    appointment = book(bob, patient, doctor, times[4])["id"]
    rooms = {database.value("SELECT room FROM appointments")}
    bob.post(f"/api/appointments/{appointment}/reschedule", {"starts_at": times[8]}).expect(200)
    rooms.add(database.value("SELECT room FROM appointments"))
    bob.post(f"/api/appointments/{appointment}/cancel", {}).expect(200)
    rooms.add(database.value("SELECT room FROM appointments"))
    assert len(rooms) == 3


def test_the_room_is_open_from_before_the_visit_until_after_it(
    bob: Client, doctor: int, patient: int, video_server: object, database: Database
) -> None:
    appointment = book(bob, patient, doctor, free_times(bob, doctor)[0])
    url = f"/api/appointments/{appointment['id']}/join"
    early = bob.post(url, None)
    early.refuse(409, "not-open")
    opens_in = datetime.fromisoformat(appointment["starts_at"]) - timedelta(minutes=15) - datetime.now(UTC)
    assert 0 <= int(early.headers["Retry-After"]) - opens_in.total_seconds() < 2
    until_it_starts = datetime.fromisoformat(appointment["starts_at"]) - datetime.now(UTC)
    let_pass(database, appointment["id"], seconds=until_it_starts.total_seconds() // 1 - 14 * 60)
    bob.post(url, None).expect(200)
    let_pass(database, appointment["id"], minutes=14 + 30 + 29)
    bob.post(url, None).expect(200)
    let_pass(database, appointment["id"], minutes=2)
    late = bob.post(url, None)
    late.refuse(409, "not-open")
    assert "Retry-After" not in late.headers


def test_what_is_no_visit_by_video_or_none_any_more_is_not_joined(
    bob: Client, doctor: int, patient: int, begun: int, database: Database
) -> None:
    time = free_times(bob, doctor)[4]
    in_person = book(bob, patient, doctor, time, modality="in_person")["id"]
    bob.post(f"/api/appointments/{in_person}/join", None).refuse(409, "not-a-video-visit")
    bob.post(f"/api/appointments/{begun}/cancel", {}).expect(200)
    bob.post(f"/api/appointments/{begun}/join", None).refuse(409, "wrong-status")


def test_without_a_server_for_video_a_visit_is_not_joined(
    bob: Client, begun: int, video_server: Callable[[object], None]
) -> None:
    url = f"/api/appointments/{begun}/join"
    for incomplete in ({}, {"url": "wss://video.example.com", "key": "k"}):
        video_server(incomplete)
        bob.post(url, None).refuse(503, "video-not-configured")
    video_server(SERVER)
    bob.post(url, None).expect(200)


def _now() -> str:
    return _text(datetime.now(UTC))


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
