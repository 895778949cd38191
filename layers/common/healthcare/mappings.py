"""Mappings: which doctors a user's patients are assigned to."""

from datetime import datetime

from pydantic import Field

from healthcare.database.connection import IF_MATCH, Database
from healthcare.doctors import DoctorNotFound
from healthcare.errors import Conflict, NotFound, Stale
from healthcare.fields import Id, Input, OfPatient, Page, PageQuery, page
from healthcare.patients import PatientNotFound


class NewMapping(Input):
    patient_id: Id = Field(examples=[1])
    doctor_id: Id = Field(examples=[1])


class CreatedMapping(OfPatient):
    version: int = Field(exclude=True)
    doctor_id: int
    created_at: datetime
    updated_at: datetime


class MappingDetails(OfPatient):
    patient_name: str = Field(examples=["Maria Silva"])
    doctor_id: int
    doctor_name: str = Field(examples=["Dr. Grace Okafor"])
    specialty: str = Field(examples=["Cardiology"])
    created_at: datetime
    updated_at: datetime


class MappingNotFound(NotFound):
    detail = "There is no mapping with this id."


class AlreadyAssigned(Conflict):
    """This doctor is assigned to this patient already.

    Nothing: things are as you want them.
    """

    slug, title = "already-assigned", "The doctor is assigned to the patient already"
    detail = "This doctor is assigned to this patient already."


def create(db: Database, new: NewMapping) -> CreatedMapping:
    """Raises NotFound for the patient or the doctor, and AlreadyAssigned."""
    mapping = db.row(
        CreatedMapping,
        """
        INSERT INTO mappings (owner_id, patient_id, doctor_id)
        VALUES (%(owner_id)s, %(patient_id)s, %(doctor_id)s)
        RETURNING id, patient_id, doctor_id, version, created_at, updated_at
        """,
        owner_id=db.user_id,
        **dict(new),
        constraints={
            "mappings_pair_key": AlreadyAssigned,
            "mappings_patient_fkey": lambda: PatientNotFound("There is no patient with this patient_id."),
            "mappings_doctor_fkey": lambda: DoctorNotFound("There is no doctor with this doctor_id."),
        },
    )
    assert mapping
    return mapping


def search(db: Database, query: PageQuery) -> Page[MappingDetails]:
    mappings = db.rows(
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


def delete(db: Database, id: int, if_match: list[int] | None) -> None:
    """Raises NotFound, also for a mapping of another user, and Stale when its version is none of `if_match`."""
    deleted = db.execute(
        f"""
        DELETE FROM mappings
         WHERE id = %(id)s AND {IF_MATCH}
        """,
        id=id,
        if_match=if_match,
    )
    if not deleted:
        if db.execute("SELECT id FROM mappings WHERE id = %(id)s", id=id):
            raise Stale("The mapping has another version than If-Match says.")
        raise MappingNotFound
