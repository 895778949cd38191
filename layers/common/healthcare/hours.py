"""When doctors can be visited: their weekly hours, their closures, and the times that are free."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Annotated, Literal, LiteralString, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from healthcare import doctors
from healthcare.database.connection import IF_MATCH, Database
from healthcare.errors import Conflict, Forbidden, Invalid, NotFound, Refusal, Stale
from healthcare.fields import LINE, Input, Moment, Name, Output, Page, PageQuery, Reason, Row, page

SLOTS = 500  # of one answer
LONGEST = timedelta(days=31)  # that free times are looked for

HOURS: LiteralString = """id AS doctor_id, time_zone, visits, weekly, step_minutes, buffer_minutes, notice_minutes,
       horizon_days, cancel_minutes, bookings_per_account, version, created_at, updated_at"""
CLOSURE: LiteralString = "id, doctor_id, starts_at, ends_at, reason, version, created_at, updated_at"

Code = Annotated[str, StringConstraints(max_length=50, pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")]
TimeZone = Annotated[str, StringConstraints(max_length=64, pattern=LINE)]
Minutes = Annotated[int, Field(ge=0, le=30 * 24 * 60)]


class Visit(Input):
    code: Code = Field(examples=["first"])
    name: Name = Field(examples=["First visit"])
    minutes: int = Field(ge=5, le=480, examples=[30])
    modality: Literal["in_person", "video", "any"] = Field(
        description="`any`: whoever books chooses one of the two.", examples=["any"]
    )


class Window(Input):
    model_config = ConfigDict(serialize_by_alias=True)

    day: Literal["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
    opens: str = Field(alias="from", pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$", examples=["09:00"])
    closes: str = Field(alias="to", pattern="^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$", examples=["17:00"])

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.opens >= self.closes:
            raise PydanticCustomError("window", "Window should end after it begins")
        return self


def _codes_differ(visits: list[Visit]) -> list[Visit]:
    if len({visit.code for visit in visits}) < len(visits):
        raise PydanticCustomError("codes", "Each visit should have a code of its own")
    return visits


def _windows_differ(windows: list[Window]) -> list[Window]:
    ordered = sorted(windows, key=lambda window: (window.day, window.opens))
    if any(a.day == b.day and a.closes > b.opens for a, b in pairwise(ordered)):
        raise PydanticCustomError("windows", "Windows of one day should not overlap")
    return windows


class NewHours(Input):
    time_zone: TimeZone = Field(description="A name of IANA's.", examples=["Europe/London"])
    visits: Annotated[list[Visit], Field(min_length=1, max_length=20), AfterValidator(_codes_differ)]
    weekly: Annotated[list[Window], Field(max_length=50), AfterValidator(_windows_differ)] = Field(
        description="In local time. A time that the clocks skip counts as an hour later; of one that occurs twice, the"
        " second counts."
    )
    step_minutes: int = Field(15, ge=5, le=240, description="From one start to the next.", examples=[15])
    buffer_minutes: int = Field(0, ge=0, le=240, description="Kept free after each visit.", examples=[5])
    notice_minutes: Minutes = Field(60, description="From now to the first offered time, at least.", examples=[60])
    horizon_days: int = Field(90, ge=1, le=365, description="How many days ahead times are offered.", examples=[90])
    cancel_minutes: Minutes = Field(
        0, description="How long before its start a visit can still be cancelled or moved.", examples=[120]
    )
    bookings_per_account: int = Field(
        20, ge=1, le=1000, description="Bookings to come that one account may have with this doctor.", examples=[20]
    )


class Hours(Output):
    version: int = Field(exclude=True)
    doctor_id: int
    time_zone: str
    visits: list[Visit]
    weekly: list[Window]
    step_minutes: int
    buffer_minutes: int
    notice_minutes: int
    horizon_days: int
    cancel_minutes: int
    bookings_per_account: int
    created_at: datetime
    updated_at: datetime


class HoursNotFound(NotFound):
    detail = "There are no hours of a doctor with this id."


class NotYourCalendar(Forbidden):
    detail = "Only the doctor's own account, the creator of its entry or an admin may set its hours and closures."


def put(db: Database, doctor_id: int, new: NewHours, if_match: list[int] | None) -> Hours:
    """Makes or replaces them; what is booked stays. Raises DoctorNotFound, NotYourCalendar, Invalid and Stale."""
    hours = db.row(
        Hours,
        f"""
        INSERT INTO hours AS h (id, created_by, time_zone, visits, weekly, step_minutes, buffer_minutes, notice_minutes,
                                horizon_days, cancel_minutes, bookings_per_account)
        SELECT d.id, d.created_by, n.time_zone, n.visits, n.weekly, n.step_minutes, n.buffer_minutes, n.notice_minutes,
               n.horizon_days, n.cancel_minutes, n.bookings_per_account
          FROM doctors d
         CROSS JOIN jsonb_populate_record(NULL::hours, %(new)s::jsonb) n
         WHERE d.id = %(doctor_id)s AND keeps_calendar(d.id, d.created_by)
           AND (%(if_match)s::bigint[] IS NULL OR EXISTS (SELECT FROM hours WHERE id = d.id))
            ON CONFLICT (id) DO UPDATE
           SET (time_zone, visits, weekly, step_minutes, buffer_minutes, notice_minutes,
                horizon_days, cancel_minutes, bookings_per_account)
             = (excluded.time_zone, excluded.visits, excluded.weekly, excluded.step_minutes, excluded.buffer_minutes,
                excluded.notice_minutes, excluded.horizon_days, excluded.cancel_minutes, excluded.bookings_per_account)
         WHERE %(if_match)s::bigint[] IS NULL OR h.version = ANY (%(if_match)s)
        RETURNING {HOURS}
        """,
        doctor_id=doctor_id,
        new=new.model_dump_json(),
        if_match=if_match,
        constraints={
            "hours_time_zone_fkey": lambda: Invalid([("/time_zone", "Input should be a time zone of IANA's")])
        },
    )
    if hours is None:
        raise _refusal(db, doctor_id)
    return hours


def get(db: Database, doctor_id: int) -> Hours:
    hours = db.row(
        Hours,
        f"""
        SELECT {HOURS}
          FROM hours
         WHERE id = %(doctor_id)s
        """,
        doctor_id=doctor_id,
    )
    if hours is None:
        raise HoursNotFound
    return hours


def _refusal(db: Database, doctor_id: int) -> Refusal:
    """Why nothing was written. Raises DoctorNotFound."""
    doctors.get(db, doctor_id)
    keeps = "SELECT FROM doctors WHERE id = %(id)s AND keeps_calendar(id, created_by)"
    return Stale() if db.execute(keeps, id=doctor_id) else NotYourCalendar()


# Closures -----------------------------------------------------------------------------------------------------------


class NewClosure(Input):
    starts_at: Moment = Field(examples=["2030-12-24T12:00:00Z"])
    ends_at: Moment = Field(examples=["2030-12-27T00:00:00Z"])
    reason: Reason | None = Field(None, description="For everybody to read.", examples=["Christmas"])

    @field_validator("ends_at")
    @classmethod
    def _forwards(cls, value: datetime, info: ValidationInfo) -> datetime:
        if value <= info.data.get("starts_at", value - LONGEST):
            raise PydanticCustomError("order", "Input should be later than starts_at")
        return value


class Closure(Row):
    version: int = Field(exclude=True)
    doctor_id: int
    starts_at: datetime
    ends_at: datetime
    reason: str | None
    created_at: datetime
    updated_at: datetime


class ClosureNotFound(NotFound):
    detail = "There is no closure with this id."


class BookingsInTheWay(Conflict):
    """Appointments are booked in the time that is to be closed. `appointments` has their ids, a hundred at most.

    Cancel or move them first, or leave their time open.
    """

    slug, title = "bookings-in-the-way", "There are appointments in this time"
    detail = "There are appointments in this time; `appointments` says which."

    def __init__(self, appointments: list[int]) -> None:
        super().__init__()
        self.appointments = appointments

    def more(self) -> dict[str, object]:
        return {"appointments": self.appointments}


class _InTheWay(Output):
    appointments: list[int]


def close(db: Database, doctor_id: int, new: NewClosure) -> Closure:
    """Raises DoctorNotFound, NotYourCalendar and BookingsInTheWay."""
    # The first statement waits for bookings that are being made; the second one sees them.
    closure = db.row(
        Closure,
        f"""
        SELECT take_turns('doctor', id)
          FROM doctors
         WHERE id = %(doctor_id)s AND keeps_calendar(id, created_by);
        INSERT INTO closures (doctor_id, created_by, starts_at, ends_at, reason)
        SELECT id, created_by, %(starts_at)s, %(ends_at)s, %(reason)s
          FROM doctors
         WHERE id = %(doctor_id)s AND keeps_calendar(id, created_by)
           AND bookings_in_the_way(id, %(starts_at)s, %(ends_at)s) = '{{}}'
        RETURNING {CLOSURE}
        """,
        doctor_id=doctor_id,
        **dict(new),
    )
    if closure is None:
        in_the_way = db.row(
            _InTheWay,
            "SELECT bookings_in_the_way(%(doctor_id)s, %(starts_at)s, %(ends_at)s) AS appointments",
            doctor_id=doctor_id,
            **dict(new),
        )
        refusal = _refusal(db, doctor_id)
        raise BookingsInTheWay(in_the_way.appointments) if in_the_way and isinstance(refusal, Stale) else refusal
    return closure


def closures(db: Database, doctor_id: int, query: PageQuery) -> Page[Closure]:
    """Raises DoctorNotFound."""
    found = db.rows(
        Closure,
        f"""
        SELECT {CLOSURE}
          FROM closures
         WHERE doctor_id = %(doctor_id)s AND id > coalesce(%(cursor)s, 0)
         ORDER BY id
         LIMIT %(limit)s + 1
        """,
        doctor_id=doctor_id,
        **dict(query),
    )
    if not found:
        doctors.get(db, doctor_id)
    return page(Closure, found, query)


def reopen(db: Database, doctor_id: int, closure_id: int, if_match: list[int] | None) -> None:
    """Deletes a closure. Raises ClosureNotFound, NotYourCalendar and Stale."""
    deleted = db.execute(
        f"""
        DELETE FROM closures
         WHERE id = %(closure_id)s AND doctor_id = %(doctor_id)s AND {IF_MATCH}
        """,
        doctor_id=doctor_id,
        closure_id=closure_id,
        if_match=if_match,
    )
    if not deleted:
        known = "SELECT id FROM closures WHERE id = %(closure_id)s AND doctor_id = %(doctor_id)s"
        if not db.execute(known, doctor_id=doctor_id, closure_id=closure_id):
            raise ClosureNotFound
        raise _refusal(db, doctor_id)


# Free times ---------------------------------------------------------------------------------------------------------


class SlotsQuery(Input):
    visit: Code = Field(description="The code of a visit.", examples=["first"])
    since: Moment | None = Field(None, alias="from", description="Times from then on; now, unless given.")
    until: Moment | None = Field(
        None, alias="to", description="Times before then, at most 31 days after `from`; a week after it, unless given."
    )

    @field_validator("until")
    @classmethod
    def _not_far(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        since = info.data.get("since") or datetime.now(UTC)
        if value and not since <= value <= since + LONGEST:
            raise PydanticCustomError("span", "Input should be at or after `from`, and at most 31 days after it")
        return value


class Slot(Output):
    starts_at: datetime = Field(examples=["2026-03-02T09:30:00Z"])
    ends_at: datetime = Field(examples=["2026-03-02T10:00:00Z"])


class Slots(Output):
    time_zone: str
    items: list[Slot] = Field(max_length=SLOTS)
    next_from: datetime | None = Field(
        description="The next free time, when there are more than 500; null otherwise.", examples=[None]
    )


class _Found(Output):
    time_zone: str
    is_offered: bool
    items: list[Slot]


def slots(db: Database, doctor_id: int, query: SlotsQuery) -> Slots:
    """The free times of a visit, in order. Raises HoursNotFound, and Invalid for an unknown visit."""
    since = query.since or datetime.now(UTC)
    found = db.row(
        _Found,
        """
        SELECT time_zone,
               visits @> jsonb_build_array(jsonb_build_object('code', %(visit)s::text)) AS is_offered,
               (SELECT coalesce(jsonb_agg(s ORDER BY starts_at), '[]')
                  FROM offered_times(id, %(visit)s, %(since)s, %(until)s, %(wanted)s) AS s) AS items
          FROM hours
         WHERE id = %(doctor_id)s
        """,
        doctor_id=doctor_id,
        visit=query.visit,
        since=since,
        until=query.until or since + timedelta(days=7),
        wanted=SLOTS + 1,
    )
    if found is None:
        raise HoursNotFound
    if not found.is_offered:
        raise Invalid([("query/visit", "Input should be the code of one of the doctor's visits")])
    next_from = found.items[SLOTS].starts_at if len(found.items) > SLOTS else None
    return Slots(time_zone=found.time_zone, items=found.items[:SLOTS], next_from=next_from)
