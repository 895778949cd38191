"""The patients and accounts of this API as a team would write them with FastAPI, SQLAlchemy and Mangum.

Configured for production on Lambda behind RDS Proxy: no interactive documentation, one pooled connection that is
looked at before each use (it may have died while the environment was frozen), no prepared statements (they would pin
the proxy), values that the database sets returned by the statement itself, and nothing read twice after a commit.
"""

import json
import os
import secrets
import time
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from hashlib import sha256
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import bcrypt
import jwt
from fastapi import Depends, FastAPI, HTTPException, Path, Query, Request, Response
from mangum import Mangum
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from sqlalchemy import FetchedValue, ForeignKey, create_engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

PHONE = r"^[+(]{0,2}[0-9][0-9 ()+./x#-]{0,30}[0-9()+./x#-]$"
EMAIL = r"^[^\s@\x00-\x1f\x7f-\x9f\ufeff]+@[^\s@.\x00-\x1f\x7f-\x9f\ufeff]+(\.[^\s@.\x00-\x1f\x7f-\x9f\ufeff]+)+$"
TOKEN_LIFETIME = 900
SESSION_LIFETIME = timedelta(days=30)
BCRYPT_COST = 12
NO_USER = bcrypt.hashpw(b"", bcrypt.gensalt(4)).replace(b"$04$", b"$%02d$" % BCRYPT_COST)

engine = create_engine(
    "postgresql+psycopg://",  # PGHOST, PGUSER and the like say the rest
    pool_size=1,
    max_overflow=0,
    pool_pre_ping=True,
    connect_args={"prepare_threshold": None, "connect_timeout": 3},
)
Sessions = sessionmaker(engine, expire_on_commit=False)


# Tables -------------------------------------------------------------------------------------------------------------


class Base(DeclarativeBase):
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012


class User(Base):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str]
    email_verified: Mapped[bool] = mapped_column(server_default=FetchedValue())
    email_key: Mapped[str] = mapped_column(server_default=FetchedValue())
    password_hash: Mapped[str]
    role: Mapped[str] = mapped_column(server_default=FetchedValue())
    created_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())
    updated_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())


class LoginSession(Base):
    __tablename__ = "sessions"

    id: Mapped[int] = mapped_column(primary_key=True)
    family: Mapped[UUID]
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id))
    token_hash: Mapped[bytes]
    expires_at: Mapped[datetime]


class Patient(Base):
    __tablename__ = "patients"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_id: Mapped[int] = mapped_column(ForeignKey(User.id))
    name: Mapped[str]
    date_of_birth: Mapped[date | None]
    gender: Mapped[str | None]
    phone: Mapped[str | None]
    email: Mapped[str | None]
    address: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=FetchedValue())
    updated_at: Mapped[datetime] = mapped_column(server_default=FetchedValue(), server_onupdate=FetchedValue())


# Bodies -------------------------------------------------------------------------------------------------------------


def _not_in_the_future(value: date) -> date:
    if value > (datetime.now(UTC) + timedelta(hours=14)).date():
        raise ValueError("Date should not be in the future")
    return value


def _fits_bcrypt(value: str) -> str:
    if len(value.encode()) > 72:
        raise ValueError("Password should have at most 72 bytes in UTF-8")
    return value


NO_NUL = r"^[^\x00]*$"
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=NO_NUL)]
Address = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=NO_NUL)]
Phone = Annotated[str, StringConstraints(strip_whitespace=True, max_length=32, pattern=PHONE)]
Email = Annotated[str, StringConstraints(strip_whitespace=True, max_length=254, pattern=EMAIL)]
DateOfBirth = Annotated[date, Field(ge=date(1800, 1, 1)), AfterValidator(_not_in_the_future)]
Gender = Literal["male", "female", "other", "unknown"]
Password = Annotated[str, StringConstraints(min_length=8, max_length=72), AfterValidator(_fits_bcrypt)]


