from healthcare import doctors
from healthcare.database.connection import Database
from healthcare.doctors import (
    Doctor,
    DoctorChange,
    DoctorInUse,
    DoctorQuery,
    NewDoctor,
    NotYourDoctor,
    OnlyAdminsVerify,
)
from healthcare.fields import IdText, Page
from healthcare.web.api import Api

api = Api()


@api.route("POST", "/api/doctors", status=201, location="/api/doctors/{id}")
def create_doctor(db: Database, body: NewDoctor) -> Doctor:
    """Add a doctor to the directory"""
    return doctors.create(db, body)


@api.route("GET", "/api/doctors")
def list_doctors(db: Database, query: DoctorQuery) -> Page[Doctor]:
    """List the directory of doctors"""
    return doctors.search(db, query)


@api.route("GET", "/api/doctors/{id}")
def read_doctor(db: Database, id: IdText) -> Doctor:
    """Read a doctor"""
    return doctors.get(db, id)


@api.route("PUT", "/api/doctors/{id}", refusals=[NotYourDoctor])
def replace_doctor(db: Database, id: IdText, body: NewDoctor, if_match: list[int] | None) -> Doctor:
    """Replace a doctor

    Only its creator or an admin may. An optional field that is absent is cleared.
    """
    return doctors.update(db, id, body, if_match)


@api.route("PATCH", "/api/doctors/{id}", refusals=[NotYourDoctor, OnlyAdminsVerify])
def change_doctor(db: Database, id: IdText, body: DoctorChange, if_match: list[int] | None) -> Doctor:
    """Change fields of a doctor

    Only its creator or an admin may. A JSON merge patch: an absent field stays as it is, null clears an optional one.
    """
    return doctors.update(db, id, body, if_match)


@api.route("DELETE", "/api/doctors/{id}", status=204, refusals=[NotYourDoctor, DoctorInUse])
def delete_doctor(db: Database, id: IdText, if_match: list[int] | None) -> None:
    """Delete a doctor and your mappings of it

    Only its creator or an admin may, and only an admin while patients of other users are assigned to it.
    """
    return doctors.delete(db, id, if_match)


@api.route("DELETE", "/api/doctors/{id}/account", status=204, refusals=[NotYourDoctor])
def unlink_doctor(db: Database, id: IdText, if_match: list[int] | None) -> None:
    """Take the account away from a doctor

    Its creator, an admin or that account itself may. The account loses every patient at once, and `access` becomes
    `none` in their mappings. With more than 5,000 this takes minutes; until then no account can be linked.
    """
    return doctors.unlink(db, id, if_match)


lambda_handler = api.handle
