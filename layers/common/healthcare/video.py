"""Video visits: tokens for the rooms of a LiveKit server.

Source: "Tokens & grants" in the documentation of LiveKit.
"""

from datetime import datetime, timedelta

from pydantic import BaseModel, Field, ValidationError

from healthcare.appointments import AppointmentNotFound, Modality, Status, WrongStatus
from healthcare.database.connection import Database
from healthcare.errors import Conflict, Unavailable
from healthcare.fields import Output
from healthcare.platform import aws
from healthcare.platform.settings import settings

OPENS = timedelta(minutes=15)  # before it starts
CLOSES = timedelta(minutes=30)  # after it ends
LIFETIME = timedelta(minutes=5)  # of a token, which is looked at when somebody connects


class Entry(Output):
    url: str = Field(description="Of the LiveKit server.", examples=["wss://video.example.com"])
    room: str = Field(examples=["3f0c4d8e-5d0b-4a51-9a0e-6d1f5f4a7b7d"])
    token: str = Field(description="For LiveKit's SDKs, to connect once.", examples=["header.payload.signature"])
    expires_at: datetime
    patient_id: int = Field(exclude=True)

    def patients(self) -> list[int]:
        return [self.patient_id]


class NotAVideoVisit(Conflict):
    """The appointment takes place in person.

    Go there.
    """

    slug, title = "not-a-video-visit", "It is not a video visit"
    detail = "This appointment takes place in person."


class NotOpen(Conflict):
    """The room of a video visit opens 15 minutes before it starts and closes 30 minutes after it ends.

    If it has not opened yet, wait for as many seconds as `Retry-After` says.
    """

    slug, title = "not-open", "The room is not open"
    detail = "The room opens 15 minutes before the visit and closes 30 minutes after it."

    def __init__(self, retry_after: int | None) -> None:
        """`retry_after` is in seconds; None once the room has closed."""
        super().__init__()
        self.retry_after = retry_after


class VideoNotConfigured(Unavailable):
    """Whoever runs this API has not set up a server for video visits.

    Ask them, or agree on another way to talk.
    """

    slug, title = "video-not-configured", "There is no server for video visits"
    detail = "No server for video visits has been set up."

    def __init__(self) -> None:
        super().__init__(retry_after=3600)


class _Server(BaseModel):
    url: str
    key: str
    secret: str


class _Visit(BaseModel):
    patient_id: int
    modality: Modality
    status: Status
    room: str
    opens_in: timedelta
    closes_in: timedelta
    now: datetime
    participant: str


def join(db: Database, id: int) -> Entry:
    """Raises AppointmentNotFound, NotAVideoVisit, WrongStatus, NotOpen and VideoNotConfigured."""
    visit = db.row(
        _Visit,
        """
        SELECT patient_id, modality, status, room::text, starts_at - %(opens)s - now() AS opens_in,
               ends_at + %(closes)s - now() AS closes_in, now(),
               encode(sha256(convert_to(room::text || app_actor_id(), 'UTF8')), 'hex') AS participant
          FROM appointments
         WHERE id = %(id)s
        """,
        id=id,
        opens=OPENS,
        closes=CLOSES,
    )
    if visit is None:
        raise AppointmentNotFound
    if visit.modality != "video":
        raise NotAVideoVisit
    if visit.status not in ("booked", "arrived"):
        raise WrongStatus
    if visit.opens_in > timedelta():
        raise NotOpen(int(visit.opens_in.total_seconds()) + 1)
    if visit.closes_in <= timedelta():
        raise NotOpen(None)
    server, expires_at = _server(), visit.now.replace(microsecond=0) + LIFETIME
    token = _token(server, visit.room, visit.participant, expires_at)
    return Entry(url=server.url, room=visit.room, token=token, expires_at=expires_at, patient_id=visit.patient_id)


def _server() -> _Server:
    try:
        secret = aws.secret(settings().video_secret_id)
    except aws.AwsError as error:
        raise Unavailable from error
    try:
        return _Server.model_validate(secret)
    except ValidationError as error:  # `{}` after the first deployment
        raise VideoNotConfigured from error


def _token(server: _Server, room: str, participant: str, expires_at: datetime) -> str:
    import jwt  # needed by this one route

    claims = {
        "iss": server.key,
        "sub": participant,
        "exp": expires_at,
        "video": {"room": room, "roomJoin": True, "canPublish": True, "canSubscribe": True},
    }
    return jwt.encode(claims, server.secret, algorithm="HS256")
