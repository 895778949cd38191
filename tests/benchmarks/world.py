"""What all peers meet alike: one PostgreSQL with the same rows, the same signing keys, the same events."""

import json
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import psycopg

from local.aws.moto import Moto
from local.database.database import OWNER
from local.database.postgres import EmbeddedPostgres
from local.settings import DUMMY_ACCOUNT, PROJECT, TOKEN_KEYS_SECRET

sys.path.append(str(PROJECT / "layers" / "common"))

from healthcare.database.migrate import ROLES, migrate

PEER_ROLE = "benchmark_peer"
PASSWORD = "seven green kettles"
PATIENTS_EACH = 500
OTHER_OWNERS = 200
DELAY = 0.001

Event = dict[str, Any]


@dataclass(frozen=True)
class World:
    server: EmbeddedPostgres
    secrets_manager: str
    passwords: Mapping[str, str]
    users: Mapping[str, int]  # each peer has an account of its own with the same patients

    def variables(self, role: str, port: int | None = None) -> dict[str, str]:
        return {
            **DUMMY_ACCOUNT,
            "AWS_ENDPOINT_URL": self.secrets_manager,
            "TOKEN_KEYS_SECRET_ID": TOKEN_KEYS_SECRET,
            "TOKEN_ISSUER": "healthcare",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(port or self.server.port),
            "PGDATABASE": "benchmark",
            "PGUSER": role,
            "PGPASSWORD": self.passwords[role],
            "DATABASE_AUTH": "password",
        }

    def first_patient(self, user: int) -> int:
        with psycopg.connect(self.server.conninfo(dbname="benchmark")) as connection:
            row = connection.execute("SELECT min(id) FROM patients WHERE owner_id = %s", [user]).fetchone()
        assert row
        return int(row[0])

    def server_version(self) -> str:
        with psycopg.connect(self.server.conninfo()) as connection:
            row = connection.execute("SHOW server_version").fetchone()
        assert row
        return str(row[0])


@contextmanager
def made(folder: Path, peers: list[str]) -> Iterator[World]:
    with ExitStack() as stack:
        # It is the functions that are measured: a disk that is slow today would only blur them.
        server = stack.enter_context(EmbeddedPostgres(folder / "postgres", {"fsync": "off"}))
        passwords = {role: secrets.token_hex(16) for role in (OWNER, PEER_ROLE, *ROLES)}
        _make_database(server, passwords)
        users = _fill(server, peers)
        yield World(server, stack.enter_context(Moto(folder)).endpoint, passwords, users)


def _make_database(server: EmbeddedPostgres, passwords: Mapping[str, str]) -> None:
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {OWNER} LOGIN CREATEROLE PASSWORD '{passwords[OWNER]}'")
        connection.execute(f"CREATE DATABASE benchmark OWNER {OWNER}")
    conninfo = server.conninfo(user=OWNER, password=passwords[OWNER], dbname="benchmark")
    migrate(conninfo, passwords={role: passwords[role] for role in ROLES})
    with psycopg.connect(server.conninfo(dbname="benchmark"), autocommit=True) as connection:
        # The peers look after ownership by a WHERE, as is usual, so row-level security is not in their way. The
        # triggers are: everybody writes the same rows.
        connection.execute(f"CREATE ROLE {PEER_ROLE} LOGIN BYPASSRLS PASSWORD '{passwords[PEER_ROLE]}'")
        connection.execute(f"GRANT {', '.join(ROLES)} TO {PEER_ROLE}")
        connection.execute(f"GRANT SELECT, INSERT, UPDATE ON users, sessions, patients TO {PEER_ROLE}")


def _fill(server: EmbeddedPostgres, peers: list[str]) -> dict[str, int]:
    password_hash = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(12)).decode()
    with psycopg.connect(server.conninfo(dbname="benchmark"), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")  # without the triggers, which would take a minute
        connection.execute(
            """
            INSERT INTO users (name, email, password_hash)
            SELECT 'User ' || number, 'user' || number || '@example.com', %s
              FROM generate_series(1, %s) AS number
            """,
            [password_hash, len(peers) + OTHER_OWNERS],
        )
        connection.execute(
            """
            INSERT INTO patients (owner_id, name, date_of_birth, gender, phone, email, address)
            SELECT id, 'Maria Silva ' || number, date '1950-01-01' + number * 40, 'female', '+351 21 555 0142',
                   'maria' || number || '@example.com', number || ' Harbour Street, Lisbon'
              FROM users
             CROSS JOIN generate_series(1, %s) AS number
             ORDER BY id, number
            """,
            [PATIENTS_EACH],
        )
        connection.execute("VACUUM ANALYZE")
    return {peer: number for number, peer in enumerate(peers, start=1)}


# Events -------------------------------------------------------------------------------------------------------------

SAMPLES = {
    "get": "patients/read",
    "list": "patients/list",
    "create": "patients/create",
    "update": "patients/replace",
    "register": "auth/register",
    "login": "auth/log_in",
    "authorize": "authorizer/token",
    "doctors": "doctors/list",
    "mappings": "mappings/list",
    "audit": "audit/list",
    "health": "health/read",
    "docs": "docs/read_page",
    "me": "auth/read_me",
    "book": "appointments/create",
    "slots": "appointments/list_slots",
    "calendar": "practice/list_appointments",
}


class Events:
    """The requests of one peer's user, made of the sample events; no two that write are the same."""

    def __init__(self, user: int, first_patient: int, token: str) -> None:
        self._user = user
        self._first_patient = first_patient
        self._token = token
        self._made = 0

    def make(self, route: str, **fields: object) -> Event:
        """`fields` change the body."""
        event: Event = json.loads((PROJECT / "events" / f"{SAMPLES[route]}.json").read_text("utf-8"))
        self._made += 1
        if route == "authorize":
            return event | {"authorizationToken": f"Bearer {self._token}"}
        if authorizer := event["requestContext"].get("authorizer"):
            authorizer |= {"principalId": str(self._user), "user_id": str(self._user)}
        if route in ("get", "update"):
            patient = self._first_patient + self._made * 7 % PATIENTS_EACH
            event["path"] = f"/api/patients/{patient}"
            event["requestContext"]["path"] = f"/v1{event['path']}"
            event["pathParameters"] = {"id": str(patient)}
        if event["body"]:
            body = json.loads(event["body"])
            if route == "update":
                body["phone"] = f"+351 21 {self._made:07}"
            if route == "register":
                body["email"] = f"new{self._made}-of-{self._user}@example.com"
            if route == "login":
                body |= {"email": f"user{self._user}@example.com", "password": PASSWORD}
            event["body"] = json.dumps(body | fields)
        return event
