"""Booking, free times and the doctor's calendar as the same team would write them.

Each booking is one SERIALIZABLE transaction that looks for overlaps, and starts again when PostgreSQL finds that
another one came in between.
"""

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from app import Base, Caller, Database, Id, Input, Name, Output, Patient, engine
from fastapi import FastAPI, HTTPException, Query, Response
from mangum import Mangum
from pydantic import AwareDatetime, Field
from sqlalchemy import FetchedValue, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Mapped, Session, mapped_column, sessionmaker

ATTEMPTS = 10
REPEATABLE = {"40001", "40P01"}  # serialization_failure, deadlock_detected
ACTIVE = ("booked", "arrived")
LONGEST_VISIT = timedelta(hours=12)  # with its buffer; bounds how far back an overlapping one can start
SLOTS = 500
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

Serializable = sessionmaker(engine.execution_options(isolation_level="SERIALIZABLE"), expire_on_commit=False)


class Doctor(Base):
    __tablename__ = "doctors"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    account_id: Mapped[int | None]


class Hours(Base):
    __tablename__ = "hours"

    id: Mapped[int] = mapped_column(primary_key=True)
    time_zone: Mapped[str]
    visits: Mapped[list[dict[str, Any]]] = mapped_column(JSONB)
    weekly: Mapped[list[dict[str, str]]] = mapped_column(JSONB)
    step_minutes: Mapped[int]
    buffer_minutes: Mapped[int]
    notice_minutes: Mapped[int]
    horizon_days: Mapped[int]
    bookings_per_account: Mapped[int]


class Closure(Base):
    __tablename__ = "closures"

    id: Mapped[int] = mapped_column(primary_key=True)
    doctor_id: Mapped[int]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]


class Appointment(Base):
    __tablename__ = "peer_appointments"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int]
    patient_id: Mapped[int]
    doctor_id: Mapped[int]
    visit: Mapped[str]
    visit_name: Mapped[str]
    modality: Mapped[str]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    busy_until: Mapped[datetime]
    time_zone: Mapped[str]
    status: Mapped[str] = mapped_column(server_default=FetchedValue())
    reason: Mapped[str | None]
    cancelled_by: Mapped[str | None]
    cancel_reason: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())
    updated_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())


class AppointmentIn(Input):
    patient_id: int = Field(gt=0, le=2**63 - 1)
    doctor_id: int = Field(gt=0, le=2**63 - 1)
    visit: str = Field(max_length=40)
    starts_at: AwareDatetime
    modality: Literal["in_person", "video"] | None = None
    reason: Name | None = None


class AppointmentOut(Output):
    id: int
    patient_id: int
    patient_name: str
    doctor_id: int
    doctor_name: str
    visit: str
    visit_name: str
    modality: str
    starts_at: datetime
    ends_at: datetime
    time_zone: str
    status: str
    reason: str | None
    cancelled_by: str | None
    cancel_reason: str | None
    created_at: datetime
    updated_at: datetime


class AppointmentPage(Output):
    items: list[AppointmentOut]


class Slot(Output):
    starts_at: datetime
    ends_at: datetime


class Slots(Output):
    time_zone: str
    items: list[Slot]
    next_from: datetime | None


app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)


def _shown(appointment: Appointment, patient: str, doctor: str) -> AppointmentOut:
    return AppointmentOut.model_validate({**vars(appointment), "patient_name": patient, "doctor_name": doctor})


def _visit(hours: Hours, code: str) -> dict[str, Any]:
    for visit in hours.visits:
        if visit["code"] == code:
            return visit
    raise HTTPException(422, "Unknown visit")


