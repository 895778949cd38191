"""Mappings: which doctors a user's patients are assigned to."""

from datetime import datetime

from pydantic import Field

from healthcare.database import connection as db
from healthcare.database.connection import Session
from healthcare.errors import Conflict, NotFound, Stale
from healthcare.fields import Id, Input, Page, PageQuery, Row, page


class NewMapping(Input):
    patient_id: Id
    doctor_id: Id


class CreatedMapping(Row):
    version: int = Field(exclude=True)
    patient_id: int
    doctor_id: int
    created_at: datetime
    updated_at: datetime


class MappingDetails(Row):
    patient_id: int
    patient_name: str
    doctor_id: int
    doctor_name: str
    specialty: str
    created_at: datetime
    updated_at: datetime


class AlreadyAssigned(Conflict):
    slug, title = "already-assigned", "The doctor is assigned to the patient already"


_CREATE_REFUSALS: db.Refusals = {
    "mappings_pair_key": lambda: AlreadyAssigned("This doctor is assigned to this patient already."),
    "mappings_patient_fkey": lambda: NotFound("There is no patient with this patient_id."),
    "mappings_doctor_fkey": lambda: NotFound("There is no doctor with this doctor_id."),
}


def create(session: Session, new: NewMapping) -> CreatedMapping:
    """Raises NotFound for the patient or the doctor, and AlreadyAssigned."""
    mapping = session.row(
        CreatedMapping,
        """
        INSERT INTO mappings (owner_id, patient_id, doctor_id)
        VALUES (%(owner_id)s, %(patient_id)s, %(doctor_id)s)
        RETURNING id, patient_id, doctor_id, version, created_at, updated_at
        """,
        owner_id=session.user_id,
        **dict(new),
        refusals=_CREATE_REFUSALS,
    )
    assert mapping
    return mapping


def search(session: Session, query: PageQuery) -> Page[MappingDetails]:
    mappings = session.rows(
        MappingDetails,
        """
        SELECT m.id, m.patient_id, p.name AS patient_name, m.doctor_id, d.name AS doctor_name, d.specialty,
               m.created_at, m.updated_at
          FROM (SELECT id, owner_id, patient_id, doctor_id, created_at, updated_at
                  FROM mappings
                 WHERE id > coalesce(%(cursor)s, 0)
                 ORDER BY id
                 LIMIT %(limit)s + 1) m
          JOIN patients p ON p.owner_id = m.owner_id AND p.id = m.patient_id
          JOIN doctors d ON d.id = m.doctor_id
         ORDER BY m.id
        """,
        **dict(query),
    )
    return page(MappingDetails, mappings, query)


def delete(session: Session, id: int, if_match: list[int] | None) -> None:
    """Raises NotFound, also for a mapping of another user, and Stale when its version is none of `if_match`."""
    deleted = session.execute(
        """
        DELETE FROM mappings
         WHERE id = %(id)s AND (%(if_match)s::bigint[] IS NULL OR version = ANY (%(if_match)s))
        """,
        id=id,
        if_match=if_match,
    )
    if not deleted:
        if session.execute("SELECT id FROM mappings WHERE id = %(id)s", id=id):
            raise Stale("The mapping has another version than If-Match says.")
        raise NotFound("There is no mapping with this id.")