class Input(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PatientIn(Input):
    name: Name
    date_of_birth: DateOfBirth | None = None
    gender: Gender | None = None
    phone: Phone | None = None
    email: Email | None = None
    address: Address | None = None


class UserIn(Input):
    name: Name
    email: Email
    password: Password


class Credentials(Input):
    email: Email
    password: str = Field(min_length=1, max_length=1024)


class Output(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class PatientOut(Output):
    id: int
    name: str
    date_of_birth: date | None
    gender: Gender | None
    phone: str | None
    email: str | None
    address: str | None
    created_at: datetime
    updated_at: datetime


class PatientPage(Output):
    items: list[PatientOut]
    next_cursor: str | None


class UserOut(Output):
    id: int
    name: str
    email: str
    email_verified: bool
    role: str
    created_at: datetime
    updated_at: datetime


class Tokens(Output):
    access_token: str
    token_type: str = "Bearer"
    expires_in: int = TOKEN_LIFETIME
    refresh_token: str
    user: UserOut


# What routes depend on ----------------------------------------------------------------------------------------------


def get_session() -> Iterator[Session]:
    with Sessions() as session:
        yield session


def get_caller(request: Request) -> int:
    """The authorizer has verified the token; its answer may be a cached one."""
    claims = request.scope["aws.event"]["requestContext"].get("authorizer") or {}
    if "user_id" not in claims or time.time() >= int(claims["exp"]):
        raise HTTPException(401, "Not authenticated", {"WWW-Authenticate": "Bearer"})
    return int(claims["user_id"])


def _last_id(cursor: str) -> int:
    return int.from_bytes(urlsafe_b64decode(f"{cursor}="))


@cache
def signing_key() -> tuple[str, bytes]:
    import boto3  # slow to import, and needed by a login only

    secret = boto3.client("secretsmanager").get_secret_value(SecretId=os.environ["TOKEN_KEYS_SECRET_ID"])
    keys = json.loads(secret["SecretString"])
    return keys["current"], b64decode(keys["keys"][keys["current"]])


Database = Annotated[Session, Depends(get_session)]
Caller = Annotated[int, Depends(get_caller)]
Id = Annotated[int, Path(gt=0, le=2**63 - 1)]

app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)


# Routes -------------------------------------------------------------------------------------------------------------


@app.post("/api/auth/register", status_code=201)
def register(body: UserIn, session: Database) -> UserOut:
    password_hash = bcrypt.hashpw(body.password.encode(), bcrypt.gensalt(BCRYPT_COST)).decode()
    user = User(name=body.name, email=body.email, password_hash=password_hash)
    session.add(user)
    try:
        session.commit()
    except IntegrityError:
        raise HTTPException(409, "E-mail address is taken") from None
    return UserOut.model_validate(user)


@app.post("/api/auth/login")
def log_in(body: Credentials, session: Database) -> Tokens:
    user = session.scalar(select(User).where(User.email_key == body.email.lower()))
    password_hash = user.password_hash.encode() if user else NO_USER
    if not bcrypt.checkpw(body.password.encode()[:72], password_hash) or user is None:
        raise HTTPException(401, "Wrong e-mail address or password")
    now = datetime.now(UTC)
    secret = secrets.token_bytes(32)
    login = LoginSession(
        family=uuid4(), user_id=user.id, token_hash=sha256(secret).digest(), expires_at=now + SESSION_LIFETIME
    )
    session.add(login)
    session.commit()
    key_id, key = signing_key()
    claims = {
        "iss": os.environ["TOKEN_ISSUER"],
        "aud": "healthcare-api",
        "sub": str(user.id),
        "role": user.role,
        "iat": now,
        "exp": now + timedelta(seconds=TOKEN_LIFETIME),
        "jti": str(uuid4()),
    }
    return Tokens(
        access_token=jwt.encode(claims, key, algorithm="HS256", headers={"kid": key_id}),
        refresh_token=urlsafe_b64encode(login.family.bytes + secret).decode(),
        user=UserOut.model_validate(user),
    )


@app.post("/api/patients", status_code=201)
def create_patient(body: PatientIn, session: Database, caller: Caller, response: Response) -> PatientOut:
    patient = Patient(owner_id=caller, **body.model_dump())
    session.add(patient)
    session.commit()
    response.headers["Location"] = f"/api/patients/{patient.id}"
    return PatientOut.model_validate(patient)


@app.get("/api/patients")
def list_patients(
    session: Database,
    caller: Caller,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[int, BeforeValidator(_last_id)] = 0,
) -> PatientPage:
    query = select(Patient).where(Patient.owner_id == caller, Patient.id > cursor).order_by(Patient.id).limit(limit + 1)
    rows = session.scalars(query).all()
    patients = [PatientOut.model_validate(row) for row in rows[:limit]]
    more = len(rows) > limit
    next_cursor = urlsafe_b64encode(patients[-1].id.to_bytes(8)).rstrip(b"=").decode() if more else None
    return PatientPage(items=patients, next_cursor=next_cursor)


def _own_patient(id: Id, session: Database, caller: Caller) -> Patient:
    patient = session.scalar(select(Patient).where(Patient.id == id, Patient.owner_id == caller))
    if patient is None:
        raise HTTPException(404, "No such patient")
    return patient


OwnPatient = Annotated[Patient, Depends(_own_patient)]


@app.get("/api/patients/{id}")
def read_patient(patient: OwnPatient) -> PatientOut:
    return PatientOut.model_validate(patient)


@app.put("/api/patients/{id}")
def replace_patient(body: PatientIn, patient: OwnPatient, session: Database) -> PatientOut:
    for name, value in body.model_dump().items():
        setattr(patient, name, value)
    session.commit()
    return PatientOut.model_validate(patient)


_answer = Mangum(app, lifespan="off")


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    return _answer(event, context)
