from healthcare import appointments, hours, ics, video
from healthcare.appointments import (
    Appointment,
    AppointmentQuery,
    Cancellation,
    NewAppointment,
    NewTime,
    NotOffered,
    PatientBusy,
    SlotTaken,
    TooLate,
    TooManyBookings,
    WrongStatus,
)
from healthcare.database.connection import Database
from healthcare.doctors import DoctorNotFound
from healthcare.fields import IdText, Page, PageQuery
from healthcare.hours import (
    BookingsInTheWay,
    Closure,
    Hours,
    NewClosure,
    NewHours,
    NotYourCalendar,
    Slots,
    SlotsQuery,
)
from healthcare.ics import CalendarFile
from healthcare.patients import PatientNotFound
from healthcare.video import Entry, NotAVideoVisit, NotOpen, VideoNotConfigured
from healthcare.web.api import Api

api = Api()


@api.route("PUT", "/api/doctors/{id}/hours", refusals=[NotYourCalendar])
def put_hours(db: Database, id: IdText, body: NewHours, if_match: list[int] | None) -> Hours:
    """Set a doctor's hours

    They are made or replaced as a whole; what is booked stays. Only the doctor's own account, the creator of its entry
    or an admin may.
    """
    return hours.put(db, id, body, if_match)


@api.route("GET", "/api/doctors/{id}/hours")
def read_hours(db: Database, id: IdText) -> Hours:
    """Read a doctor's hours"""
    return hours.get(db, id)


@api.route("GET", "/api/doctors/{id}/slots")
def list_slots(db: Database, id: IdText, query: SlotsQuery) -> Slots:
    """List the free times of a visit"""
    return hours.slots(db, id, query)


@api.route("POST", "/api/doctors/{id}/closures", status=201, refusals=[NotYourCalendar, BookingsInTheWay])
def create_closure(db: Database, id: IdText, body: NewClosure) -> Closure:
    """Close a doctor's calendar for a time

    Only the doctor's own account, the creator of its entry or an admin may.
    """
    return hours.close(db, id, body)


@api.route("GET", "/api/doctors/{id}/closures")
def list_closures(db: Database, id: IdText, query: PageQuery) -> Page[Closure]:
    """List a doctor's closures"""
    return hours.closures(db, id, query)


@api.route("DELETE", "/api/doctors/{id}/closures/{closure_id}", status=204, refusals=[NotYourCalendar])
def delete_closure(db: Database, id: IdText, closure_id: IdText, if_match: list[int] | None) -> None:
    """Open a doctor's calendar again"""
    return hours.reopen(db, id, closure_id, if_match)


@api.route(
    "POST",
    "/api/appointments",
    status=201,
    location="/api/appointments/{id}",
    refusals=[PatientNotFound, DoctorNotFound, NotOffered, SlotTaken, PatientBusy, TooManyBookings],
)
def create_appointment(db: Database, body: NewAppointment) -> Appointment:
    """Book a visit for a patient of yours"""
    return appointments.create(db, body)


@api.route("GET", "/api/appointments")
def list_appointments(db: Database, query: AppointmentQuery) -> Page[Appointment]:
    """List the appointments of your patients, in the order of time"""
    return appointments.search(db, query)


@api.route("GET", "/api/appointments/{id}")
def read_appointment(db: Database, id: IdText) -> Appointment:
    """Read an appointment"""
    return appointments.get(db, id)


@api.route(
    "POST", "/api/appointments/{id}/reschedule", refusals=[NotOffered, SlotTaken, PatientBusy, WrongStatus, TooLate]
)
def reschedule_appointment(db: Database, id: IdText, body: NewTime, if_match: list[int] | None) -> Appointment:
    """Move an appointment to another time

    All or nothing: if the new time cannot be had, the old one stays.
    """
    return appointments.reschedule(db, id, body, if_match)


@api.route("POST", "/api/appointments/{id}/cancel", refusals=[WrongStatus, TooLate])
def cancel_appointment(db: Database, id: IdText, body: Cancellation, if_match: list[int] | None) -> Appointment:
    """Cancel an appointment

    Its time is free again.
    """
    return appointments.change(db, id, "cancelled", if_match, body.reason)


@api.route("GET", "/api/appointments/{id}/ics")
def read_calendar_file(db: Database, id: IdText) -> CalendarFile:
    """Read an appointment as a file for calendars"""
    return ics.calendar_file(appointments.get(db, id))


@api.route("POST", "/api/appointments/{id}/join", refusals=[NotAVideoVisit, WrongStatus, NotOpen, VideoNotConfigured])
def join_appointment(db: Database, id: IdText) -> Entry:
    """Join a video visit

    The room is open from 15 minutes before the visit until 30 minutes after it.
    """
    return video.join(db, id)


lambda_handler = api.handle