def _times(hours: Hours, visit: dict[str, Any], since: datetime, until: datetime) -> Iterator[datetime]:
    """What the hours offer, whether or not it is taken."""
    zone = ZoneInfo(hours.time_zone)
    now = datetime.now(UTC)
    since = max(since, now + timedelta(minutes=hours.notice_minutes))
    until = min(until, now + timedelta(days=hours.horizon_days))
    length, step = timedelta(minutes=visit["minutes"]), timedelta(minutes=hours.step_minutes)
    date = since.astimezone(zone).date()
    while date <= until.astimezone(zone).date():
        for window in hours.weekly:
            if window["day"] == DAYS[date.weekday()]:
                whole_day = window["to"] == "24:00"
                end = clock(0) if whole_day else clock.fromisoformat(window["to"])
                start = datetime.combine(date, clock.fromisoformat(window["from"]), zone).astimezone(UTC)
                last = datetime.combine(date + timedelta(days=whole_day), end, zone).astimezone(UTC) - length
                if start < since:
                    start += -(-(since - start) // step) * step
                while start <= last and start < until:
                    yield start
                    start += step
        date += timedelta(days=1)


def _taken(model: Any, end: Any, since: datetime, until: datetime) -> Any:
    return (model.starts_at < until) & (end > since)


def _book(session: Session, caller: int, body: AppointmentIn) -> AppointmentOut:
    patient = session.scalar(select(Patient).where(Patient.id == body.patient_id, Patient.owner_id == caller))
    if patient is None:
        raise HTTPException(404, "No such patient")
    found = session.execute(
        select(Doctor.name, Hours).join(Hours, Hours.id == Doctor.id).where(Doctor.id == body.doctor_id)
    ).first()
    if found is None:
        raise HTTPException(404, "No such doctor")
    doctor_name, hours = found
    visit = _visit(hours, body.visit)
    starts_at = body.starts_at.astimezone(UTC)
    if starts_at not in _times(hours, visit, starts_at, starts_at + timedelta(microseconds=1)):
        raise HTTPException(422, "Not offered")
    modality = body.modality or visit["modality"]
    if visit["modality"] not in ("any", modality) or modality == "any":
        raise HTTPException(422, "Not offered")
    ends_at = starts_at + timedelta(minutes=visit["minutes"])
    busy_until = ends_at + timedelta(minutes=hours.buffer_minutes)
    closed = select(Closure.id).where(Closure.doctor_id == body.doctor_id)
    if session.scalar(closed.where(_taken(Closure, Closure.ends_at, starts_at, busy_until)).limit(1)):
        raise HTTPException(422, "Not offered")
    near = select(Appointment.doctor_id).where(
        Appointment.status.in_(ACTIVE), Appointment.starts_at > starts_at - LONGEST_VISIT
    )
    of_doctor = near.where(
        Appointment.doctor_id == body.doctor_id, _taken(Appointment, Appointment.busy_until, starts_at, busy_until)
    )
    if session.scalar(of_doctor.limit(1)):
        raise HTTPException(409, "The time is taken")
    of_patient = near.where(
        Appointment.patient_id == body.patient_id, _taken(Appointment, Appointment.ends_at, starts_at, ends_at)
    )
    if session.scalar(of_patient.limit(1)):
        raise HTTPException(409, "The patient has another appointment")
    own = select(func.count()).where(
        Appointment.owner_id == caller,
        Appointment.doctor_id == body.doctor_id,
        Appointment.status.in_(ACTIVE),
        Appointment.ends_at > func.now(),
    )
    if (session.scalar(own) or 0) >= hours.bookings_per_account:
        raise HTTPException(409, "Too many bookings")
    appointment = Appointment(
        owner_id=caller,
        **body.model_dump(exclude={"modality", "starts_at"}),
        visit_name=visit["name"],
        modality=modality,
        starts_at=starts_at,
        ends_at=ends_at,
        busy_until=busy_until,
        time_zone=hours.time_zone,
        cancelled_by=None,
        cancel_reason=None,
    )
    session.add(appointment)
    session.flush()
    return _shown(appointment, patient.name, doctor_name)


@app.post("/api/appointments", status_code=201)
def book(body: AppointmentIn, caller: Caller, response: Response) -> AppointmentOut:
    for attempt in range(ATTEMPTS):
        try:
            with Serializable.begin() as session:
                appointment = _book(session, caller, body)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in REPEATABLE:
                raise
            time.sleep(random.uniform(0, min(0.1, 0.002 * 2**attempt)))
        else:
            response.headers["Location"] = f"/api/appointments/{appointment.id}"
            return appointment
    raise HTTPException(503, "Try again", {"Retry-After": "1"})


@app.get("/api/doctors/{id}/slots")
def list_slots(
    id: Id,
    session: Database,
    caller: Caller,
    visit: str,
    since: Annotated[AwareDatetime | None, Query(alias="from")] = None,
    until: Annotated[AwareDatetime | None, Query(alias="to")] = None,
) -> Slots:
    hours = session.get(Hours, id)
    if hours is None:
        raise HTTPException(404, "No hours")
    chosen = _visit(hours, visit)
    since = (since or datetime.now(UTC)).astimezone(UTC)
    until = (until or since + timedelta(days=7)).astimezone(UTC)
    length = timedelta(minutes=chosen["minutes"])
    whole = length + timedelta(minutes=hours.buffer_minutes)
    closures = select(Closure.starts_at, Closure.ends_at).where(
        Closure.doctor_id == id, _taken(Closure, Closure.ends_at, since, until + whole)
    )
    booked = select(Appointment.starts_at, Appointment.busy_until).where(
        Appointment.doctor_id == id,
        Appointment.status.in_(ACTIVE),
        Appointment.starts_at > since - LONGEST_VISIT,
        _taken(Appointment, Appointment.busy_until, since, until + whole),
    )
    busy = [*session.execute(closures).all(), *session.execute(booked).all()]
    free = []
    for start in _times(hours, chosen, since, until):
        if not any(start < end and start + whole > begin for begin, end in busy):
            free.append(Slot(starts_at=start, ends_at=start + length))
            if len(free) > SLOTS:
                break
    next_from = free[SLOTS].starts_at if len(free) > SLOTS else None
    return Slots(time_zone=hours.time_zone, items=free[:SLOTS], next_from=next_from)


@app.get("/api/practice/appointments")
def list_calendar(
    session: Database,
    caller: Caller,
    since: Annotated[AwareDatetime | None, Query(alias="from")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> AppointmentPage:
    doctor = session.scalar(select(Doctor).where(Doctor.account_id == caller))
    if doctor is None:
        raise HTTPException(404, "No practice")
    query = select(Appointment, Patient.name).join(Patient, Patient.id == Appointment.patient_id)
    query = query.where(Appointment.doctor_id == doctor.id)
    if since:
        query = query.where(Appointment.starts_at >= since)
    query = query.order_by(Appointment.starts_at, Appointment.id).limit(limit)
    return AppointmentPage(items=[_shown(row, patient, doctor.name) for row, patient in session.execute(query)])


_answer = Mangum(app, lifespan="off")


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    return _answer(event, context)
