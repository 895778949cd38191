"""Appointments of patients with doctors. The database decides what can be booked, and who may change it to what.

The same functions serve the owner's side and the doctor's: row-level security shows each its own.
"""

from datetime import datetime
from typing import Annotated, Literal, LiteralString

from pydantic import Field

from healthcare.database.connection import IF_MATCH, Constraints, Database
from healthcare.doctors import DoctorNotFound
from healthcare.errors import Conflict, Invalid, NotFound, Stale
from healthcare.fields import (
    Id,
    IdText,
    Input,
    LimitQuery,
    Moment,
    OfPatient,
    Page,
    Reason,
    TimeAndId,
    TimeCursor,
    encode_time_cursor,
    page,
)
from healthcare.hours import Code
from healthcare.patients import PatientNotFound

COLUMNS: LiteralString = """id, patient_id,
       coalesce((SELECT name FROM patients WHERE id = patient_id), booked_patient(id)) AS patient_name,
       doctor_id, (SELECT name FROM doctors WHERE id = doctor_id) AS doctor_name, visit, visit_name, modality,
       starts_at, ends_at, time_zone, status, reason, cancelled_by, cancel_reason, version, created_at, updated_at"""

Modality = Literal["in_person", "video"]
Status = Literal["booked", "arrived", "fulfilled", "noshow", "cancelled"]


class NewAppointment(Input):
    patient_id: Id = Field(examples=[1])
    doctor_id: Id = Field(examples=[1])
    visit: Code = Field(description="The code of one of the doctor's visits.", examples=["first"])
    starts_at: Moment = Field(description="One of the free times.")
    modality: Modality | None = Field(
        None, description="Needed only where the visit can be either.", examples=["video"]
    )
    reason: Reason | None = Field(None, examples=["A cough that stays"])


class Appointment(OfPatient):
    version: int = Field(exclude=True)
    patient_name: str = Field(examples=["Maria Silva"])
    doctor_id: int
    doctor_name: str = Field(examples=["Dr. Grace Okafor"])
    visit: str
    visit_name: str = Field(examples=["First visit"])
    modality: Modality
    starts_at: datetime
    ends_at: datetime = Field(examples=["2026-03-02T10:00:00Z"])
    time_zone: str = Field(description="The doctor's.", examples=["Europe/London"])
    status: Status
    reason: str | None = Field(examples=["A cough that stays"])
    cancelled_by: Literal["owner", "doctor"] | None = Field(examples=[None])
    cancel_reason: str | None = Field(examples=[None])
    created_at: datetime
    updated_at: datetime


class AppointmentNotFound(NotFound):
    detail = "There is no appointment with this id."


class NotOffered(Invalid):
    """The doctor does not offer this visit at this time: outside of the hours, in a closure, too soon or too far ahead,
    or not in this way.

    Ask for the free times of the visit, and book one of them.
    """

    slug, title = "not-offered", "This time is not offered"
    detail = "The doctor does not offer this visit at this time or in this way; `errors` says which."


class SlotTaken(Conflict):
    """Somebody else has this time of the doctor's.

    Ask for the free times again, and book another one.
    """

    slug, title = "slot-taken", "The time is taken"
    detail = "Somebody else has this time."


class PatientBusy(Conflict):
    """The patient has another appointment at this time.

    Choose another time, or cancel the other appointment first.
    """

    slug, title = "patient-busy", "The patient has another appointment"
    detail = "The patient has another appointment at this time."


class TooManyBookings(Conflict):
    """You have as many appointments with this doctor ahead of you as one account may have.

    Wait until one is over, or cancel one.
    """

    slug, title = "too-many-bookings", "There are too many bookings"
    detail = "You have as many appointments with this doctor as one account may have."


class WrongStatus(Conflict):
    """The appointment's status does not allow this step: a cancelled one stays cancelled, for instance.

    Read it again; its `status` says how it stands.
    """

    slug, title = "wrong-status", "The appointment's status does not allow it"
    detail = "The appointment's status does not allow it."


class TooLate(Conflict):
    """The appointment starts too soon, or has started, so it can no longer be cancelled or moved.

    Call the doctor.
    """

    slug, title = "too-late", "It is too late"
    detail = "It is too late to cancel or move this appointment."


# Each entry: the constraint of the database that refused, and what that means.
_PLACE: Constraints = {
    "appointments_patient_fkey": lambda: PatientNotFound("There is no patient with this patient_id."),
    "appointments_doctor_fkey": lambda: DoctorNotFound("There is no doctor with this doctor_id."),
    "appointments_offered": lambda: NotOffered([("/starts_at", "Input should be a free time of this visit")]),
    "appointments_modality": lambda: NotOffered([("/modality", "Input should be one that the visit can have")]),
    "appointments_doctor_excl": SlotTaken,
    "appointments_patient_excl": PatientBusy,
    "appointments_per_account": TooManyBookings,
}
_CHANGE: Constraints = {
    "appointments_transition": WrongStatus,
    "appointments_started": lambda: WrongStatus("The appointment has not started yet."),
    "appointments_in_time": TooLate,
}


