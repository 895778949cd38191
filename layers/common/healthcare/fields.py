"""The vocabulary that models share: text, ids, dates, pages."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar
from unicodedata import normalize

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType  # Python 3.12 has it in `typing`

from healthcare.errors import Invalid

MAX_ID = 2**63 - 1

# What no text holds: control characters, embeddings, overrides and isolates of the writing direction, and U+FFFD, which
# takes the place of bytes that were no UTF-8. Longer texts may have line breaks and tabs.
LINE = r"^[^\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffd]*$"
LINES = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufffd]*$"
SECRET = r"^[^\x00\ufffd]*$"  # a password may have been chosen elsewhere, with any character that PostgreSQL stores
PHONE = r"^[+(]{0,2}[0-9][0-9 ()+./x#-]{0,30}[0-9()+./x#-]$"
# U+FEFF is a space to JavaScript only: `\s` is not the same in every language that reads the pattern.
_EMAIL_PART = r"\s@()<>\[\]:;,\\\x22\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ufffd"
EMAIL = rf"^[^{_EMAIL_PART}]+@[^{_EMAIL_PART}.]+(\.[^{_EMAIL_PART}.]+)+$"
# The cost in two digits, 22 characters of salt, of which the last holds four bits, and 31 of hash.
BCRYPT = r"^\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}$"

_MOMENT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"

PATTERN_IN_WORDS = {
    LINE: "Text should not contain control characters, changes of the writing direction or U+FFFD",
    LINES: "Text should not contain control characters, changes of the writing direction or U+FFFD",
    SECRET: "Text should not contain NUL or U+FFFD",
    PHONE: "Input should be a phone number: digits, spaces and ( ) + - . / # x",
    EMAIL: "Input should be an e-mail address",
    BCRYPT: "Input should be a hash of bcrypt",
}


class Input(BaseModel):
    """What a client sends. An unknown field is refused: it is a typo, or an attempt to set what is not the caller's."""

    model_config = ConfigDict(extra="forbid", defer_build=True)


def unchanged(description: str | None = None, *, example: object = None) -> Any:
    """The default of a field in a JSON merge patch (RFC 7396): when it is absent, it stays as it is."""
    examples = None if example is None else [example]
    return Field(default_factory=lambda: None, description=description, examples=examples)


class Output(BaseModel):
    """What a client gets."""

    model_config = ConfigDict(defer_build=True)  # until the first answer of its kind; a cold start needs one or two

    def patients(self) -> list[int]:
        """The ids of the patients that this shows something of, for the access log."""
        return []


class Text(Output):
    """An answer that is no JSON."""

    media_type: ClassVar[str]
    text: str


def normalised(value: object) -> object:
    """NFC, before lengths are looked at: it may lengthen a text."""
    return normalize("NFC", value) if isinstance(value, str) and not value.isascii() else value


def _moment(value: object) -> object:
    if not isinstance(value, datetime) and not re.fullmatch(_MOMENT, str(value), re.ASCII):
        raise PydanticCustomError("moment", "Input should be a time with an offset, such as 2026-03-02T09:30:00Z")
    return value


