"""Records: what is known of a patient. None is ever changed: it stands, or another replaces it, or it is retracted."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, LiteralString, Self, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    create_model,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from typing_extensions import TypeAliasType

from healthcare import patients
from healthcare.database.connection import Constraints, Database
from healthcare.errors import Conflict, Forbidden, Invalid, NotFound, ReadOnly
from healthcare.fields import (
    LINE,
    LINES,
    Date,
    Id,
    Input,
    Moment,
    Name,
    OfPatient,
    Output,
    Page,
    PageQuery,
    PastDate,
    Reason,
    normalised,
    page,
)
from healthcare.patients import PatientNotFound
from healthcare.web.request import problems_of

# What a record says, by its kind -------------------------------------------------------------------------------------

_TRIMMED = StringConstraints(strip_whitespace=True)
_NFC = BeforeValidator(normalised)

DIGITS = 100
URI = r"^[A-Za-z][A-Za-z0-9+.-]*:[!-~]+$"
WORD = r"^[!-~]+$"

Uri = Annotated[str, _TRIMMED, StringConstraints(max_length=255, pattern=URI)]
Word = Annotated[str, _TRIMMED, StringConstraints(max_length=100, pattern=WORD)]
Line = Annotated[str, _TRIMMED, StringConstraints(min_length=1, max_length=200, pattern=LINE), _NFC]
ShortText = Annotated[str, _TRIMMED, StringConstraints(min_length=1, max_length=2_000, pattern=LINES), _NFC]
Text = Annotated[str, _TRIMMED, StringConstraints(min_length=1, max_length=20_000, pattern=LINES), _NFC]
Severity = TypeAliasType("Severity", Literal["mild", "moderate", "severe"])


def _decimal(text: str) -> Decimal:
    """Of an exponent that no Decimal has, one that is no number either, so that it is refused as such."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")