def create(db: Database, new: NewAppointment) -> Appointment:
    """Raises NotFound for the patient or the doctor, NotOffered, SlotTaken, PatientBusy and TooManyBookings."""
    appointment = db.row(
        Appointment,
        f"""
        INSERT INTO appointments (owner_id, patient_id, doctor_id, visit, modality, starts_at, reason)
        VALUES (%(owner_id)s, %(patient_id)s, %(doctor_id)s, %(visit)s, %(modality)s, %(starts_at)s, %(reason)s)
        RETURNING {COLUMNS}
        """,
        owner_id=db.user_id,
        **dict(new),
        constraints=_PLACE,
    )
    assert appointment
    return appointment


def get(db: Database, id: int) -> Appointment:
    appointment = db.row(
        Appointment,
        f"""
        SELECT {COLUMNS}
          FROM appointments
         WHERE id = %(id)s
        """,
        id=id,
    )
    if appointment is None:
        raise AppointmentNotFound
    return appointment


class CalendarQuery(LimitQuery):
    cursor: Annotated[TimeCursor | None, Field(description="The `next_cursor` of the page before.")] = None
    status: Status | None = Field(None, description="Only those with this status.")
    since: Moment | None = Field(None, alias="from", description="What starts then or later.")
    until: Moment | None = Field(None, alias="to", description="What starts before then.")


class AppointmentQuery(CalendarQuery):
    patient_id: IdText | None = Field(None, description="Only those of this patient.")
    doctor_id: IdText | None = Field(None, description="Only those with this doctor.")


def search(db: Database, query: CalendarQuery) -> Page[Appointment]:
    """In the order of time."""
    found = db.rows(
        Appointment,
        f"""
        SELECT {COLUMNS}
          FROM appointments
         WHERE (%(after)s::timestamptz IS NULL OR (starts_at, id) > (%(after)s, %(after_id)s))
           AND (%(patient_id)s::bigint IS NULL OR patient_id = %(patient_id)s)
           AND (%(doctor_id)s::bigint IS NULL OR doctor_id = %(doctor_id)s)
           AND (%(status)s::text IS NULL OR status = %(status)s)
           AND (%(since)s::timestamptz IS NULL OR starts_at >= %(since)s)
           AND (%(until)s::timestamptz IS NULL OR starts_at < %(until)s)
         ORDER BY starts_at, id
         LIMIT %(limit)s + 1
        """,
        after=query.cursor and query.cursor.time,
        after_id=query.cursor and query.cursor.id,
        **{"patient_id": None, "doctor_id": None, **dict(query)},
    )
    return page(Appointment, found, query, cursor=lambda last: encode_time_cursor(TimeAndId(last.starts_at, last.id)))


class NewTime(Input):
    starts_at: Moment = Field(description="One of the free times.")


class Cancellation(Input):
    reason: Reason | None = Field(None, examples=["We are travelling"])


def reschedule(db: Database, id: int, new: NewTime, if_match: list[int] | None) -> Appointment:
    """Moves it, or leaves it as it is; one that stands there already stays, whatever `if_match` says.

    Raises AppointmentNotFound, Stale, WrongStatus, TooLate, and what `create` raises.
    """
    appointment = db.row(
        Appointment,
        f"""
        UPDATE appointments
           SET starts_at = %(starts_at)s, status = 'booked'
         WHERE id = %(id)s AND (starts_at = %(starts_at)s AND status = 'booked' OR {IF_MATCH})
        RETURNING {COLUMNS}
        """,
        id=id,
        starts_at=new.starts_at,
        if_match=if_match,
        constraints={**_PLACE, **_CHANGE},
    )
    if appointment is None:
        raise _stale(db, id)
    return appointment


def change(
    db: Database, id: int, status: Status, if_match: list[int] | None, cancel_reason: str | None = None
) -> Appointment:
    """One that has this status already stays as it is, whatever `if_match` says.

    Raises AppointmentNotFound, Stale, WrongStatus and TooLate.
    """
    appointment = db.row(
        Appointment,
        f"""
        UPDATE appointments
           SET status = %(status)s,
               cancel_reason = CASE WHEN status = %(status)s THEN cancel_reason ELSE %(cancel_reason)s END
         WHERE id = %(id)s AND (status = %(status)s OR {IF_MATCH})
        RETURNING {COLUMNS}
        """,
        id=id,
        status=status,
        cancel_reason=cancel_reason,
        if_match=if_match,
        constraints=_CHANGE,
    )
    if appointment is None:
        raise _stale(db, id)
    return appointment


def _stale(db: Database, id: int) -> Stale:
    get(db, id)
    return Stale()