def _digits(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch(r"0|[1-9][0-9]{0,18}", value, re.ASCII):
        raise PydanticCustomError("integer", "Input should be an integer written in decimal digits")
    return value


def _calendar_date(value: object) -> object:
    if not isinstance(value, date) and not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", str(value), re.ASCII):
        raise PydanticCustomError("date_parsing", "Input should be a date as YYYY-MM-DD")
    return value


def _not_in_the_future(value: date) -> date:
    # The day begins in the farthest time zone fourteen hours before it does in UTC.
    if value > (datetime.now(UTC) + timedelta(hours=14)).date():
        raise PydanticCustomError("date_in_future", "Date should not be in the future")
    return value


def _says_something(value: str) -> str:
    if not any(map(str.isalnum, value)):
        raise PydanticCustomError("no_letter", "Text should have a letter or a number")
    return value


Id = Annotated[int, Field(gt=0, le=MAX_ID, strict=True, json_schema_extra={"format": "int64"})]
"""An id in a JSON body: a number, not a string of one."""

IdText = Annotated[int, Field(gt=0, le=MAX_ID, json_schema_extra={"format": "int64"}), BeforeValidator(_digits)]
"""An id in a path or a query: decimal digits without sign, spaces or leading zeros."""

_TRIMMED = StringConstraints(strip_whitespace=True)
_NFC = BeforeValidator(normalised)

Name = Annotated[
    str, _TRIMMED, StringConstraints(min_length=1, max_length=200, pattern=LINE), AfterValidator(_says_something), _NFC
]
Specialty = Annotated[
    str, _TRIMMED, StringConstraints(min_length=1, max_length=100, pattern=LINE), AfterValidator(_says_something), _NFC
]
Address = Annotated[str, _TRIMMED, StringConstraints(min_length=1, max_length=500, pattern=LINES), _NFC]
Reason = Annotated[str, _TRIMMED, StringConstraints(min_length=1, max_length=500, pattern=LINES), _NFC]
Phone = Annotated[str, _TRIMMED, StringConstraints(max_length=32, pattern=PHONE), _NFC]
Email = Annotated[str, _TRIMMED, StringConstraints(max_length=254, pattern=EMAIL), _NFC]
FilterText = Annotated[str, _TRIMMED, StringConstraints(max_length=200, pattern=LINE), _NFC]
Date = Annotated[date, BeforeValidator(_calendar_date, json_schema_input_type=date)]
PastDate = Annotated[Date, AfterValidator(_not_in_the_future)]
DateOfBirth = Annotated[PastDate, Field(ge=date(1800, 1, 1))]
Moment = Annotated[
    datetime,
    # Years that every party can count with, in any time zone.
    Field(ge=datetime(1900, 1, 1, tzinfo=UTC), lt=datetime(2200, 1, 1, tzinfo=UTC)),
    BeforeValidator(_moment, json_schema_input_type=datetime),
    AfterValidator(lambda moment: moment.astimezone(UTC)),  # PostgreSQL takes no offset of 16 hours or more
]
"""A point in time, written as RFC 3339 has it: with seconds and an offset."""

Gender = TypeAliasType("Gender", Literal["male", "female", "other", "unknown"])
"""The codes of HL7 FHIR's administrative gender."""


def encode_cursor(last_id: int) -> str:
    return urlsafe_b64encode(last_id.to_bytes(8)).rstrip(b"=").decode()


def _decode_cursor(value: object) -> int:
    try:
        last_id = int.from_bytes(urlsafe_b64decode(f"{value}="))
    except ValueError:
        last_id = 0
    if not 0 < last_id <= MAX_ID or encode_cursor(last_id) != value:
        raise PydanticCustomError("cursor", "Input should be the next_cursor of an earlier page")
    return last_id


CURSOR = "^(?!A{11})[A-Za-f][A-Za-z0-9_-]{9}[AEIMQUYcgkosw048]$"  # not 0, and below 2**63

Cursor = Annotated[int, BeforeValidator(_decode_cursor), WithJsonSchema({"type": "string", "pattern": CURSOR})]
"""On the wire the id of the last row seen, as eight bytes in base64url; clients treat it as opaque."""


class TimeAndId(NamedTuple):
    time: datetime
    id: int


def encode_time_cursor(last: TimeAndId) -> str:
    return urlsafe_b64encode(int(last.time.timestamp()).to_bytes(4) + last.id.to_bytes(8)).decode()


def _decode_time_cursor(value: object) -> TimeAndId:
    if not re.fullmatch(TIME_CURSOR, str(value)):
        raise PydanticCustomError("cursor", "Input should be the next_cursor of an earlier page")
    content = urlsafe_b64decode(str(value))
    return TimeAndId(datetime.fromtimestamp(int.from_bytes(content[:4]), UTC), int.from_bytes(content[4:]))


TIME_CURSOR = "^[A-Za-z0-9_-]{5}[A-HQ-Xg-nw-z0-3][A-Za-z0-9_-]{10}$"  # the id is below 2**63

TimeCursor = Annotated[
    TimeAndId, BeforeValidator(_decode_time_cursor), WithJsonSchema({"type": "string", "pattern": TIME_CURSOR})
]
"""As `Cursor`, of a list in the order of time: before the id, whole seconds since the epoch as four bytes."""


class WordAndId(NamedTuple):
    word: str  # empty where the list is in the order of ids alone
    id: int


def _decode_word_cursor(value: object) -> WordAndId:
    if not re.fullmatch(WORD_CURSOR, str(value)):
        raise PydanticCustomError("cursor", "Input should be the next_cursor of an earlier page")
    id_part, word_part = str(value)[:11], str(value)[11:]
    # Whatever the bytes are, they become text that PostgreSQL takes.
    word = urlsafe_b64decode(f"{word_part}===").decode(errors="replace").replace("\0", "")
    return WordAndId(word, _decode_cursor(id_part))


# A word of search_words() has 800 bytes at most.
WORD_CURSOR = f"{CURSOR[:-1]}([A-Za-z0-9_-]{{4}}){{0,266}}([A-Za-z0-9_-]{{2,3}})?$"

WordCursor = Annotated[
    WordAndId,
    BeforeValidator(_decode_word_cursor),
    WithJsonSchema({"type": "string", "pattern": WORD_CURSOR, "maxLength": 1078}),
]
"""As `Cursor`, of a list that is in the order of words while it is searched: after the id, the word in base64url."""


class Row(Output):
    """An item of a list."""

    id: int


class Found(Row):
    """An item of a list that can be searched; then it is in the order of the words found."""

    word: str = Field("", exclude=True)


def encode_word_cursor(last: Found) -> str:
    return encode_cursor(last.id) + urlsafe_b64encode(last.word.encode()).rstrip(b"=").decode()


class OfPatient(Row):
    """What belongs to one patient."""

    patient_id: int

    def patients(self) -> list[int]:
        return [self.patient_id]


Item = TypeVar("Item", bound=Row)


class LimitQuery(Input):
    limit: Annotated[int, Field(ge=1, le=100, description="Rows of a page."), BeforeValidator(_digits)] = 20


class PageQuery(LimitQuery):
    cursor: Annotated[Cursor | None, Field(description="The `next_cursor` of the page before.")] = None


class SearchQuery(LimitQuery):
    """Of a list of names. `after` is where its page begins."""

    cursor: Annotated[WordCursor | None, Field(description="The `next_cursor` of the page before.")] = None
    q: FilterText | None = Field(
        None,
        description="Up to 8 words of the name, each matched from its start, in any case. A word is a run of letters, "
        "marks and numbers; without one nothing is found. With `q` the list is in the order of the words found.",
    )

    @property
    def after(self) -> WordAndId:
        return self.cursor or WordAndId("", 0)


def too_many_words() -> Invalid:
    return Invalid([("query/q", "Text should have at most 8 words")])


class Page(Output, Generic[Item]):
    items: list[Item]
    next_cursor: str | None = Field(description="Ask for the next page with it; null on the last one.")
    patient_id: int | None = Field(None, exclude=True)  # of a list that belongs to one patient

    def patients(self) -> list[int]:
        shown = [id for item in self.items for id in item.patients()]
        return list(dict.fromkeys([self.patient_id, *shown] if self.patient_id else shown))


def page(
    model: type[Item],
    rows: Sequence[Item],
    query: LimitQuery,
    patient_id: int | None = None,
    *,
    cursor: Callable[[Item], str] = lambda row: encode_cursor(row.id),
) -> Page[Item]:
    """A page of `rows`, which were selected with one more than `query.limit` to see whether another page follows."""
    items = list(rows[: query.limit])
    next_cursor = cursor(items[-1]) if len(rows) > query.limit else None
    # A type checker cannot follow a type argument that is a variable; pydantic builds the model at run time.
    return Page[model](items=items, next_cursor=next_cursor, patient_id=patient_id)  # type: ignore[valid-type]
