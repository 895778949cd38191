from healthcare import doctors, mappings
from healthcare.database.connection import Database
from healthcare.doctors import Doctor
from healthcare.fields import IdText, Page, PageQuery
from healthcare.mappings import (
    AlreadyAssigned,
    CreatedMapping,
    DoctorHasNoAccount,
    MappingChange,
    MappingDetails,
    NewMapping,
)
from healthcare.patients import PatientNotFound
from healthcare.web.api import Api

api = Api()


@api.route(
    "POST",
    "/api/mappings",
    status=201,
    location="/api/mappings/{id}",
    refusals=[PatientNotFound, AlreadyAssigned, DoctorHasNoAccount],
)
def create_mapping(db: Database, body: NewMapping) -> CreatedMapping:
    """Assign a doctor to a patient of yours

    With `access`, the patient is also opened to the account of the doctor.
    """
    return mappings.create(db, body)


@api.route("GET", "/api/mappings")
def list_mappings(db: Database, query: PageQuery) -> Page[MappingDetails]:
    """List your mappings"""
    return mappings.search(db, query)


@api.route("GET", "/api/mappings/{id}", refusals=[PatientNotFound])
def list_doctors_of_mapped_patient(db: Database, id: IdText, query: PageQuery) -> Page[Doctor]:
    """List the doctors of a patient

    The id is the patient's. (A path part has one name only, and DELETE takes a mapping's.)
    """
    return doctors.of_patient(db, id, query)


@api.route("PATCH", "/api/mappings/{id}", refusals=[DoctorHasNoAccount])
def change_mapping(db: Database, id: IdText, body: MappingChange, if_match: list[int] | None) -> CreatedMapping:
    """Open a patient to the account of a doctor, or close it

    It counts from the doctor's next request on.
    """
    return mappings.update(db, id, body, if_match)


@api.route("DELETE", "/api/mappings/{id}", status=204)
def delete_mapping(db: Database, id: IdText, if_match: list[int] | None) -> None:
    """Take a doctor away from a patient"""
    return mappings.delete(db, id, if_match)


lambda_handler = api.handle
