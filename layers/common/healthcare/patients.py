"""Patients: each belongs to the user who made it, and others see it only as that user lets them."""

from datetime import date, datetime
from typing import LiteralString

from pydantic import Field

from healthcare.database.connection import IF_MATCH, Database
from healthcare.errors import AccountGone, Conflict, NotFound, Stale
from healthcare.fields import (
    Address,
    DateOfBirth,
    Email,
    Found,
    Gender,
    Input,
    Name,
    Page,
    Phone,
    SearchQuery,
    encode_word_cursor,
    page,
    too_many_words,
    unchanged,
)

COLUMNS: LiteralString = "id, name, date_of_birth, gender, phone, email, address, version, created_at, updated_at"


class NewPatient(Input):
    name: Name = Field(examples=["Maria Silva"])
    date_of_birth: DateOfBirth | None = Field(None, examples=["1984-11-05"])
    gender: Gender | None = Field(None, examples=["female"])
    phone: Phone | None = Field(None, examples=["+351 21 555 0142"])
    email: Email | None = Field(None, examples=["maria.silva@example.com"])
    address: Address | None = Field(None, examples=["12 Harbour Street, Lisbon"])


class PatientChange(NewPatient, json_schema_extra={"examples": [{"phone": "+351 21 555 0199", "email": None}]}):
    name: Name = unchanged()


class Patient(Found):
    version: int = Field(exclude=True)
    name: str
    date_of_birth: date | None
    gender: Gender | None
    phone: str | None
    email: str | None
    address: str | None
    created_at: datetime
    updated_at: datetime

    def patients(self) -> list[int]:
        return [self.id]


class PatientNotFound(NotFound):
    detail = "There is no patient with this id."


class HasAppointments(Conflict):
    """The patient has appointments to come, so it cannot be deleted.

    Cancel them first.
    """

    slug, title = "has-appointments", "The patient has appointments"
    detail = "This patient has appointments that are not over."


class HasHistory(Conflict):
    """The patient has records, documents, or appointments that took place or were missed, and these are kept.

    Leave the patient; documents can be deleted. Whoever runs the API can erase it where the law demands it.
    """

    slug, title = "has-history", "The patient has a history"
    detail = "This patient has a history, which is kept."


def create(db: Database, new: NewPatient) -> Patient:
    patient = db.row(
        Patient,
        f"""
        INSERT INTO patients (owner_id, name, date_of_birth, gender, phone, email, address)
        VALUES (%(owner_id)s, %(name)s, %(date_of_birth)s, %(gender)s, %(phone)s, %(email)s, %(address)s)
        RETURNING {COLUMNS}
        """,
        owner_id=db.user_id,
        **dict(new),
        constraints={"patients_owner_id_fkey": AccountGone},
    )
    assert patient
    return patient


def get(db: Database, id: int) -> Patient:
    patient = db.row(
        Patient,
        f"""
        SELECT {COLUMNS}
          FROM patients
         WHERE id = %(id)s
        """,
        id=id,
    )
    if patient is None:
        raise PatientNotFound
    return patient


def search(db: Database, query: SearchQuery) -> Page[Patient]:
    if query.q is None:
        patients = db.rows(
            Patient,
            f"""
            SELECT {COLUMNS}
              FROM patients
             WHERE id > %(after)s
             ORDER BY id
             LIMIT %(limit)s + 1
            """,
            after=query.after.id,
            limit=query.limit,
        )
    else:
        # A LEFT JOIN, since an inner one may not call the function, which checks `q`, where there are no patients.
        patients = db.rows(
            Patient,
            f"""
            SELECT {COLUMNS}, first_word AS word
              FROM search_patients(%(q)s, %(word)s, %(after)s, %(limit)s + 1)
              LEFT JOIN patients USING (id)
             ORDER BY first_word COLLATE "C", id
            """,
            q=query.q,
            word=query.after.word,
            after=query.after.id,
            limit=query.limit,
            constraints={"few_words": too_many_words},
        )
    return page(Patient, patients, query, cursor=encode_word_cursor)


def update(db: Database, id: int, change: NewPatient | PatientChange, if_match: list[int] | None) -> Patient:
    """Sets what was given; a field that is absent from a PatientChange stays as it is.

    Raises NotFound, and Stale when its version is none of `if_match`.
    """
    given = change.model_dump_json(exclude_unset=isinstance(change, PatientChange))
    patient = db.row(
        Patient,
        f"""
        UPDATE patients p
           SET (name, date_of_birth, gender, phone, email, address) = (
               SELECT n.name, n.date_of_birth, n.gender, n.phone, n.email, n.address
                 FROM jsonb_populate_record(p, %(given)s::jsonb) n)
         WHERE id = %(id)s AND {IF_MATCH}
        RETURNING {COLUMNS}
        """,
        id=id,
        given=given,
        if_match=if_match,
    )
    if patient is None:
        raise _refusal(db, id)
    return patient


def delete(db: Database, id: int, if_match: list[int] | None) -> None:
    """Its mappings and cancelled appointments go too. Raises NotFound, Stale, HasAppointments and HasHistory."""
    deleted = db.execute(
        f"""
        DELETE FROM patients
         WHERE id = %(id)s AND {IF_MATCH}
        """,
        id=id,
        if_match=if_match,
        constraints={
            "patients_without_appointments": HasAppointments,
            "patients_without_history": HasHistory,
            "records_patient_fkey": HasHistory,
            "documents_patient_fkey": HasHistory,
        },
    )
    if not deleted:
        raise _refusal(db, id)


def _refusal(db: Database, id: int) -> Stale:
    get(db, id)
    return Stale()
