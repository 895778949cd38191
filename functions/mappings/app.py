from healthcare import doctors, mappings
from healthcare.database.connection import Session
from healthcare.doctors import Doctor
from healthcare.errors import NotFound
from healthcare.fields import IdText, Page, PageQuery
from healthcare.mappings import AlreadyAssigned, CreatedMapping, MappingDetails, NewMapping
from healthcare.web.api import Api

api = Api()


@api.route("POST", "/api/mappings", status=201, location="/api/mappings/{id}", refusals=[NotFound, AlreadyAssigned])
def create_mapping(session: Session, body: NewMapping) -> CreatedMapping:
    """Assign a doctor to a patient of yours"""
    return mappings.create(session, body)


@api.route("GET", "/api/mappings")
def list_mappings(session: Session, query: PageQuery) -> Page[MappingDetails]:
    """List your mappings"""
    return mappings.search(session, query)


@api.route("GET", "/api/mappings/{id}")
def list_doctors_of_mapped_patient(session: Session, id: IdText, query: PageQuery) -> Page[Doctor]:
    """List the doctors of a patient

    The id is the patient's. (A path part has one name only, and DELETE takes a mapping's.)
    """
    return doctors.of_patient(session, id, query)


@api.route("DELETE", "/api/mappings/{id}", status=204)
def delete_mapping(session: Session, id: IdText, if_match: list[int] | None) -> None:
    """Take a doctor away from a patient"""
    return mappings.delete(session, id, if_match)


lambda_handler = api.handle
