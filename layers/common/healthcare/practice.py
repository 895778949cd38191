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
from healthcare.fields import Output, Page, SearchQuery, encode_word_cursor, page, too_many_words
from healthcare.patients import Patient, PatientNotFound

OpenedAccess = TypeAliasType("OpenedAccess", Literal["read", "write"])


class OpenedPatient(Patient):
    version: str = Field(exclude=True)  # type: ignore[assignment]  # changes with the mapping, too
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


def search_patients(db: Database, query: SearchQuery) -> Page[OpenedPatient]:
    """Raises NotFound for an account that is not linked to a doctor."""
    if query.q is None:
        rows = db.rows(
            _InPractice,
            """
            SELECT to_jsonb(p) || jsonb_build_object(
                       'access', m.access, 'version', concat_ws('.', p.version, m.id, m.version)) AS patient
              FROM doctors d
              LEFT JOIN LATERAL (
                   SELECT id, owner_id, patient_id, access, version
                     FROM mappings
                    WHERE doctor_id = d.id AND access <> 'none' AND patient_id > %(after)s
                    ORDER BY patient_id
                    LIMIT %(limit)s + 1) m ON true
              LEFT JOIN patients p ON p.owner_id = m.owner_id AND p.id = m.patient_id
             ORDER BY p.id
            """,
            after=query.after.id,
            limit=query.limit,
        )
    else:
        # As the function search_patients().
        rows = db.rows(
            _InPractice,
            """
            WITH terms AS (
                 SELECT term FROM string_to_table(search_words(%(q)s), ' ') AS term),
                 rarest AS (
                 SELECT term
                   FROM terms
                  ORDER BY starts_with(%(word)s, term) DESC,
                           CASE WHEN %(word)s = '' AND search_words(%(q)s) LIKE '%% %%' THEN (
                                SELECT count(*)
                                  FROM (SELECT
                                          FROM opened_words
                                         WHERE word >= term AND word < term || chr(1114111)
                                         LIMIT 1000) AS hit) END,
                           length(term) DESC
                  LIMIT 1)
            SELECT to_jsonb(p) || jsonb_build_object(
                       'access', m.access, 'version', concat_ws('.', p.version, m.id, m.version),
                       'word', word) AS patient,
                   search_words(%(q)s)::search_query AS checked
              FROM doctors d
              LEFT JOIN LATERAL (
                   SELECT word, patient_id
                     FROM opened_words
                    WHERE (word, patient_id) > ((SELECT greatest(term COLLATE "C", %(word)s) FROM rarest), %(after)s)
                      AND word < (SELECT term || chr(1114111) FROM rarest)
                      AND ' ' || words LIKE ALL (ARRAY(SELECT '%% ' || term || '%%' FROM terms))
                      AND strpos(' ' || words, ' ' || word) = strpos(' ' || words, (SELECT ' ' || term FROM rarest))
                    ORDER BY word, patient_id
                    LIMIT %(limit)s + 1) AS found ON true
              -- LIMIT keeps it one look-up for each hit; a join, planned for an average doctor, read all mappings.
              LEFT JOIN LATERAL (
                   SELECT id, owner_id, patient_id, access, version
                     FROM mappings
                    WHERE doctor_id = d.id AND patient_id = found.patient_id
                    LIMIT 1) m ON true
              LEFT JOIN patients p ON p.owner_id = m.owner_id AND p.id = m.patient_id
             ORDER BY word, p.id
            """,
            q=query.q,
            word=query.after.word,
            after=query.after.id,
            limit=query.limit,
            constraints={"few_words": too_many_words},
        )
    if not rows:
        raise NoPractice
    patients = [row.patient for row in rows if row.patient]
    return page(OpenedPatient, patients, query, cursor=encode_word_cursor)


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
