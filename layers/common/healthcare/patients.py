"""Patients: each belongs to the user who made it, and nobody else ever sees it."""

from datetime import date, datetime

from pydantic import Field

from healthcare.database.connection import Session
from healthcare.errors import AccountGone, NotFound, Stale
from healthcare.fields import (
    Address,
    DateOfBirth,
    Email,
    Gender,
    Input,
    Name,
    Page,
    PageQuery,
    Phone,
    Row,
    SearchText,
    page,
    unchanged,
)


class NewPatient(Input):
    name: Name
    date_of_birth: DateOfBirth | None = None
    gender: Gender | None = None
    phone: Phone | None = None
    email: Email | None = None
    address: Address | None = None


class PatientChange(NewPatient):
    name: Name = unchanged()


class Patient(Row):
    version: int = Field(exclude=True)
    name: str
    date_of_birth: date | None
    gender: Gender | None
    phone: str | None
    email: str | None
    address: str | None
    created_at: datetime
    updated_at: datetime


class PatientQuery(PageQuery):
    q: SearchText | None = Field(None, description="Words of the name, each matched from its start, in any case.")


def create(session: Session, new: NewPatient) -> Patient:
    patient = session.row(
        Patient,
        """
        INSERT INTO patients (owner_id, name, date_of_birth, gender, phone, email, address)
        VALUES (%(owner_id)s, %(name)s, %(date_of_birth)s, %(gender)s, %(phone)s, %(email)s, %(address)s)
        RETURNING id, name, date_of_birth, gender, phone, email, address, version, created_at, updated_at
        """,
        owner_id=session.user_id,
        **dict(new),
        refusals={"patients_owner_id_fkey": AccountGone},
    )
    assert patient
    return patient


def get(session: Session, id: int) -> Patient:
    patient = session.row(
        Patient,
        """
        SELECT id, name, date_of_birth, gender, phone, email, address, version, created_at, updated_at
          FROM patients
         WHERE id = %(id)s
        """,
        id=id,
    )
    if patient is None:
        raise NotFound("There is no patient with this id.")
    return patient


def search(session: Session, query: PatientQuery) -> Page[Patient]:
    patients = session.rows(
        Patient,
        """
        SELECT id, name, date_of_birth, gender, phone, email, address, version, created_at, updated_at
          FROM patients
         WHERE id > coalesce(%(cursor)s, 0)
           AND (search_words(%(q)s) IS NULL OR id = ANY ((
                SELECT search_patients(search_words(%(q)s), coalesce(%(cursor)s, 0), %(limit)s + 1))::bigint[]))
         ORDER BY id
         LIMIT %(limit)s + 1
        """,
        **dict(query),
    )
    return page(Patient, patients, query)


def update(session: Session, id: int, change: NewPatient | PatientChange, if_match: list[int] | None) -> Patient:
    """Sets what was given; a field that is absent from a PatientChange stays as it is.

    Raises NotFound, and Stale when its version is none of `if_match`.
    """
    given = change.model_dump_json(exclude_unset=isinstance(change, PatientChange))
    patient = session.row(
        Patient,
        """
        UPDATE patients p
           SET (name, date_of_birth, gender, phone, email, address) = (
               SELECT n.name, n.date_of_birth, n.gender, n.phone, n.email, n.address
                 FROM jsonb_populate_record(p, %(given)s::jsonb) n)
         WHERE id = %(id)s AND (%(if_match)s::bigint[] IS NULL OR version = ANY (%(if_match)s))
        RETURNING id, name, date_of_birth, gender, phone, email, address, version, created_at, updated_at
        """,
        id=id,
        given=given,
        if_match=if_match,
    )
    if patient is None:
        raise _refusal(session, id)
    return patient


def delete(session: Session, id: int, if_match: list[int] | None) -> None:
    """Its mappings go too. Raises NotFound, and Stale when its version is none of `if_match`."""
    deleted = session.execute(
        """
        DELETE FROM patients
         WHERE id = %(id)s AND (%(if_match)s::bigint[] IS NULL OR version = ANY (%(if_match)s))
        """,
        id=id,
        if_match=if_match,
    )
    if not deleted:
        raise _refusal(session, id)


def _refusal(session: Session, id: int) -> Stale:
    get(session, id)
    return Stale("The patient has changed since the version in If-Match.")
