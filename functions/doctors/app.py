from healthcare import doctors
from healthcare.database.connection import Session
from healthcare.doctors import Doctor, DoctorChange, DoctorInUse, DoctorQuery, NewDoctor
from healthcare.errors import Forbidden
from healthcare.fields import IdText, Page
from healthcare.web.api import Api

api = Api()


@api.route("POST", "/api/doctors", status=201, location="/api/doctors/{id}")
def create_doctor(session: Session, body: NewDoctor) -> Doctor:
    """Add a doctor to the directory"""
    return doctors.create(session, body)


@api.route("GET", "/api/doctors")
def list_doctors(session: Session, query: DoctorQuery) -> Page[Doctor]:
    """List the directory of doctors"""
    return doctors.search(session, query)


@api.route("GET", "/api/doctors/{id}")
def read_doctor(session: Session, id: IdText) -> Doctor:
    """Read a doctor"""
    return doctors.get(session, id)


@api.route("PUT", "/api/doctors/{id}", refusals=[Forbidden])
def replace_doctor(session: Session, id: IdText, body: NewDoctor, if_match: list[int] | None) -> Doctor:
    """Replace a doctor

    Only its creator or an admin may. An optional field that is absent is cleared.
    """
    return doctors.update(session, id, body, if_match)


@api.route("PATCH", "/api/doctors/{id}", refusals=[Forbidden])
def change_doctor(session: Session, id: IdText, body: DoctorChange, if_match: list[int] | None) -> Doctor:
    """Change fields of a doctor

    Only its creator or an admin may. A JSON merge patch: an absent field stays as it is, null clears an optional one.
    """
    return doctors.update(session, id, body, if_match)


@api.route("DELETE", "/api/doctors/{id}", status=204, refusals=[Forbidden, DoctorInUse])
def delete_doctor(session: Session, id: IdText, if_match: list[int] | None) -> None:
    """Delete a doctor and your mappings of it

    Only its creator or an admin may, and only an admin while patients of other users are assigned to it.
    """
    return doctors.delete(session, id, if_match)


lambda_handler = api.handle
