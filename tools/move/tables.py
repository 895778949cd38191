"""The original's four tables: how sources spell them, the rules for their values, and the statement that takes them.

The rules of values are the API's own: the models below add only what is different for a row of the original. SQL cannot
say them: NFC, letters and spaces are Unicode's, and a second set of patterns would drift away from the first.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, LiteralString

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

_NAMES = ("name", "full_name")
_PHONES = ("phone", "phone_number", "mobile", "contact", "contact_number")
_EMAILS = ("email", "email_address")
_TIMES = {"created_at": ("created_at", "created"), "updated_at": ("updated_at", "updated")}
_GENDERS = {
    **dict.fromkeys(("m", "man", "boy"), "male"),
    **dict.fromkeys(("f", "woman", "girl"), "female"),
    **dict.fromkeys(("o", "x", "others", "diverse", "nonbinary", "non-binary"), "other"),
    **dict.fromkeys(("u", "n/a", "na", "not known"), "unknown"),
}


def _gender(value: object) -> object:
    spelling = str(value).strip().lower()
    return _GENDERS.get(spelling, spelling)


class Moved(Input):
    """A field with a default does not keep its row from being taken."""

    id: Id
    created_at: str | None = None
    updated_at: str | None = None


class MovedUser(Moved):
    name: Name
    email: Email
    password_hash: PasswordHash = decoy(12).decode()


class MovedDoctor(Moved, NewDoctor):
    specialty: Specialty = "Unspecified"


class MovedPatient(Moved, NewPatient):
    owner_id: Id
    gender: Annotated[Gender | None, BeforeValidator(_gender)] = None


class MovedMapping(Moved, NewMapping):
    pass


@dataclass(frozen=True, kw_only=True)
class Table:
    """`names` and `columns` say how sources spell what is here; capitals and underscores make no difference.

    `insert` takes what is `ready` from the place `first` up to, but not including, `end`.
    """

    kind: str  # as the audit calls it
    names: Sequence[str]
    columns: Mapping[str, Sequence[str]]
    model: type[Moved]
    parents: Mapping[str, str] = field(default_factory=dict)  # kinds, by the columns that name them
    insert: LiteralString

    @property
    def required(self) -> set[str]:
        """Columns without which a source is none."""
        return {"password_hash", *(name for name, each in self.model.model_fields.items() if each.is_required())}

    def checked(
        self, columns: Mapping[str, str], values: Sequence[str | None]
    ) -> tuple[int | None, str, str, str, str | None]:
        """A row's id, content, lost values, status and reason. `columns` are the source's names by ours."""
        given: dict[str, Any] = {
            name: int(value) if name in IDS else value
            for name, value in zip(columns, values, strict=True)
            if value and value.strip()
        }
        fields = self.model.model_fields
        problems = {name: "there is none" for name in columns if name not in given and fields[name].default is not None}
        try:
            moved = self.model.model_validate_json(json.dumps(given))
        except ValidationError as error:
            problems = {str(each["loc"][0]): in_words(each) for each in error.errors()} | problems
        reasons = {columns[name]: reason for name, reason in problems.items()}
        if any(fields[name].is_required() for name in problems):
            reason = "; ".join(f"{column}: {reason}" for column, reason in reasons.items())
            return given.get("id"), json.dumps(given), "{}", "refused", reason
        if problems:
            kept = {name: value for name, value in given.items() if name not in problems}
            moved = self.model.model_validate_json(json.dumps(kept))
        return moved.id, moved.model_dump_json(exclude_none=True), json.dumps(reasons), "new", None


TABLES = (
    Table(
        kind="user",
        names=("users", "user"),
        columns={
            "id": ("id",),
            "name": (*_NAMES, "username"),
            "email": _EMAILS,
            "password_hash": ("password", "password_hash", "hashed_password"),
            **_TIMES,
        },
        model=MovedUser,
        insert="""
        INSERT INTO users (id, name, email, password_hash, created_at, updated_at)
        SELECT n.id, n.name, n.email, n.password_hash, n.created_at, n.updated_at
          FROM ready, jsonb_populate_record(NULL::users, content) n
         WHERE kind = 'user' AND place >= %(first)s AND place < %(end)s
        """,
    ),
    Table(
        kind="doctor",
        names=("doctors", "doctor"),
        columns={
            "id": ("id",),
            "name": (*_NAMES, "doctor_name"),
            "specialty": ("specialty", "specialization", "specialisation", "speciality"),
            "phone": _PHONES,
            "email": _EMAILS,
            **_TIMES,
        },
        model=MovedDoctor,
        insert="""
        INSERT INTO doctors (id, name, specialty, phone, email, created_at, updated_at)
        SELECT n.id, n.name, n.specialty, n.phone, n.email, n.created_at, n.updated_at
          FROM ready, jsonb_populate_record(NULL::doctors, content) n
         WHERE kind = 'doctor' AND place >= %(first)s AND place < %(end)s
        """,
    ),
    Table(
        kind="patient",
        names=("patients", "patient"),
        columns={
            "id": ("id",),
            "owner_id": ("user_id", "owner_id", "created_by", "created_by_id"),
            "name": (*_NAMES, "patient_name"),
            "date_of_birth": ("date_of_birth", "dob", "birth_date", "birthday"),
            "gender": ("gender", "sex"),
            "phone": _PHONES,
            "email": _EMAILS,
            "address": ("address",),
            **_TIMES,
        },
        model=MovedPatient,
        parents={"owner_id": "user"},
        insert="""
        INSERT INTO patients (id, owner_id, name, date_of_birth, gender, phone, email, address, created_at, updated_at)
        SELECT n.id, n.owner_id, n.name, n.date_of_birth, n.gender, n.phone, n.email, n.address,
               n.created_at, n.updated_at
          FROM ready, jsonb_populate_record(NULL::patients, content) n
         WHERE kind = 'patient' AND place >= %(first)s AND place < %(end)s
        """,
    ),
    Table(
        kind="mapping",
        names=(
            "patient_doctor_mappings",
            "patient_doctor_mapping",
            "patient_doctors",
            "patient_doctor",
            "doctor_patient_mappings",
            "doctor_patients",
            "doctor_patient",
            "mappings",
            "mapping",
        ),
        columns={
            "id": ("id",),
            "patient_id": ("patient_id", "patient"),
            "doctor_id": ("doctor_id", "doctor"),
            "created_at": (*_TIMES["created_at"], "assigned_at"),
            "updated_at": _TIMES["updated_at"],
        },
        model=MovedMapping,
        parents={"patient_id": "patient", "doctor_id": "doctor"},
        insert="""
        INSERT INTO mappings (id, owner_id, patient_id, doctor_id, created_at, updated_at)
        SELECT n.id, p.owner_id, p.id, n.doctor_id, n.created_at, n.updated_at
          FROM ready, jsonb_populate_record(NULL::mappings, content) n
          JOIN patients p ON p.id = n.patient_id
         WHERE kind = 'mapping' AND place >= %(first)s AND place < %(end)s
        """,
    ),
)
