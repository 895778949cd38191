from healthcare import doctors, patients
from healthcare.database.connection import Database
from healthcare.doctors import Doctor
from healthcare.fields import IdText, Page, PageQuery, SearchQuery
from healthcare.patients import HasAppointments, HasHistory, NewPatient, Patient, PatientChange
from healthcare.web.api import Api

api = Api()


@api.route("POST", "/api/patients", status=201, location="/api/patients/{id}")
def create_patient(db: Database, body: NewPatient) -> Patient:
    """Create a patient of yours"""
    return patients.create(db, body)


@api.route("GET", "/api/patients")
def list_patients(db: Database, query: SearchQuery) -> Page[Patient]:
    """List your patients"""
    return patients.search(db, query)


@api.route("GET", "/api/patients/{id}")
def read_patient(db: Database, id: IdText) -> Patient:
    """Read a patient"""
    return patients.get(db, id)


@api.route("PUT", "/api/patients/{id}")
def replace_patient(db: Database, id: IdText, body: NewPatient, if_match: list[int] | None) -> Patient:
    """Replace a patient

    An optional field that is absent is cleared.
    """
    return patients.update(db, id, body, if_match)


@api.route("PATCH", "/api/patients/{id}")
def change_patient(db: Database, id: IdText, body: PatientChange, if_match: list[int] | None) -> Patient:
    """Change fields of a patient

    A JSON merge patch: an absent field stays as it is, null clears an optional one.
    """
    return patients.update(db, id, body, if_match)


@api.route("DELETE", "/api/patients/{id}", status=204, refusals=[HasAppointments, HasHistory])
def delete_patient(db: Database, id: IdText, if_match: list[int] | None) -> None:
    """Delete a patient and its mappings

    One with records, documents, or appointments that took place or were missed stays.
    """
    return patients.delete(db, id, if_match)


@api.route("GET", "/api/patients/{id}/doctors")
def list_doctors_of_patient(db: Database, id: IdText, query: PageQuery) -> Page[Doctor]:
    """List the doctors that a patient is assigned to"""
    return doctors.of_patient(db, id, query)


lambda_handler = api.handle
