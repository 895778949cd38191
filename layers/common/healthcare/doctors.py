"""Doctors: a directory that all users share; only its creator or an admin changes an entry."""

from datetime import datetime
from typing import LiteralString

from pydantic import Field

from healthcare.database.connection import IF_MATCH, Database
from healthcare.errors import AccountGone, Conflict, Forbidden, NotFound, Refusal, Stale
from healthcare.fields import (
    Email,
    FilterText,
    Found,
    Input,
    Name,
    Output,
    Page,
    PageQuery,
    Phone,
    SearchQuery,
    Specialty,
    encode_word_cursor,
    page,
    too_many_words,
    unchanged,
)
from healthcare.patients import PatientNotFound

COLUMNS: LiteralString = """
    id, name, specialty, phone, email, created_by, account_id IS NOT NULL AS has_account, verified, version, created_at,
    updated_at
"""


class NewDoctor(Input):
    name: Name = Field(examples=["Dr. Grace Okafor"])
    specialty: Specialty = Field(examples=["Cardiology"])
    phone: Phone | None = Field(None, examples=["+44 20 7946 0123"])
    email: Email | None = Field(None, examples=["okafor@example.com"])


class DoctorChange(NewDoctor, json_schema_extra={"examples": [{"specialty": "Paediatric cardiology", "email": None}]}):
    name: Name = unchanged()
    specialty: Specialty = unchanged()
    verified: bool = unchanged("Only an admin may set it.")


class Doctor(Found):
    version: int = Field(exclude=True)
    name: str
    specialty: str
    phone: str | None
    email: str | None
    created_by: int | None = Field(description="The user who may change it, besides admins.")
    has_account: bool = Field(description="Whether the doctor has an account here, to which patients can be opened.")
    verified: bool = Field(
        description="Whether an admin has verified it. It ends when the name, the specialty or the account changes."
    )
    created_at: datetime
    updated_at: datetime


class DoctorQuery(SearchQuery):
    specialty: FilterText | None = Field(None, description="The whole specialty, in any case.")


class DoctorNotFound(NotFound):
    detail = "There is no doctor with this id."


class NotYourDoctor(Forbidden):
    detail = "Only its creator or an admin may change a doctor."


class OnlyAdminsVerify(Forbidden):
    detail = "Only an admin may say that a doctor is verified."


class NotLinked(NotFound):
    detail = "This doctor has no account."


class DoctorInUse(Conflict):
    """Patients of other users are assigned to this doctor, or it has appointments, so it cannot be deleted.

    Leave it in the directory, correct it with `PATCH`, or ask an admin; with more than 1,000 patients, ask
    whoever runs the API.
    """

    slug, title = "doctor-in-use", "The doctor is assigned to patients"
    detail = "Patients of other users are assigned to this doctor."


class DoctorHasAppointments(DoctorInUse):
    detail = "This doctor has appointments that are not cancelled, or records of some."


class DoctorWidelyUsed(DoctorInUse):
    detail = "More than 1,000 patients are assigned to this doctor; ask whoever runs the API to delete it."


def create(db: Database, new: NewDoctor) -> Doctor:
    doctor = db.row(
        Doctor,
        f"""
        INSERT INTO doctors (created_by, name, specialty, phone, email)
        VALUES (%(created_by)s, %(name)s, %(specialty)s, %(phone)s, %(email)s)
        RETURNING {COLUMNS}
        """,
        created_by=db.user_id,
        **dict(new),
        constraints={"doctors_created_by_fkey": AccountGone},
    )
    assert doctor
    return doctor


def get(db: Database, id: int) -> Doctor:
    doctor = db.row(
        Doctor,
        f"""
        SELECT {COLUMNS}
          FROM doctors
         WHERE id = %(id)s
        """,
        id=id,
    )
    if doctor is None:
        raise DoctorNotFound
    return doctor


