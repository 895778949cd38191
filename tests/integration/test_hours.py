"""When doctors can be visited: hours, closures, and the times that are free."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.booking import DAYS, HOURS, VISIT, book, free_times, later, new_doctor, new_patient
from tests.conftest import Database
from tests.gateway import Client

MORNING = {"day": "monday", "from": "09:00", "to": "12:00"}


@pytest.fixture
def doctor(ann: Client) -> int:
    doctor: int = ann.create("/api/doctors", name="Who", specialty="Time")["id"]
    return doctor


# Hours --------------------------------------------------------------------------------------------------------------


def test_hours_are_made_and_replaced_as_a_whole(ann: Client, bob: Client, doctor: int) -> None:
    url = f"/api/doctors/{doctor}/hours"
    ann.get(url).refuse(404, "not-found")
    made = ann.put(url, HOURS)
    defaults = {"step_minutes": 15, "buffer_minutes": 0, "notice_minutes": 60, "horizon_days": 90}
    defaults |= {"cancel_minutes": 0, "bookings_per_account": 20}
    times = {name: made.json[name] for name in ("created_at", "updated_at")}
    assert made.expect(200) == {"doctor_id": doctor, **HOURS, **defaults, **times}
    assert made.headers["ETag"] == '"1"'
    again = ann.put(url, HOURS | {"weekly": [], "notice_minutes": 0})
    assert again.expect(200)["weekly"] == []
    assert again.headers["ETag"] == '"2"'
    assert ann.put(url, HOURS | {"weekly": [], "notice_minutes": 0}).headers["ETag"] == '"2"'
    assert bob.get(url).expect(200) == again.json
    assert bob.get(url, headers={"If-None-Match": '"2"'}).status == 304


def test_of_two_who_replace_one_version_of_the_hours_one_is_stale(ann: Client, doctor: int) -> None:
    url = f"/api/doctors/{doctor}/hours"
    ann.put(url, HOURS, headers={"If-Match": '"1"'}).refuse(412, "stale")
    ann.get(url).refuse(404, "not-found")
    ann.put(url, HOURS).expect(200)
    ann.put(url, HOURS | {"weekly": []}, headers={"If-Match": '"1"'}).expect(200)
    ann.put(url, HOURS, headers={"If-Match": '"1"'}).refuse(412, "stale")


def test_only_the_creator_an_admin_or_the_linked_account_sets_hours_and_closures(
    ann: Client, bob: Client, sign_up: Callable[..., Client], doctor: int, database: Database
) -> None:
    url, closures = f"/api/doctors/{doctor}/hours", f"/api/doctors/{doctor}/closures"
    closure = {"starts_at": "2030-01-01T00:00:00Z", "ends_at": "2030-01-02T00:00:00Z"}
    closed = ann.create(closures, **closure)["id"]
    for refused in (
        bob.put(url, HOURS),
        bob.post(closures, closure),
        bob.delete(f"{closures}/{closed}"),
    ):
        refused.refuse(403, "forbidden")
    for refused in (
        bob.put("/api/doctors/999/hours", HOURS),
        bob.post("/api/doctors/999/closures", closure),
        bob.get("/api/doctors/999/closures"),
        bob.delete(f"/api/doctors/999/closures/{closed}"),
        ann.delete(f"{closures}/999"),
    ):
        refused.refuse(404, "not-found")
    admin = sign_up("Eve", admin=True)
    admin.put(url, HOURS).expect(200)
    with database.connect() as connection:
        connection.execute("UPDATE doctors SET account_id = %s WHERE id = %s", [bob.user["id"], doctor])
    bob.put(url, HOURS | {"weekly": []}).expect(200)
    bob.create(closures, **closure)
    bob.delete(f"{closures}/{closed}").expect(204)
    # What others did to the entry is the creator's to see.
    actors = [(event["actor_id"], event["resource"], event["action"]) for event in ann.walk("/api/audit")][:5]
    assert actors == [
        (bob.user["id"], "closure", "delete"),
        (bob.user["id"], "closure", "create"),
        (bob.user["id"], "hours", "update"),
        (None, "doctor", "update"),
        (admin.user["id"], "hours", "create"),
    ]


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"time_zone": "Mars/Olympus"}, "/time_zone"),
        ({"time_zone": "foo5"}, "/time_zone"),
        ({"time_zone": "+05"}, "/time_zone"),
        ({"time_zone": "europe/berlin"}, "/time_zone"),
        ({"visits": [VISIT, VISIT | {"name": "Another"}]}, "/visits"),
        ({"visits": []}, "/visits"),
        ({"visits": [VISIT | {"minutes": 4}]}, "/visits/0/minutes"),
        ({"weekly": [{"day": "monday", "from": "09:00", "to": "09:00"}]}, "/weekly/0"),
        ({"weekly": [{"day": "monday", "from": "9:00", "to": "10:00"}]}, "/weekly/0/from"),
        ({"weekly": [{"day": "monday", "from": "09:00", "to": "24:30"}]}, "/weekly/0/to"),
        ({"weekly": [{"day": "montag", "from": "09:00", "to": "10:00"}]}, "/weekly/0/day"),
        ({"weekly": [MORNING, {"day": "monday", "from": "11:59", "to": "13:00"}]}, "/weekly"),
        ({"step_minutes": 4}, "/step_minutes"),
        ({"horizon_days": 366}, "/horizon_days"),
        ({"created_by": 1}, "/created_by"),
    ],
)
def test_hours_that_make_no_sense_are_refused(ann: Client, doctor: int, change: dict[str, Any], pointer: str) -> None:
    problem = ann.put(f"/api/doctors/{doctor}/hours", HOURS | change).refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


def test_windows_may_touch_and_lie_in_any_order(ann: Client, doctor: int) -> None:
    weekly = [{"day": "monday", "from": "12:00", "to": "24:00"}, {"day": "monday", "from": "00:00", "to": "12:00"}]
    assert ann.put(f"/api/doctors/{doctor}/hours", HOURS | {"weekly": weekly}).expect(200)["weekly"] == weekly


# Closures -----------------------------------------------------------------------------------------------------------


def test_a_closure_takes_its_time_out_and_gives_it_back(ann: Client, bob: Client) -> None:
    doctor = new_doctor(ann, buffer_minutes=10, horizon_days=3)
    before = free_times(ann, doctor)
    closure = {"starts_at": before[8], "ends_at": before[10], "reason": "At the dentist's"}
    made = ann.post(f"/api/doctors/{doctor}/closures", closure)
    assert made.expect(201).items() >= (closure | {"doctor_id": doctor}).items()
    # The visit takes 30 minutes and 10 more.
    assert free_times(ann, doctor) == before[:6] + before[10:]
    assert bob.walk(f"/api/doctors/{doctor}/closures?limit=1") == [made.json]
    url = f"/api/doctors/{doctor}/closures/{made.json['id']}"
    ann.delete(url, headers={"If-Match": '"9"'}).refuse(412, "stale")
    ann.delete(url, headers={"If-Match": made.headers["ETag"]}).expect(204)
    assert free_times(ann, doctor) == before
    assert ann.walk(f"/api/doctors/{doctor}/closures") == []


def test_a_closure_does_not_cover_bookings_nor_their_buffers(ann: Client, bob: Client) -> None:
    doctor = new_doctor(ann, buffer_minutes=10)
    patient = new_patient(bob)
    time = free_times(bob, doctor)[8]
    appointment = book(bob, patient, doctor, time)["id"]
    url = f"/api/doctors/{doctor}/closures"
    for starts_at, ends_at in [(time, later(time, hours=9)), (later(time, minutes=39), later(time, minutes=41))]:
        for headers in ({}, {"Idempotency-Key": "one"}):
            refused = ann.post(url, {"starts_at": starts_at, "ends_at": ends_at}, headers=headers)
            problem = refused.refuse(409, "bookings-in-the-way")
            assert problem["appointments"] == [appointment]
    assert bob.get(f"/api/appointments/{appointment}").expect(200)["status"] == "booked"
    ann.create(url, starts_at=later(time, minutes=40), ends_at=later(time, minutes=50))
    ann.create(url, starts_at=later(time, minutes=-10), ends_at=time)
    bob.post(f"/api/appointments/{appointment}/cancel", {}).expect(200)
    ann.create(url, starts_at=time, ends_at=later(time, hours=9))


def test_a_closure_ends_after_it_starts_and_has_times_with_an_offset(ann: Client, doctor: int) -> None:
    url = f"/api/doctors/{doctor}/closures"
    time = "2030-01-01T10:00:00Z"
    for starts_at, ends_at, pointer in [
        (time, time, "/ends_at"),
        (time, "2029-01-01T10:00:00Z", "/ends_at"),
        ("2030-01-01T10:00:00", time, "/starts_at"),
        ("2030-01-01", time, "/starts_at"),
        (1893492000, time, "/starts_at"),
        (time, "9999-12-31T23:59:59Z", "/ends_at"),
        ("0001-01-01T00:00:00+14:00", time, "/starts_at"),
    ]:
        problem = ann.post(url, {"starts_at": starts_at, "ends_at": ends_at}).refuse(422, "validation")
        assert [error["pointer"] for error in problem["errors"]] == [pointer]
    made = ann.create(url, starts_at="2030-01-01T10:00:00+05:30", ends_at=time)
    assert made["starts_at"] == "2030-01-01T04:30:00Z"


# Free times ---------------------------------------------------------------------------------------------------------


def test_free_times_come_in_order_and_at_most_500_at_once(ann: Client) -> None:
    doctor = new_doctor(ann, step_minutes=5, notice_minutes=0)
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    query = f"&from={_text(start)}"
    url = f"/api/doctors/{doctor}/slots?visit=first{query}&to={_text(start + timedelta(days=2))}"
    first = ann.get(url).expect(200)
    assert first["time_zone"] == "Etc/UTC"
    # The last 25 minutes of a day are too short for a visit that begins in them.
    a_day = [start + timedelta(minutes=minutes) for minutes in range(0, 24 * 60 - 25, 5)]
    expected = [_text(time) for time in [*a_day, *(time + timedelta(days=1) for time in a_day)]]
    assert [slot["starts_at"] for slot in first["items"]] == expected[:500]
    assert first["items"][0]["ends_at"] == _text(start + timedelta(minutes=30))
    assert first["next_from"] == expected[500]
    rest = ann.get(url.replace(query, f"&from={first['next_from']}")).expect(200)
    assert [slot["starts_at"] for slot in rest["items"]] == expected[500:]
    assert rest["next_from"] is None


def test_free_times_are_of_a_week_from_now_after_the_notice_and_before_the_horizon(ann: Client) -> None:
    now, day, step = datetime.now(UTC), timedelta(days=1), timedelta(minutes=46)
    week = free_times(ann, new_doctor(ann, step_minutes=45, notice_minutes=24 * 60), soon=True)
    assert _text(now + day) < week[0] < _text(now + day + step)
    assert _text(now + 7 * day - step) < week[-1] < _text(now + 7 * day)
    near = free_times(ann, new_doctor(ann, step_minutes=45, horizon_days=2), soon=True)
    assert _text(now + 2 * day - step) < near[-1] < _text(now + 2 * day)


def test_whoever_asks_for_free_times_that_cannot_be_is_told(ann: Client, doctor: int) -> None:
    slots = f"/api/doctors/{doctor}/slots"
    ann.get(f"{slots}?visit=first").refuse(404, "not-found")
    doctor = new_doctor(ann)
    slots = f"/api/doctors/{doctor}/slots"
    for query, pointer in [
        ("", "query/visit"),
        ("?visit=other", "query/visit"),
        ("?visit=first&from=2030-01-02T00:00:00Z&to=2030-01-01T00:00:00Z", "query/to"),
        ("?visit=first&from=2030-01-01T00:00:00Z&to=2030-02-01T00:00:01Z", "query/to"),
        ("?visit=first&to=2020-01-01T00:00:00Z", "query/to"),
        ("?visit=first&from=2030-01-01", "query/from"),
        ("?visit=first&from=2030-01-01T00:00:00", "query/from"),
    ]:
        problem = ann.get(slots + query).refuse(422, "validation")
        assert [error["pointer"] for error in problem["errors"]] == [pointer], query
    assert ann.get(f"{slots}?visit=first&from=2150-01-01T00:00:00Z").expect(200)["items"] == []


def test_free_times_tell_nothing_of_who_booked(ann: Client, bob: Client) -> None:
    doctor = new_doctor(ann)
    time = free_times(bob, doctor)[3]
    book(bob, new_patient(bob), doctor, time, reason="Secret")
    answer = ann.get(f"/api/doctors/{doctor}/slots?visit=first")
    assert time not in [slot["starts_at"] for slot in answer.json["items"]]
    assert {name for slot in answer.json["items"] for name in slot} == {"starts_at", "ends_at"}


# The clocks ---------------------------------------------------------------------------------------------------------

ZONES = {
    # Both changes of the clock
    "America/New_York": [date(2026, 3, 8), date(2026, 11, 1), date(2027, 3, 14)],
    "Europe/Berlin": [date(2026, 3, 29), date(2026, 10, 25), date(2027, 3, 28)],
    "Australia/Lord_Howe": [date(2026, 4, 5), date(2026, 10, 4)],  # by half an hour
    "America/Santiago": [date(2026, 4, 4), date(2026, 9, 6)],  # at midnight
    "Pacific/Apia": [date(2011, 12, 30), date(2021, 4, 4), date(2020, 9, 27)],  # without a 30th of December once
    # None
    "Etc/UTC": [date(2028, 2, 29)],
    "Asia/Kolkata": [date(2028, 2, 29)],
    "Asia/Kathmandu": [date(2026, 12, 31)],
}


def _instant(day: date, clock: str, zone: ZoneInfo) -> datetime:
    """A wall-clock time that the clocks leave out is an hour later, of one that comes twice it is the second."""
    days, hours = divmod(int(clock[:2]), 24)
    local = datetime.combine(day + timedelta(days=days), time(hours, int(clock[3:])), zone)
    first, second = local.replace(fold=0).astimezone(UTC), local.replace(fold=1).astimezone(UTC)
    return max(first, second)


def _model(
    zone: ZoneInfo, weekly: list[dict[str, str]], step: timedelta, length: timedelta, since: datetime, until: datetime
) -> list[datetime]:
    found = set()
    for number in range(-3, (until - since).days + 4):
        day = since.astimezone(zone).date() + timedelta(days=number)
        for window in weekly:
            if window["day"] == DAYS[day.weekday()]:
                start, end = _instant(day, window["from"], zone), _instant(day, window["to"], zone)
                while start + length <= end:
                    if since <= start < until:
                        found.add(start)
                    start += step
    return sorted(found)


clocks = st.integers(0, 24 * 12).map(lambda number: f"{number // 12:02}:{number % 12 * 5:02}")
windows = st.tuples(st.sampled_from(DAYS), st.lists(clocks, min_size=2, max_size=2, unique=True).map(sorted)).map(
    lambda window: {"day": window[0], "from": window[1][0], "to": window[1][1]}
)


@pytest.fixture
def postgres(database: Database) -> Iterator[psycopg.Connection]:
    with database.connect() as connection:
        yield connection


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    weekly=st.lists(windows, min_size=1, max_size=8),
    step=st.integers(5, 240),
    length=st.integers(5, 480),
    span=st.integers(0, 9 * 24 * 60),
)
def test_free_times_are_those_of_another_library_for_time_zones(
    postgres: psycopg.Connection,
    zone: str,
    data: st.DataObject,
    weekly: list[dict[str, str]],
    step: int,
    length: int,
    span: int,
) -> None:
    day = data.draw(st.sampled_from(ZONES[zone]))
    since = datetime.combine(day, time(), UTC) + timedelta(minutes=data.draw(st.integers(-3 * 24 * 60, 2 * 24 * 60)))
    until = since + timedelta(minutes=span)
    steps, lengths = timedelta(minutes=step), timedelta(minutes=length)
    found = postgres.execute(
        "SELECT window_times(%s, %s, %s, %s, %s, %s)", [zone, json.dumps(weekly), steps, lengths, since, until]
    ).fetchall()
    assert [row[0].astimezone(UTC) for row in found] == _model(ZoneInfo(zone), weekly, steps, lengths, since, until)


def test_the_time_zones_that_may_be_given_are_places_and_no_rules_of_posix(database: Database) -> None:
    assert database.value("SELECT count(*) > 500 FROM time_zones") is True
    assert database.value("SELECT count(*) FROM time_zones WHERE name = ANY (%s)", [*ZONES]) == len(ZONES)
    assert database.value("SELECT count(*) FROM time_zones WHERE name !~ '^[A-Z][A-Za-z0-9+/_-]*$'") == 0


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
