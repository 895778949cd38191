"""The doctor's side: the entry that the caller's account is linked to, and the patients that are opened to it.

Its function logs in to PostgreSQL as healthcare_doctor, whose policies leave nothing else to be seen.
"""

from typing import Literal

from pydantic import Field
from typing_extensions import TypeAliasType  # Python 3.12 has it in `typing`

from healthcare import appointments, doctors
from healthcare.appointments import Appointment, CalendarQuery
from healthcare.database.connection import Database
from healthcare.doctors import Doctor
from healthcare.errors import NotFound
from healthcare.fields import Output, Page, page
from healthcare.patients import Patient, PatientNotFound, PatientQuery

OpenedAccess = TypeAliasType("OpenedAccess", Literal["read", "write"])


class OpenedPatient(Patient):
    version: str = Field(exclude=True)  # type: ignore[assignment]
    access: OpenedAccess


class NoPractice(NotFound):
    detail = "Your account is not linked to a doctor."


class _InPractice(Output):
    patient: OpenedPatient | None


def get(db: Database) -> Doctor:
    """Raises NotFound for an account that is not linked to a doctor."""
    doctor = db.row(Doctor, f"SELECT {doctors.COLUMNS} FROM doctors")
    if doctor is None:
        raise NoPractice
    return doctor


def calendar(db: Database, query: CalendarQuery) -> Page[Appointment]:
    """Raises NotFound for an account that is not linked to a doctor."""
    found = appointments.search(db, query)
    if not found.items:
        get(db)
    return found


def search_patients(db: Database, query: PatientQuery) -> Page[OpenedPatient]:
    """Raises NotFound for an account that is not linked to a doctor."""
    rows = db.rows(
        _InPractice,
        """
        SELECT to_jsonb(p) || jsonb_build_object(
                   'access', m.access, 'version', concat_ws('.', p.version, m.id, m.version)) AS patient
          FROM doctors d
          LEFT JOIN LATERAL (
               SELECT id, owner_id, patient_id, access, version
                 FROM mappings o
                WHERE doctor_id = d.id AND access <> 'none' AND patient_id > coalesce(%(cursor)s, 0)
                  AND (search_words(%(q)s) IS NULL OR NOT EXISTS (
                       SELECT
                         FROM unnest(search_words(%(q)s)) AS lacking
                        WHERE NOT EXISTS (
                              SELECT
                                FROM patient_words w
                               WHERE w.owner_id = o.owner_id AND w.patient_id = o.patient_id
                                 AND w.word >= lacking AND w.word < lacking || chr(1114111))))
                ORDER BY patient_id
                LIMIT %(limit)s + 1) m ON true
          LEFT JOIN patients p ON p.owner_id = m.owner_id AND p.id = m.patient_id
         ORDER BY p.id
        """,
        **dict(query),
    )
    if not rows:
        raise NoPractice
    return page(OpenedPatient, [row.patient for row in rows if row.patient], query)


def get_patient(db: Database, id: int) -> OpenedPatient:
    patient = db.row(
        OpenedPatient,
        """
        SELECT p.id, p.name, p.date_of_birth, p.gender, p.phone, p.email, p.address, p.created_at, p.updated_at,
               m.access, concat_ws('.', p.version, m.id, m.version) AS version
          FROM mappings m
          JOIN patients p ON p.owner_id = m.owner_id AND p.id = m.patient_id
         WHERE m.patient_id = %(id)s
        """,
        id=id,
    )
    if patient is None:
        raise PatientNotFound
    return patient
