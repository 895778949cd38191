"""The original's four tables: their names, the rules for their values, and the statements that insert them.

The rules are the API's own models. SQL has no NFC-safe trimming, no letters of all scripts and no better messages; a
second set of patterns would soon differ from the first. One pass of the models over all rows costs seconds.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, LiteralString

from pydantic import BeforeValidator, ValidationError

from local.settings import PROJECT

sys.path.append(str(PROJECT / "layers" / "common"))

from healthcare.accounts.passwords import PasswordHash, decoy
from healthcare.doctors import NewDoctor
from healthcare.fields import Email, Gender, Id, Input, Name, Specialty
from healthcare.mappings import NewMapping
from healthcare.patients import NewPatient
from healthcare.web.request import in_words

IDS = ("id", "owner_id", "patient_id", "doctor_id")
TIMES = ("created_at", "updated_at")
SPELLINGS: Mapping[str, Sequence[str]] = {
    "owner_id": ("user_id", "owner_id", "created_by", "created_by_id"),
    "patient_id": ("patient_id", "patient"),
    "doctor_id": ("doctor_id", "doctor"),
    "name": ("name", "full_name", "username", "patient_name", "doctor_name"),
    "email": ("email", "email_address"),
    "password_hash": ("password", "password_hash", "hashed_password"),
    "specialty": ("specialty", "specialization", "specialisation", "speciality"),
    "date_of_birth": ("date_of_birth", "dob", "birth_date", "birthday"),
    "gender": ("gender", "sex"),
    "phone": ("phone", "phone_number", "mobile", "contact", "contact_number"),
    "created_at": ("created_at", "created", "assigned_at"),
    "updated_at": ("updated_at", "updated"),
}
GENDERS = {
    **dict.fromkeys(("m", "man", "boy"), "male"),
    **dict.fromkeys(("f", "woman", "girl"), "female"),
    **dict.fromkeys(("o", "x", "others", "diverse", "nonbinary", "non-binary"), "other"),
    **dict.fromkeys(("u", "n/a", "na", "not known"), "unknown"),
}


def _gender(value: str) -> str:
    spelling = value.strip().lower()
    return GENDERS.get(spelling, spelling)


class Moved(Input):
    """What becomes of a row. It is refused for a field without a default; of one with a default only the value is lost.

    `kind` is what the audit calls it; `names` are those of its table in sources. `parents` are the columns that refer
    to rows of other kinds. `insert` takes what is ready from the place `first` up to, but not including, `end`.
    """

    kind: ClassVar[str]
    names: ClassVar[Sequence[str]]
    parents: ClassVar[Sequence[tuple[str, str]]] = ()
    insert: ClassVar[LiteralString]

    id: Id
    created_at: str | None = None
    updated_at: str | None = None

    @classmethod
    def checked(
        cls, columns: Mapping[str, str], values: Sequence[str | None]
    ) -> tuple[int | None, str, str, str, str | None]:
        """A row's id, content, lost values, status and reason. `columns` are the source's names by ours."""
        given: dict[str, Any] = {
            name: int(value) if name in IDS else value
            for name, value in zip(columns, values, strict=True)
            if value and value.strip()
        }
        fields = cls.model_fields
        problems = {name: "there is none" for name in columns if name not in given and fields[name].default is not None}
        try:
            moved = cls.model_validate_json(json.dumps(given))
        except ValidationError as error:
            problems = {str(each["loc"][0]): in_words(each) for each in error.errors()} | problems
        reasons = {columns[name]: reason for name, reason in problems.items()}
        if any(fields[name].is_required() for name in problems):
            reason = "; ".join(f"{column}: {reason}" for column, reason in reasons.items())
            return given.get("id"), json.dumps(given), "{}", "refused", reason
        if problems:
            kept = {name: value for name, value in given.items() if name not in problems}
            moved = cls.model_validate_json(json.dumps(kept))
        return moved.id, moved.model_dump_json(exclude_none=True), json.dumps(reasons), "new", None


class MovedUser(Moved):
    kind = "user"
    names = ("users",)
    insert = """
        INSERT INTO users (id, name, email, password_hash, created_at, updated_at)
        SELECT n.id, n.name, n.email, n.password_hash, n.created_at, n.updated_at
          FROM ready, jsonb_populate_record(NULL::users, content) n
         WHERE kind = 'user' AND place >= %(first)s AND place < %(end)s
        """

    name: Name
    email: Email
    password_hash: PasswordHash = decoy(12).decode()


class MovedDoctor(Moved, NewDoctor):
    kind = "doctor"
    names = ("doctors",)
    insert = """
        INSERT INTO doctors (id, name, specialty, phone, email, created_at, updated_at)
        SELECT n.id, n.name, n.specialty, n.phone, n.email, n.created_at, n.updated_at
          FROM ready, jsonb_populate_record(NULL::doctors, content) n
         WHERE kind = 'doctor' AND place >= %(first)s AND place < %(end)s
        """

    specialty: Specialty = "Unspecified"


class MovedPatient(Moved, NewPatient):
    kind = "patient"
    names = ("patients",)
    parents = (("owner_id", "user"),)
    insert = """
        INSERT INTO patients (id, owner_id, name, date_of_birth, gender, phone, email, address, created_at, updated_at)
        SELECT n.id, n.owner_id, n.name, n.date_of_birth, n.gender, n.phone, n.email, n.address, n.created_at,
               n.updated_at
          FROM ready, jsonb_populate_record(NULL::patients, content) n
         WHERE kind = 'patient' AND place >= %(first)s AND place < %(end)s
        """

    owner_id: Id
    gender: Annotated[Gender | None, BeforeValidator(_gender)] = None


class MovedMapping(Moved, NewMapping):
    kind = "mapping"
    names = ("patient_doctor_mappings", "patient_doctors", "doctor_patient_mappings", "doctor_patients", "mappings")
    parents = (("patient_id", "patient"), ("doctor_id", "doctor"))
    insert = """
        INSERT INTO mappings (id, owner_id, patient_id, doctor_id, created_at, updated_at)
        SELECT n.id, p.owner_id, p.id, n.doctor_id, n.created_at, n.updated_at
          FROM ready, jsonb_populate_record(NULL::mappings, content) n
          JOIN patients p ON p.id = n.patient_id
         WHERE kind = 'mapping' AND place >= %(first)s AND place < %(end)s
        """


TABLES: Sequence[type[Moved]] = (MovedUser, MovedDoctor, MovedPatient, MovedMapping)
