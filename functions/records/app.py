from healthcare import disclosures, records
from healthcare.database.connection import Database
from healthcare.disclosures import Disclosure
from healthcare.fields import IdText, Page, PageQuery
from healthcare.patients import PatientNotFound
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
from healthcare.web.api import Api

api = Api()


@api.route(
    "POST",
    "/api/patients/{id}/records",
    status=201,
    location="/api/patients/{patient_id}/records/{id}",
    refusals=[PatientNotFound],
)
def create_record(db: Database, id: IdText, body: NewRecord) -> Record:
    """Write a record of a patient"""
    return records.create(db, id, body)


@api.route("GET", "/api/patients/{id}/records", refusals=[PatientNotFound], discloses=True)
def list_records(db: Database, id: IdText, query: RecordQuery) -> RecordPage:
    """List a patient's records, newest first

    Those that stand; with `history`, also those that were amended or retracted.
    """
    return records.search(db, id, query)


@api.route("GET", "/api/patients/{id}/records/{record_id}", refusals=[RecordNotFound], discloses=True)
def read_record(db: Database, id: IdText, record_id: IdText) -> Record:
    """Read a record"""
    return records.get(db, id, record_id)


@api.route(
    "POST",
    "/api/patients/{id}/records/{record_id}/amend",
    status=201,
    location="/api/patients/{patient_id}/records/{id}",
    refusals=[RecordNotFound, NotTheAuthor, Superseded],
)
def amend_record(db: Database, id: IdText, record_id: IdText, body: Amendment) -> Record:
    """Replace a record by a new one

    The new one has the same kind; the old one stays, as `amended`. Of several amendments at once, one succeeds.
    """
    return records.amend(db, id, record_id, body)


@api.route(
    "POST", "/api/patients/{id}/records/{record_id}/retract", refusals=[RecordNotFound, NotTheAuthor, Superseded]
)
def retract_record(db: Database, id: IdText, record_id: IdText, body: Retraction) -> Record:
    """Retract a record that should not have been written

    It stays, as `retracted`, and is no longer listed but with `history`.
    """
    return records.retract(db, id, record_id, body)


@api.route("GET", "/api/patients/{id}/disclosures", refusals=[PatientNotFound])
def list_disclosures(db: Database, id: IdText, query: PageQuery) -> Page[Disclosure]:
    """List who else has read a patient's records and documents, newest first"""
    return disclosures.search(db, id, query)


lambda_handler = api.handle