def _number(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise PydanticCustomError("decimal_type", "Input should be a number")
    if len(Decimal(value).as_tuple().digits) > DIGITS or abs(Decimal(value).adjusted()) > DIGITS:
        raise PydanticCustomError("decimal_max_digits", f"Number should have at most {DIGITS} digits")
    return value


def _not_later(value: datetime) -> datetime:
    if value > datetime.now(UTC):
        raise PydanticCustomError("datetime_in_future", "Time should not be in the future")
    return value


Value = Annotated[
    Decimal,
    BeforeValidator(_number),
    PlainSerializer(lambda value: f"\0{value:f}", return_type=str, when_used="json"),
    WithJsonSchema({"type": "number"}),
]
"""A finite decimal that keeps its digits: 7.20 is another result than 7.2."""


def _check_order(begins: date | None, ends: date | None) -> None:
    if begins and ends and ends < begins:
        raise PydanticCustomError("dates_in_order", "The end should not be before the beginning")


PastTime = Annotated[Moment, AfterValidator(_not_later)]


class _Content(Input):
    """Content of a record. A field that was left out is absent in the answer too."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        required = [field.alias or name for name, field in cls.model_fields.items() if field.is_required()]
        return handler(schema) | {"required": required}


class Code(_Content):
    """A code as HL7 FHIR has it."""

    system: Uri = Field(description="Whose code it is: LOINC, SNOMED CT, RxNorm ...", examples=["http://loinc.org"])
    code: Word = Field(examples=["718-7"])
    display: Line | None = Field(None, description="The code in words.", examples=["Hemoglobin in blood"])


class Note(_Content):
    title: Line | None = Field(None, examples=["First visit"])
    text: Text = Field(examples=["Feels well."])


class Condition(_Content):
    name: Name = Field(examples=["Hypertension"])
    code: Code | None = None
    since: PastDate | None = None
    until: Date | None = None
    severity: Severity | None = None

    @model_validator(mode="after")
    def _ends_after_it_began(self) -> Self:
        _check_order(self.since, self.until)
        return self


class Allergy(_Content):
    substance: Name = Field(examples=["Penicillin"])
    code: Code | None = None
    reaction: ShortText | None = None
    severity: Severity | None = None


class Medication(_Content):
    name: Name = Field(examples=["Ramipril"])
    code: Code | None = None
    dose: Line | None = Field(None, examples=["5 mg"])
    instructions: ShortText | None = None
    from_: Date | None = Field(None, alias="from")
    until: Date | None = None

    @model_validator(mode="after")
    def _ends_after_it_began(self) -> Self:
        _check_order(self.from_, self.until)
        return self


class Observation(_Content):
    """`value` and `unit`, or `text`."""

    name: Name = Field(examples=["Hemoglobin"])
    code: Code | None = None
    value: Value | None = Field(None, description="Comes back digit for digit.", examples=[13.5])
    unit: Word | None = Field(None, description="As UCUM writes it.", examples=["g/dL"])
    text: ShortText | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if (self.value is None) == (self.text is None) or (self.value is None) != (self.unit is None):
            raise PydanticCustomError("value_or_text", "An observation has a value and its unit, or a text")
        return self


class Immunization(_Content):
    vaccine: Name = Field(examples=["Tetanus toxoid"])
    code: Code | None = None
    given_on: PastDate
    lot: Line | None = None


Kind = Literal["note", "condition", "allergy", "medication", "observation", "immunization"]

CONTENT: Mapping[Kind, type[Input]] = {
    "note": Note,
    "condition": Condition,
    "allergy": Allergy,
    "medication": Medication,
    "observation": Observation,
    "immunization": Immunization,
}


# What is sent and answered -------------------------------------------------------------------------------------------


class _AnyContent:
    """Describes a field as the content of any kind."""

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(TypeAdapter(Union[*CONTENT.values()]).core_schema)


def _by_kind(model: type[BaseModel], name: str, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    """Describes a `model` with `kind` and `content` as one of several, told apart by `kind`."""
    variants = [
        create_model(name.format(content.__name__), __base__=model, kind=(Literal[kind], ...), content=(content, ...))
        for kind, content in CONTENT.items()
    ]
    return handler(TypeAdapter(Annotated[Union[*variants], Field(discriminator="kind")]).core_schema)


class _WithContent(Input):
    # Any object as yet: what it has to be depends on the kind, which for an amendment the record knows.
    content: Annotated[dict[str, Any], _AnyContent()] = Field(
        examples=[{"title": "First visit", "text": "Feels well."}]
    )
    occurred_at: PastTime | None = Field(None, description="When it was so; now, when absent.")

    @classmethod
    def model_validate_json(cls, json_data: str | bytes | bytearray, **options: Any) -> Self:
        """Numbers keep their digits, of which pydantic itself makes a float."""
        super().model_validate_json(json_data, **options)
        return cls.model_validate(json.loads(json_data, parse_float=_decimal), **options)


class NewRecord(_WithContent):
    kind: Kind = Field(examples=["note"])
    appointment_id: Id | None = None

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return _by_kind(cls, "New{}", handler) if cls is NewRecord else handler(schema)


class Amendment(_WithContent):
    occurred_at: PastTime | None = Field(None, description="As before, when absent.")


class Retraction(Input):
    reason: Reason = Field(examples=["Entered for the wrong patient"])


class _Exact(Output):
    """Writes strings that begin with NUL unquoted: content that is JSON already, and numbers that keep their digits."""

    def model_dump_json(self, **options: Any) -> str:
        return _spliced(super().model_dump_json(**options))


def _spliced(text: str) -> str:
    return re.sub(r'"\\u0000((?:[^"\\]|\\.)*)"', lambda match: str(json.loads(f'"{match[1]}"')), text)


class Record(_Exact, OfPatient):
    version: int = Field(exclude=True)
    kind: Kind
    content: Annotated[
        str, PlainSerializer(lambda text: f"\0{text}", return_type=str, when_used="json"), _AnyContent()
    ] = Field(description="JSON, as PostgreSQL keeps it.")
    status: Literal["final", "amended", "retracted"]
    occurred_at: datetime
    appointment_id: int | None
    replaces_id: int | None
    author_id: int
    author_name: str = Field(examples=["Ada Lovelace"])
    by_doctor_id: int | None = Field(description="The doctor, when the author wrote as one and not for the owner.")
    retract_reason: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return _by_kind(cls, "{}Record", handler) if cls is Record else handler(schema)


class RecordPage(_Exact, Page[Record]):
    pass


class RecordQuery(PageQuery):
    kind: Kind | None = Field(None, description="Only records of this kind.")
    history: bool = Field(False, description="Also what was amended or retracted.")


class RecordNotFound(NotFound):
    detail = "There is no record with this id."


class NotTheAuthor(Forbidden):
    detail = "Only its author or the owner's side may amend or retract a record."


class Superseded(Conflict):
    """The record was amended or retracted already, perhaps at this very moment.

    Read the records again. What stands now can be amended or retracted in its turn.
    """

    slug, title = "superseded", "The record does not stand any more"
    detail = "This record was amended or retracted already."


# SQL -----------------------------------------------------------------------------------------------------------------

COLUMNS: LiteralString = """
               id, patient_id, kind, status, occurred_at, appointment_id, replaces_id, author_id, author_name,
               by_doctor_id, version, created_at, updated_at"""

_REFUSALS: Constraints = {
    "patient_is_read_only": lambda: ReadOnly("This patient is opened to you with access `read`."),
    "records_author": NotTheAuthor,
    "records_superseded": Superseded,
    "records_replaces_key": Superseded,
    "records_appointment_fkey": lambda: NotFound("There is no appointment of this patient with this appointment_id."),
}


def create(db: Database, patient_id: int, new: NewRecord) -> Record:
    """Raises NotFound for the patient or the appointment, Invalid, and ReadOnly."""
    record = db.row(
        Record,
        f"""
        INSERT INTO records (owner_id, patient_id, kind, content, occurred_at, appointment_id)
        SELECT owner_id, id, %(kind)s, %(content)s::jsonb, coalesce(%(occurred_at)s, now()), %(appointment_id)s
          FROM patients
         WHERE id = %(patient_id)s
        RETURNING {COLUMNS}, %(content)s::jsonb::text AS content, NULL AS retract_reason
        """,
        patient_id=patient_id,
        **{**dict(new), "content": _checked(new.kind, new.content)},
        constraints=_REFUSALS,
    )
    if record is None:
        raise PatientNotFound
    return record


def get(db: Database, patient_id: int, id: int) -> Record:
    record = db.row(Record, _READ, patient_id=patient_id, id=id)
    if record is None:
        raise RecordNotFound
    return record


_READ: LiteralString = f"""
        SELECT {COLUMNS}, seen.content::text, seen.retract_reason
          FROM records
          JOIN read_records(%(patient_id)s, ARRAY[%(id)s]::bigint[]) AS seen USING (id)
         WHERE patient_id = %(patient_id)s AND id = %(id)s
        """


def search(db: Database, patient_id: int, query: RecordQuery) -> RecordPage:
    """Newest first. Raises PatientNotFound."""
    records = db.rows(
        Record,
        # What the page shows is read through read_records(), which writes down who reads. The row that only tells of
        # another page is not shown.
        f"""
        WITH listed AS MATERIALIZED (
            SELECT {COLUMNS}
              FROM records
             WHERE patient_id = %(patient_id)s AND id < coalesce(%(cursor)s, 9223372036854775807)
               AND (%(history)s OR status = 'final')
               AND (%(kind)s::text IS NULL OR kind = %(kind)s)
             ORDER BY id DESC
             LIMIT %(limit)s + 1
        )
        SELECT listed.*, coalesce(content::text, '') AS content, retract_reason
          FROM listed
          LEFT JOIN read_records(
               %(patient_id)s, ARRAY(SELECT id FROM listed ORDER BY id DESC LIMIT %(limit)s)) USING (id)
         ORDER BY id DESC
        """,
        patient_id=patient_id,
        **dict(query),
    )
    if not records:
        patients.get(db, patient_id)
    return RecordPage(**dict(page(Record, records, query, patient_id)))


def amend(db: Database, patient_id: int, id: int, amendment: Amendment) -> Record:
    """The record that replaces this one. Raises RecordNotFound, Invalid, ReadOnly, NotTheAuthor, and Superseded."""
    amended = db.row(
        _Amended,
        "SELECT kind FROM records WHERE patient_id = %(patient_id)s AND id = %(id)s",
        patient_id=patient_id,
        id=id,
    )
    if amended is None:
        raise RecordNotFound
    record = db.row(
        Record,
        f"""
        INSERT INTO records (owner_id, patient_id, kind, content, occurred_at, appointment_id, replaces_id)
        SELECT owner_id, patient_id, kind, %(content)s::jsonb, coalesce(%(occurred_at)s, occurred_at),
               appointment_id, id
          FROM records
         WHERE patient_id = %(patient_id)s AND id = %(id)s
        RETURNING {COLUMNS}, %(content)s::jsonb::text AS content, NULL AS retract_reason
        """,
        patient_id=patient_id,
        id=id,
        content=_checked(amended.kind, amendment.content),
        occurred_at=amendment.occurred_at,
        constraints=_REFUSALS,
    )
    if record is None:  # it is opened to this doctor no longer
        raise RecordNotFound
    return record


class _Amended(Output):
    kind: Kind


def retract(db: Database, patient_id: int, id: int, retraction: Retraction) -> Record:
    """Raises RecordNotFound, ReadOnly, NotTheAuthor, and Superseded."""
    record = db.row(
        Record,
        f"""
        UPDATE records
           SET retract_reason = %(reason)s
         WHERE patient_id = %(patient_id)s AND id = %(id)s;
        {_READ}
        """,
        patient_id=patient_id,
        id=id,
        reason=retraction.reason,
        constraints=_REFUSALS,
    )
    if record is None:
        raise RecordNotFound
    return record


def _checked(kind: Kind, content: dict[str, Any]) -> str:
    """The content as JSON. Raises Invalid when it is not what the kind has."""
    try:
        checked = CONTENT[kind].model_validate(content)
    except ValidationError as error:
        raise Invalid(problems_of(error, "/content")) from None
    return _spliced(checked.model_dump_json(by_alias=True, exclude_none=True))
