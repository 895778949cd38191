from healthcare import practice
from healthcare.database.connection import Database
from healthcare.doctors import Doctor
from healthcare.fields import IdText, Page
from healthcare.patients import PatientQuery
from healthcare.practice import NoPractice, OpenedPatient
from healthcare.web.api import Api

api = Api()


@api.route("GET", "/api/practice", refusals=[NoPractice])
def read_practice(db: Database) -> Doctor:
    """Read the doctor that you are

    The entry of the directory that your account is linked to.
    """
    return practice.get(db)


@api.route("GET", "/api/practice/patients", refusals=[NoPractice])
def list_opened_patients(db: Database, query: PatientQuery) -> Page[OpenedPatient]:
    """List the patients that are opened to you"""
    return practice.search_patients(db, query)


@api.route("GET", "/api/practice/patients/{id}")
def read_opened_patient(db: Database, id: IdText) -> OpenedPatient:
    """Read a patient that is opened to you"""
    return practice.get_patient(db, id)


lambda_handler = api.handle
