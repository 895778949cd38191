"""Mappings: which doctors a user's patients are assigned to, and whether their accounts may see them."""

from datetime import datetime
from typing import Literal, LiteralString

from pydantic import Field
from typing_extensions import TypeAliasType  # Python 3.12 has it in `typing`

from healthcare.database.connection import IF_MATCH, Database
from healthcare.doctors import DoctorNotFound
from healthcare.errors import Conflict, NotFound, Refusal, Stale
from healthcare.fields import Id, Input, OfPatient, Page, PageQuery, page, unchanged
from healthcare.patients import PatientNotFound

COLUMNS: LiteralString = "id, patient_id, doctor_id, access, version, created_at, updated_at"

Access = TypeAliasType("Access", Literal["none", "read", "write"])
"""What the account of the doctor may do with the patient."""


class NewMapping(Input):
    patient_id: Id = Field(examples=[1])
    doctor_id: Id = Field(examples=[1])
    access: Access = Field(
        "none", description="More than `none` opens the patient to the doctor's account.", examples=["none"]
    )


class MappingChange(Input):
    access: Access = unchanged(example="none")


class CreatedMapping(OfPatient):
    version: int = Field(exclude=True)
    doctor_id: int
    access: Access
    created_at: datetime
    updated_at: datetime


class MappingDetails(OfPatient):
    patient_name: str = Field(examples=["Maria Silva"])
    doctor_id: int
    doctor_name: str = Field(examples=["Dr. Grace Okafor"])
    specialty: str = Field(examples=["Cardiology"])
    access: Access
    created_at: datetime
    updated_at: datetime


class MappingNotFound(NotFound):
    detail = "There is no mapping with this id."


class AlreadyAssigned(Conflict):
    """This doctor is assigned to this patient already.

    There is nothing to do.
    """

    slug, title = "already-assigned", "The doctor is assigned to the patient already"
    detail = "This doctor is assigned to this patient already."


class DoctorHasNoAccount(Conflict):
    """Patients are opened to a doctor's account, and this doctor has none.

    Whoever made the entry in the directory invites the doctor: `POST /api/invitations` with kind `doctor`. Once the
    doctor's account has accepted, change `access` with `PATCH /api/mappings/{id}`.
    """

    slug, title = "doctor-has-no-account", "The doctor has no account"
    detail = "This doctor has no account that the patient could be opened to."


def create(db: Database, new: NewMapping) -> CreatedMapping:
    """Raises NotFound for the patient or the doctor, AlreadyAssigned, and DoctorHasNoAccount."""
    mapping = db.row(
        CreatedMapping,
        f"""
        INSERT INTO mappings (owner_id, patient_id, doctor_id, access)
        VALUES (%(owner_id)s, %(patient_id)s, %(doctor_id)s, %(access)s)
        RETURNING {COLUMNS}
        """,
        owner_id=db.user_id,
        **dict(new),
        constraints={
            "mappings_pair_key": AlreadyAssigned,
            "mappings_patient_fkey": lambda: PatientNotFound("There is no patient with this patient_id."),
            "mappings_doctor_fkey": lambda: DoctorNotFound("There is no doctor with this doctor_id."),
            "mappings_doctor_account": DoctorHasNoAccount,
        },
    )
    assert mapping
    return mapping


def search(db: Database, query: PageQuery) -> Page[MappingDetails]:
    mappings = db.rows(
        MappingDetails,
        """
        SELECT m.id, m.patient_id, p.name AS patient_name, m.doctor_id, d.name AS doctor_name, d.specialty,
               m.access, m.created_at, m.updated_at
          FROM (SELECT id, owner_id, patient_id, doctor_id, access, created_at, updated_at
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


def update(db: Database, id: int, change: MappingChange, if_match: list[int] | None) -> CreatedMapping:
    """Raises NotFound, also for a mapping of another user, Stale, and DoctorHasNoAccount."""
    mapping = db.row(
        CreatedMapping,
        f"""
        UPDATE mappings
           SET access = coalesce(%(access)s, access)
         WHERE id = %(id)s AND {IF_MATCH}
        RETURNING {COLUMNS}
        """,
        id=id,
        access=change.access,
        if_match=if_match,
        constraints={"mappings_doctor_account": DoctorHasNoAccount},
    )
    if mapping is None:
        raise _refusal(db, id)
    return mapping


def delete(db: Database, id: int, if_match: list[int] | None) -> None:
    """Raises MappingNotFound and Stale."""
    if not db.execute(f"DELETE FROM mappings WHERE id = %(id)s AND {IF_MATCH}", id=id, if_match=if_match):
        raise _refusal(db, id)


def _refusal(db: Database, id: int) -> Refusal:
    return Stale() if db.execute("SELECT FROM mappings WHERE id = %(id)s", id=id) else MappingNotFound()
