"""Disclosures: who but the owner has read which of a patient's records and documents. The database writes them."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from healthcare import patients
from healthcare.database.connection import Database
from healthcare.fields import OfPatient, Page, PageQuery, page


class Disclosure(OfPatient):
    patient_id: int = Field(exclude=True)
    at: datetime
    actor_id: int = Field(description="Who read it.")
    actor_name: str = Field(examples=["Ada Lovelace"])
    by_doctor_id: int | None = Field(description="The doctor, when it was read as one; null for a delegate.")
    resource: Literal["record", "document"]
    resource_id: int
    request_id: str | None


def search(db: Database, patient_id: int, query: PageQuery) -> Page[Disclosure]:
    """Newest first. Raises PatientNotFound."""
    disclosures = db.rows(
        Disclosure,
        """
        SELECT id, patient_id, at, actor_id, actor_name, by_doctor_id, resource, resource_id, request_id
          FROM disclosures
         WHERE patient_id = %(patient_id)s AND id < coalesce(%(cursor)s, 9223372036854775807)
         ORDER BY id DESC
         LIMIT %(limit)s + 1
        """,
        patient_id=patient_id,
        **dict(query),
    )
    if not disclosures:
        patients.get(db, patient_id)
    return page(Disclosure, disclosures, query, patient_id)
