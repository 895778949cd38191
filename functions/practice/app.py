from healthcare import appointments, practice, video
from healthcare.appointments import Appointment, CalendarQuery, Cancellation, TooLate, WrongStatus
from healthcare.database.connection import Database
from healthcare.doctors import Doctor
from healthcare.fields import IdText, Page, SearchQuery
from healthcare.practice import NoPractice, OpenedPatient
from healthcare.video import Entry, NotAVideoVisit, NotOpen, VideoNotConfigured
from healthcare.web.api import Api

api = Api()


@api.route("GET", "/api/practice", refusals=[NoPractice])
def read_practice(db: Database) -> Doctor:
    """Read the doctor that you are

    The entry of the directory that your account is linked to.
    """
    return practice.get(db)


@api.route("GET", "/api/practice/appointments", refusals=[NoPractice])
def list_calendar(db: Database, query: CalendarQuery) -> Page[Appointment]:
    """List your calendar, in the order of time"""
    return practice.calendar(db, query)


@api.route("GET", "/api/practice/appointments/{id}")
def read_calendar_appointment(db: Database, id: IdText) -> Appointment:
    """Read an appointment with you"""
    return appointments.get(db, id)


@api.route("POST", "/api/practice/appointments/{id}/arrive", refusals=[WrongStatus])
def arrive(db: Database, id: IdText, if_match: list[int] | None) -> Appointment:
    """Say that the patient has arrived"""
    return appointments.change(db, id, "arrived", if_match)


@api.route("POST", "/api/practice/appointments/{id}/fulfil", refusals=[WrongStatus])
def fulfil(db: Database, id: IdText, if_match: list[int] | None) -> Appointment:
    """Say that the visit took place"""
    return appointments.change(db, id, "fulfilled", if_match)


@api.route("POST", "/api/practice/appointments/{id}/no-show", refusals=[WrongStatus])
def miss(db: Database, id: IdText, if_match: list[int] | None) -> Appointment:
    """Say that the patient did not come

    Once the visit has started.
    """
    return appointments.change(db, id, "noshow", if_match)


@api.route("POST", "/api/practice/appointments/{id}/cancel", refusals=[WrongStatus, TooLate])
def cancel_calendar_appointment(
    db: Database, id: IdText, body: Cancellation, if_match: list[int] | None
) -> Appointment:
    """Cancel an appointment with you, before it starts"""
    return appointments.cancel(db, id, body, if_match)


@api.route(
    "POST",
    "/api/practice/appointments/{id}/join",
    refusals=[NotAVideoVisit, WrongStatus, NotOpen, VideoNotConfigured],
)
def join_calendar_appointment(db: Database, id: IdText) -> Entry:
    """Join a video visit with you

    The room is open from 15 minutes before the visit until 30 minutes after it.
    """
    return video.join(db, id)


@api.route("GET", "/api/practice/patients", refusals=[NoPractice])
def list_opened_patients(db: Database, query: SearchQuery) -> Page[OpenedPatient]:
    """List the patients that are opened to you"""
    return practice.search_patients(db, query)


@api.route("GET", "/api/practice/patients/{id}")
def read_opened_patient(db: Database, id: IdText) -> OpenedPatient:
    """Read a patient that is opened to you"""
    return practice.get_patient(db, id)


lambda_handler = api.handle
