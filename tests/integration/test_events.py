"""What happens to appointments and records, told by mail and to webhooks."""

import json
from collections.abc import Callable
from datetime import datetime
from email.message import EmailMessage
from typing import Any

import pytest

from local.aws.inbox import shown
from tests.booking import book, free_times, later, new_doctor, new_patient
from tests.conftest import Database, Post
from tests.gateway import Client

EVENTS = [
    "appointment.booked",
    "appointment.rescheduled",
    "appointment.cancelled",
    "appointment.arrived",
    "record.created",
]


@pytest.fixture
def doctor(ann: Client) -> int:
    return new_doctor(ann)


@pytest.fixture
def patient(bob: Client) -> int:
    return new_patient(bob)


def _far(client: Client, doctor: int) -> str:
    """A free time in three days."""
    return later(free_times(client, doctor)[0], days=3)


def _subjects(mails: list[EmailMessage]) -> list[str]:
    return sorted(mail["Subject"] for mail in mails)


def _run(post: Post) -> list[str]:
    return _subjects(post.send())


def _come_close(database: Database, appointment: int, hours: int = 23) -> None:
    """Lets time pass until the appointment is so far ahead."""
    with database.connect() as connection:
        connection.execute("SET session_replication_role = replica")  # no trigger fires
        connection.execute(
            """
            UPDATE appointments
               SET starts_at = date_trunc('minute', now()) + %(hours)s * interval '1 hour',
                   ends_at = date_trunc('minute', now()) + (%(hours)s + 0.5) * interval '1 hour',
                   busy_until = date_trunc('minute', now()) + (%(hours)s + 0.5) * interval '1 hour'
             WHERE id = %(id)s
            """,
            {"id": appointment, "hours": hours},
        )


def test_a_booking_a_move_and_a_cancellation_are_mailed_with_a_calendar_file(
    bob: Client, doctor: int, patient: int, post: Post
) -> None:
    post.send()
    time = _far(bob, doctor)
    url = f"/api/appointments/{book(bob, patient, doctor, time, reason='A cough')['id']}"
    (booked,) = post.send()
    bob.post(f"{url}/reschedule", {"starts_at": later(time, hours=1)}).expect(200)
    (moved,) = post.send()
    bob.post(f"{url}/cancel", {"reason": "Better"}).expect(200)
    (cancelled,) = post.send()
    subjects = ["Your appointment is booked", "Your appointment has been moved", "Your appointment is cancelled"]
    assert [mail["Subject"] for mail in (booked, moved, cancelled)] == subjects
    for mail, method, start in (
        (booked, "PUBLISH", time),
        (moved, "PUBLISH", later(time, hours=1)),
        (cancelled, "CANCEL", ""),
    ):
        assert mail["To"] == bob.user["email"]
        (file,) = mail.iter_attachments()
        assert file.get_content_type() == "text/calendar"
        calendar = file.get_content()
        assert f"METHOD:{method}" in calendar
        assert f"DTSTART:{start.replace('-', '').replace(':', '')}" in calendar.replace(";TZID=UTC", "")
        for private in ("Zoë", "cough", "Better", "First visit"):
            assert private not in shown(mail)["text"] + calendar
    assert f"{datetime.fromisoformat(time):%H:%M}" in shown(booked)["text"]
    assert "Who" in shown(booked)["text"]


def test_a_booking_that_is_rolled_back_tells_nobody(bob: Client, doctor: int, patient: int, post: Post) -> None:
    post.send()
    time = _far(bob, doctor)
    book(bob, patient, doctor, time)
    post.send()
    again = {"patient_id": patient, "doctor_id": doctor, "visit": "first", "starts_at": time, "modality": "video"}
    bob.post("/api/appointments", again).refuse(409, "slot-taken")
    assert post.send() == []


def test_a_cancellation_overtakes_the_mail_of_the_booking(bob: Client, doctor: int, patient: int, post: Post) -> None:
    post.send()
    url = f"/api/appointments/{book(bob, patient, doctor, _far(bob, doctor))['id']}"
    bob.post(f"{url}/cancel", {}).expect(200)
    assert _run(post) == ["Your appointment is cancelled"]


def test_a_reminder_comes_a_day_ahead_once(
    bob: Client, doctor: int, patient: int, post: Post, database: Database
) -> None:
    appointment = book(bob, patient, doctor, _far(bob, doctor))["id"]
    assert "Your appointment is soon" not in _run(post)
    _come_close(database, appointment)
    assert _run(post) == ["Your appointment is soon"]
    assert _run(post) == []


def test_a_booking_inside_the_last_day_needs_no_reminder(bob: Client, doctor: int, patient: int, post: Post) -> None:
    post.send()
    book(bob, patient, doctor, free_times(bob, doctor)[0])
    assert _run(post) == ["Your appointment is booked"]
    assert _run(post) == []


def test_there_is_no_reminder_after_a_cancellation_and_one_for_the_new_time_after_a_move(
    bob: Client, doctor: int, patient: int, post: Post, database: Database
) -> None:
    appointment = book(bob, patient, doctor, _far(bob, doctor))["id"]
    post.send()
    _come_close(database, appointment)
    with database.connect() as connection:
        connection.execute("SELECT remind()")  # it waits in the outbox
    time = later(_far(bob, doctor), days=1)
    bob.post(f"/api/appointments/{appointment}/reschedule", {"starts_at": time}).expect(200)
    assert _run(post) == ["Your appointment has been moved"]  # the reminder was of the old time
    _come_close(database, appointment, hours=22)
    assert _run(post) == ["Your appointment is soon"]
    other = book(bob, patient, doctor, _far(bob, doctor))["id"]
    post.send()
    _come_close(database, other)
    with database.connect() as connection:
        connection.execute("SELECT remind()")
    bob.post(f"/api/appointments/{other}/cancel", {}).expect(200)
    assert _run(post) == ["Your appointment is cancelled"]


def test_webhooks_of_the_owner_and_of_the_doctors_account_hear_of_an_appointment(
    ann: Client, bob: Client, sign_up: Callable[..., Client], doctor: int, patient: int, database: Database
) -> None:
    carl = sign_up("Carl")
    for client in (ann, bob, carl):
        client.post("/api/webhooks", {"url": "https://example.com/", "events": EVENTS}).expect(201)
    with database.connect() as connection:
        connection.execute("UPDATE doctors SET account_id = %s", [carl.user["id"]])
    appointment = book(bob, patient, doctor, _far(bob, doctor))["id"]
    bob.post(f"/api/appointments/{appointment}/cancel", {"reason": "Better"}).expect(200)
    note = {"kind": "note", "content": {"text": "Secret words"}}
    record = bob.post(f"/api/patients/{patient}/records", note).expect(201)["id"]
    told: dict[int, list[Any]] = {}
    with database.connect() as connection:
        for user, kind, data in connection.execute(
            "SELECT user_id, kind, data FROM outbox WHERE webhook_id IS NOT NULL ORDER BY id"
        ):
            told.setdefault(user, []).append((kind, data))
    ids = {"appointment_id": appointment, "patient_id": patient, "doctor_id": doctor}
    calendar = [("appointment.booked", ids), ("appointment.cancelled", ids)]
    assert told[bob.user["id"]] == [*calendar, ("record.created", {"record_id": record, "patient_id": patient})]
    assert told[carl.user["id"]] == calendar
    assert ann.user["id"] not in told
    assert "Secret" not in json.dumps(list(told.values()))