def search(db: Database, query: DoctorQuery) -> Page[Doctor]:
    if query.q is None:
        doctors = db.rows(
            Doctor,
            f"""
            SELECT {COLUMNS}
              FROM doctors
             WHERE id > %(after)s
               AND (%(specialty)s IS NULL OR specialty_key = lower(%(specialty)s))
             ORDER BY id
             LIMIT %(limit)s + 1
            """,
            specialty=query.specialty or None,
            after=query.after.id,
            limit=query.limit,
        )
    else:
        # A LEFT JOIN, since an inner one may not call the function, which checks `q`, where there are no doctors.
        doctors = db.rows(
            Doctor,
            f"""
            SELECT {COLUMNS}, first_word AS word
              FROM search_doctors(%(q)s, coalesce(lower(%(specialty)s), ''), %(word)s, %(after)s, %(limit)s + 1)
              LEFT JOIN doctors USING (id)
             ORDER BY first_word COLLATE "C", id
            """,
            q=query.q,
            specialty=query.specialty or None,
            word=query.after.word,
            after=query.after.id,
            limit=query.limit,
            constraints={"few_words": too_many_words},
        )
    return page(Doctor, doctors, query, cursor=encode_word_cursor)


def of_patient(db: Database, patient_id: int, query: PageQuery) -> Page[Doctor]:
    """The doctors that a patient is assigned to. Raises NotFound for a patient that the caller does not have."""
    rows = db.rows(
        _DoctorOfPatient,
        """
        SELECT to_jsonb(d) || jsonb_build_object('has_account', d.account_id IS NOT NULL) AS doctor
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
        raise PatientNotFound
    return page(Doctor, [row.doctor for row in rows if row.doctor], query, patient_id)


class _DoctorOfPatient(Output):
    doctor: Doctor | None


def update(db: Database, id: int, change: NewDoctor | DoctorChange, if_match: list[int] | None) -> Doctor:
    """Sets what was given; a field that is absent from a DoctorChange stays as it is.

    Raises NotFound, Forbidden, and Stale when its version is none of `if_match`.
    """
    if "verified" in change.model_fields_set and not db.is_admin:
        get(db, id)
        raise OnlyAdminsVerify
    given = change.model_dump_json(exclude_unset=isinstance(change, DoctorChange))
    doctor = db.row(
        Doctor,
        f"""
        UPDATE doctors d
           SET (name, specialty, phone, email, verified) = (
               SELECT n.name, n.specialty, n.phone, n.email, n.verified
                 FROM jsonb_populate_record(d, %(given)s::jsonb) n)
         WHERE id = %(id)s AND {IF_MATCH}
        RETURNING {COLUMNS}
        """,
        id=id,
        given=given,
        if_match=if_match,
    )
    if doctor is None:
        raise _refusal(db, id)
    return doctor


def delete(db: Database, id: int, if_match: list[int] | None) -> None:
    """The caller's own mappings of it go too. Raises NotFound, Forbidden, Stale, and DoctorInUse."""
    deleted = db.execute(
        f"""
        DELETE FROM doctors
         WHERE id = %(id)s AND {IF_MATCH}
        """,
        id=id,
        if_match=if_match,
        constraints={
            "mappings_doctor_fkey": DoctorInUse,
            "doctors_few_mappings": DoctorWidelyUsed,
            "doctors_without_appointments": DoctorHasAppointments,
            "records_appointment_fkey": DoctorHasAppointments,
        },
    )
    if not deleted:
        raise _refusal(db, id)


def unlink(db: Database, id: int, if_match: list[int] | None) -> None:
    """Takes the account away from a doctor, and every patient from the account.

    Where too many mappings are open for one request, the sender goes on with their `access`.

    Raises NotFound, Forbidden, and Stale when the doctor's version is none of `if_match`.
    """
    if db.execute("SELECT WHERE unlink_doctor(%(id)s, %(if_match)s)", id=id, if_match=if_match):
        return
    link = db.row(
        _Link,
        """
        SELECT account_id IS NOT NULL AS has_account,
               coalesce(app_user_id() IN (created_by, account_id), false) OR app_role() = 'admin' AS may_end
          FROM doctors
         WHERE id = %(id)s
        """,
        id=id,
    )
    if link is None:
        raise DoctorNotFound
    if not link.may_end:
        raise NotYourDoctor("Only its creator, an admin or the doctor's own account may unlink the account.")
    raise Stale if link.has_account else NotLinked


class _Link(Output):
    has_account: bool
    may_end: bool


def _refusal(db: Database, id: int) -> Refusal:
    """Why row-level security or If-Match left no row to change."""
    doctor = get(db, id)
    if doctor.created_by != db.user_id and not db.is_admin:
        return NotYourDoctor()
    return Stale()
