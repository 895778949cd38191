"""Invitations: how a user becomes a delegate, or the account of a doctor."""

from base64 import b32encode
from datetime import datetime
from hashlib import sha256
from secrets import token_bytes
from typing import Annotated, Any, Literal, LiteralString

from pydantic import Field, RootModel, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType  # Python 3.12 has it in `typing`

from healthcare import doctors
from healthcare.database.connection import IF_MATCH, Database
from healthcare.delegates import DelegateAccess
from healthcare.doctors import Doctor, NotYourDoctor
from healthcare.errors import AccountGone, Conflict, NotFound, Stale, TooManyAttempts
from healthcare.fields import SECRET, Id, Input, Output, Page, PageQuery, Row, page

COLUMNS: LiteralString = "id, kind, access, doctor_id, expires_at, version, created_at"

Code = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=256, pattern=SECRET),
    Field(examples=["MFRGGZDFMZTWQ2LKNNWG23TPOBYXE43U"]),
]
Kind = TypeAliasType("Kind", Literal["delegate", "doctor"])
_FIELD_OF = {"delegate": "access", "doctor": "doctor_id"}


class NewInvitation(
    Input,
    json_schema_extra={
        "oneOf": [
            {
                "properties": {"kind": {"const": kind}, needed: {"not": {"type": "null"}}, other: {"type": "null"}},
                "required": ["kind", needed],
            }
            for kind, needed, other in (("delegate", "access", "doctor_id"), ("doctor", "doctor_id", "access"))
        ]
    },
):
    kind: Kind = Field(examples=["delegate"])
    access: DelegateAccess | None = Field(
        None, description="Of a delegate: what it may do.", examples=["read"], validate_default=True
    )
    doctor_id: Id | None = Field(
        None, description="Of a doctor: the entry to be linked to the account that accepts.", validate_default=True
    )

    @field_validator("access", "doctor_id")
    @classmethod
    def _belongs_to_the_kind(cls, value: Any, info: ValidationInfo) -> Any:
        kind = info.data.get("kind")
        if kind and (info.field_name == _FIELD_OF[kind]) != (value is not None):
            if value is None:
                raise PydanticCustomError("missing", "Field required")
            raise PydanticCustomError("extra_forbidden", "Unknown field")
        return value


class Acceptance(Input):
    code: Code


class Invitation(Row):
    version: int = Field(exclude=True)
    kind: Kind
    access: DelegateAccess | None
    doctor_id: int | None
    expires_at: datetime
    created_at: datetime


class InvitationWithCode(Invitation):
    code: str = Field(
        description="Shown this once. Whoever sends it to `POST /api/invitations/accept` is who you invited.",
        examples=["MFRGGZDFMZTWQ2LKNNWG23TPOBYXE43U"],
    )


class InvitingOwner(Output):
    id: int
    name: str = Field(examples=["Ada Brown"])


class AcceptedAsDelegate(Output):
    kind: Literal["delegate"]
    owner: InvitingOwner
    access: DelegateAccess


class AcceptedAsDoctor(Output):
    kind: Literal["doctor"]
    doctor: Doctor


class Accepted(RootModel[AcceptedAsDelegate | AcceptedAsDoctor], Output):
    pass


class InvitationNotFound(NotFound):
    detail = "There is no invitation with this id."


class CodeNotFound(NotFound):
    detail = "There is no open invitation with this code."


class AlreadyLinked(Conflict):
    """Your account is linked to another doctor of the directory, and an account can be one doctor only.

    End that link first: `DELETE /api/doctors/{id}/account`.
    """

    slug, title = "already-linked", "Your account is linked to another doctor"
    detail = "Your account is linked to another doctor already."


class PatientsStillOpen(Conflict):
    """More patients were opened to the doctor's former account than one request closes.

    They are being closed, up to 5,000 in each run of the sender; accept again then. If that account is still linked,
    end that link first: `DELETE /api/doctors/{id}/account`.
    """

    slug, title = "patients-still-open", "The doctor's former patients are not closed yet"
    detail = "Patients that were opened to the doctor's former account are not closed yet."


def create(db: Database, new: NewInvitation) -> InvitationWithCode:
    """Raises NotFound and Forbidden for the doctor."""
    code = b32encode(token_bytes(20)).decode()
    invitation = db.row(
        Invitation,
        f"""
        DELETE FROM invitations
         WHERE owner_id = %(owner_id)s AND expires_at < now();
        INSERT INTO invitations (owner_id, kind, access, doctor_id, code_hash)
        SELECT %(owner_id)s, %(kind)s, %(access)s, %(doctor_id)s, %(code_hash)s
         WHERE %(doctor_id)s IS NULL
            OR EXISTS (SELECT
                         FROM doctors
                        WHERE id = %(doctor_id)s AND (created_by = app_user_id() OR app_role() = 'admin'))
        RETURNING {COLUMNS}
        """,
        owner_id=db.user_id,
        code_hash=_hash(code),
        **dict(new),
        constraints={"invitations_owner_id_fkey": AccountGone},
    )
    if invitation is None:
        assert new.doctor_id
        doctors.get(db, new.doctor_id)
        raise NotYourDoctor("Only its creator or an admin may invite a doctor's account.")
    return InvitationWithCode(**dict(invitation), code=code)


def search(db: Database, query: PageQuery) -> Page[Invitation]:
    """The caller's open ones."""
    invitations = db.rows(
        Invitation,
        f"""
        SELECT {COLUMNS}
          FROM invitations
         WHERE id > coalesce(%(cursor)s, 0) AND expires_at > now()
         ORDER BY id
         LIMIT %(limit)s + 1
        """,
        **dict(query),
    )
    return page(Invitation, invitations, query)


def withdraw(db: Database, id: int, if_match: list[int] | None) -> None:
    """Raises InvitationNotFound and Stale."""
    if not db.execute(f"DELETE FROM invitations WHERE id = %(id)s AND {IF_MATCH}", id=id, if_match=if_match):
        raise Stale if db.execute("SELECT FROM invitations WHERE id = %(id)s", id=id) else InvitationNotFound


class _Attempt(Output):
    wait: int
    kind: Kind | None
    access: DelegateAccess | None
    owner: InvitingOwner | None
    doctor: Doctor | None


def accept(db: Database, given: Acceptance) -> Accepted:
    """Raises NotFound, AlreadyLinked, PatientsStillOpen, and TooManyAttempts."""
    attempt = db.row(
        _Attempt,
        "SELECT wait, kind, access, owner, doctor FROM accept_invitation(%(hash)s)",
        hash=_hash(given.code),
        constraints={
            "doctors_account_id_key": AlreadyLinked,
            "doctors_closed_patients": PatientsStillOpen,
            "delegates_user_id_fkey": AccountGone,
        },
    )
    assert attempt
    if attempt.wait:
        raise TooManyAttempts("There were too many wrong codes; wait before the next one.", retry_after=attempt.wait)
    if attempt.kind is None:
        raise CodeNotFound
    return Accepted.model_validate(dict(attempt))


def _hash(code: str) -> bytes:
    """160 random bits cannot be guessed, so a fast hash is enough."""
    return sha256(code.encode()).digest()
