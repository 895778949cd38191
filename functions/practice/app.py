from healthcare import appointments, documents, practice, records, video
from healthcare.appointments import Appointment, CalendarQuery, Cancellation, TooLate, WrongStatus
from healthcare.database.connection import Database
from healthcare.doctors import Doctor
from healthcare.documents import (
    CreatedDocument,
    Document,
    DocumentNotFound,
    Download,
    Infected,
    NewDocument,
    NotUploaded,
)
from healthcare.errors import ReadOnly
from healthcare.fields import IdText, Page, PageQuery, SearchQuery
from healthcare.patients import PatientNotFound
from healthcare.practice import NoPractice, OpenedPatient
from healthcare.records import (
    Amendment,
    NewRecord,
    NotTheAuthor,
    Record,
    RecordNotFound,
    RecordPage,
    RecordQuery,
    Retraction,
    Superseded,
)
from healthcare.video import Entry, NotAVideoVisit, NotOpen, VideoNotConfigured
from healthcare.web.api import Api

api = Api()


@api.route("GET", "/api/practice", refusals=[NoPractice])
def read_practice(db: Database) -> Doctor:
    """Read your own doctor entry

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
def mark_arrived(db: Database, id: IdText, if_match: list[int] | None) -> Appointment:
    """Say that the patient has arrived"""
    return appointments.change(db, id, "arrived", if_match)


@api.route("POST", "/api/practice/appointments/{id}/fulfil", refusals=[WrongStatus])
def mark_fulfilled(db: Database, id: IdText, if_match: list[int] | None) -> Appointment:
    """Say that the visit took place"""
    return appointments.change(db, id, "fulfilled", if_match)


@api.route("POST", "/api/practice/appointments/{id}/no-show", refusals=[WrongStatus])
def mark_missed(db: Database, id: IdText, if_match: list[int] | None) -> Appointment:
    """Say that the patient did not come

    Once the visit has started.
    """
    return appointments.change(db, id, "noshow", if_match)


@api.route("POST", "/api/practice/appointments/{id}/cancel", refusals=[WrongStatus, TooLate])
def cancel_calendar_appointment(
    db: Database, id: IdText, body: Cancellation, if_match: list[int] | None
) -> Appointment:
    """Cancel an appointment with you, before it starts"""
    return appointments.change(db, id, "cancelled", if_match, body.reason)


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


@api.route(
    "POST",
    "/api/practice/patients/{id}/records",
    status=201,
    location="/api/practice/patients/{patient_id}/records/{id}",
    refusals=[PatientNotFound, ReadOnly],
)
def create_record_as_doctor(db: Database, id: IdText, body: NewRecord) -> Record:
    """Write a record of a patient that is opened to you"""
    return records.create(db, id, body)


@api.route("GET", "/api/practice/patients/{id}/records", refusals=[PatientNotFound], discloses=True)
def list_records_as_doctor(db: Database, id: IdText, query: RecordQuery) -> RecordPage:
    """List the records of a patient that is opened to you, newest first"""
    return records.search(db, id, query)


@api.route("GET", "/api/practice/patients/{id}/records/{record_id}", refusals=[RecordNotFound], discloses=True)
def read_record_as_doctor(db: Database, id: IdText, record_id: IdText) -> Record:
    """Read a record of a patient that is opened to you"""
    return records.get(db, id, record_id)


@api.route(
    "POST",
    "/api/practice/patients/{id}/records/{record_id}/amend",
    status=201,
    location="/api/practice/patients/{patient_id}/records/{id}",
    refusals=[RecordNotFound, ReadOnly, NotTheAuthor, Superseded],
)
def amend_record_as_doctor(db: Database, id: IdText, record_id: IdText, body: Amendment) -> Record:
    """Replace a record of yours by a new one"""
    return records.amend(db, id, record_id, body)


@api.route(
    "POST",
    "/api/practice/patients/{id}/records/{record_id}/retract",
    refusals=[RecordNotFound, ReadOnly, NotTheAuthor, Superseded],
)
def retract_record_as_doctor(db: Database, id: IdText, record_id: IdText, body: Retraction) -> Record:
    """Retract a record of yours"""
    return records.retract(db, id, record_id, body)


@api.route(
    "POST",
    "/api/practice/patients/{id}/documents",
    status=201,
    location="/api/practice/patients/{document.patient_id}/documents/{document.id}",
    refusals=[PatientNotFound, ReadOnly],
)
def create_document_as_doctor(db: Database, id: IdText, body: NewDocument) -> CreatedDocument:
    """Announce a document of a patient that is opened to you"""
    return documents.create(db, id, body)


@api.route("GET", "/api/practice/patients/{id}/documents", refusals=[PatientNotFound], discloses=True)
def list_documents_as_doctor(db: Database, id: IdText, query: PageQuery) -> Page[Document]:
    """List the documents of a patient that is opened to you"""
    return documents.search(db, id, query)


@api.route("GET", "/api/practice/patients/{id}/documents/{document_id}", refusals=[DocumentNotFound], discloses=True)
def read_document_as_doctor(db: Database, id: IdText, document_id: IdText) -> Document:
    """Read what is known of a document of a patient that is opened to you"""
    return documents.get(db, id, document_id)


@api.route(
    "POST",
    "/api/practice/patients/{id}/documents/{document_id}/complete",
    refusals=[DocumentNotFound, ReadOnly, NotUploaded, Infected],
)
def complete_document_as_doctor(db: Database, id: IdText, document_id: IdText) -> Document:
    """Say that the bytes are in S3"""
    return documents.complete(db, id, document_id)


@api.route(
    "GET",
    "/api/practice/patients/{id}/documents/{document_id}/content",
    refusals=[DocumentNotFound, NotUploaded],
    discloses=True,
)
def read_document_content_as_doctor(db: Database, id: IdText, document_id: IdText) -> Download:
    """Get a URL to download a document of a patient that is opened to you, good for a minute"""
    return documents.content(db, id, document_id)


lambda_handler = api.handle
