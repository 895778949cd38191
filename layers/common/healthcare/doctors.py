"""Doctors: a directory that all users share; only its creator or an admin changes an entry."""

from datetime import datetime

from pydantic import Field

from healthcare.database import connection as db
from healthcare.database.connection import Session
from healthcare.errors import AccountGone, Conflict, Forbidden, NotFound, Refusal, Stale
from healthcare.fields import (
    Email,
    FilterText,
    Input,
    Name,
    Output,
    Page,
    PageQuery,
    Phone,
    Row,
    SearchText,
    Specialty,
    page,
    unchanged,
)


class NewDoctor(Input):
    name: Name
    specialty: Specialty
    phone: Phone | None = None
    email: Email | None = None


class DoctorChange(NewDoctor):
    name: Name = unchanged()
    specialty: Specialty = unchanged()


class Doctor(Row):
    version: int = Field(exclude=True)
    name: str
    specialty: str
    phone: str | None
    email: str | None
    created_by: int | None = Field(description="The user who may change it, besides admins.")
    created_at: datetime
    updated_at: datetime


class DoctorQuery(PageQuery):
    q: SearchText | None = Field(None, description="Words of the name, each matched from its start, in any case.")
    specialty: FilterText | None = Field(None, description="The whole specialty, in any case.")


class DoctorInUse(Conflict):
    slug, title = "doctor-in-use", "The doctor is assigned to patients"


_DELETE_REFUSALS: db.Refusals = {
    "mappings_doctor_fkey": lambda: DoctorInUse("Patients of other users are assigned to this doctor."),
}


def create(session: Session, new: NewDoctor) -> Doctor:
    doctor = session.row(
        Doctor,
        """
        INSERT INTO doctors (created_by, name, specialty, phone, email)
        VALUES (%(created_by)s, %(name)s, %(specialty)s, %(phone)s, %(email)s)
        RETURNING id, name, specialty, phone, email, created_by, version, created_at, updated_at
        """,
        created_by=session.user_id,
        **dict(new),
        refusals={"doctors_created_by_fkey": AccountGone},
    )
    assert doctor
    return doctor


def get(session: Session, id: int) -> Doctor:
    doctor = session.row(
        Doctor,
        """
        SELECT id, name, specialty, phone, email, created_by, version, created_at, updated_at
          FROM doctors
         WHERE id = %(id)s
        """,
        id=id,
    )
    if doctor is None:
        raise NotFound("There is no doctor with this id.")
    return doctor


def search(session: Session, query: DoctorQuery) -> Page[Doctor]:
    doctors = session.rows(
        Doctor,
        """
        SELECT id, name, specialty, phone, email, created_by, version, created_at, updated_at
          FROM doctors
         WHERE id > coalesce(%(cursor)s, 0)
           AND (nullif(%(specialty)s, '') IS NULL OR specialty_key = lower(%(specialty)s))
           AND (search_words(%(q)s) IS NULL OR id = ANY ((
                SELECT search_doctors(search_words(%(q)s), lower(nullif(%(specialty)s, '')), coalesce(%(cursor)s, 0),
                                      %(limit)s + 1))::bigint[]))
         ORDER BY id
         LIMIT %(limit)s + 1
        """,
        **dict(query),
    )
    return page(Doctor, doctors, query)


def of_patient(session: Session, patient_id: int, query: PageQuery) -> Page[Doctor]:
    """The doctors that a patient is assigned to. Raises NotFound for a patient that the caller does not have."""
    rows = session.rows(
        _DoctorOfPatient,
        """
        SELECT to_jsonb(d) AS doctor
          FROM patients p
          LEFT JOIN LATERAL (
               SELECT doctor_id
                 FROM mappings
                WHERE owner_id = p.owner_id AND patient_id = p.id AND doctor_id > coalesce(%(cursor)s, 0)
                ORDER BY doctor_id
                LIMIT %(limit)s + 1) m ON true
          LEFT JOIN doctors d ON d.id = m.doctor_id
         WHERE p.id = %(patient_id)s
         ORDER BY m.doctor_id
        """,
        patient_id=patient_id,
        **dict(query),
    )
    if not rows:
        raise NotFound("There is no patient with this id.")
    return page(Doctor, [row.doctor for row in rows if row.doctor], query)


class _DoctorOfPatient(Output):
    doctor: Doctor | None


def update(session: Session, id: int, change: NewDoctor | DoctorChange, if_match: list[int] | None) -> Doctor:
    """Sets what was given; a field that is absent from a DoctorChange stays as it is.

    Raises NotFound, Forbidden, and Stale when its version is none of `if_match`.
    """
    given = change.model_dump_json(exclude_unset=isinstance(change, DoctorChange))
    doctor = session.row(
        Doctor,
        """
        UPDATE doctors d
           SET (name, specialty, phone, email) = (
               SELECT n.name, n.specialty, n.phone, n.email
                 FROM jsonb_populate_record(d, %(given)s::jsonb) n)
         WHERE id = %(id)s AND (%(if_match)s::bigint[] IS NULL OR version = ANY (%(if_match)s))
        RETURNING id, name, specialty, phone, email, created_by, version, created_at, updated_at
        """,
        id=id,
        given=given,
        if_match=if_match,
    )
    if doctor is None:
        raise _refusal(session, id)
    return doctor


def delete(session: Session, id: int, if_match: list[int] | None) -> None:
    """The caller's own mappings of it go too. Raises NotFound, Forbidden, Stale, and DoctorInUse."""
    deleted = session.execute(
        """
        DELETE FROM doctors
         WHERE id = %(id)s AND (%(if_match)s::bigint[] IS NULL OR version = ANY (%(if_match)s))
        """,
        id=id,
        if_match=if_match,
        refusals=_DELETE_REFUSALS,
    )
    if not deleted:
        raise _refusal(session, id)


def _refusal(session: Session, id: int) -> Refusal:
    """Why row-level security or If-Match left no row to change."""
    doctor = get(session, id)
    if doctor.created_by != session.user_id and not session.is_admin:
        return Forbidden("Only its creator or an admin may change a doctor.")
    return Stale("The doctor has changed since the version in If-Match.")
