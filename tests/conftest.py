"""A real PostgreSQL for the whole run, and for each test a database with nothing in it but what migrations left.

It is a clone of a migrated template. After a test its rows are deleted and its sequences restarted, and the next test
takes it again, over connections that are warm; one whose schema a test changed, or that has grown, is replaced.
"""

import io
import json
import logging
import os
import re
import secrets
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest

from healthcare.database.migrate import ROLES, migrate
from local.aws.functions import serve_functions
from local.aws.inbox import inbox, shown
from local.aws.server import make_bucket, serve
from local.database.postgres import EmbeddedPostgres
from local.environments.function import InvocationFailed
from local.settings import DOCUMENTS_BUCKET
from tests.gateway import Client, Environment, Gateway
from tests.wire import Wire

TEMPLATE = "healthcare_template"
SECRET = "healthcare/token-keys"
DATA_KEYS = "healthcare/data-keys"
LogLines = Callable[[], list[dict[str, Any]]]
OWNER = "healthcare_owner"

# Nothing of the machine's own configuration reaches a test.
for name in [name for name in os.environ if name.startswith(("PG", "AWS_", "POWERTOOLS_"))]:
    del os.environ[name]
os.environ |= {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
    "BCRYPT_COST": "4",
    "MAIL_FROM": "no-reply@example.net",
    "APP_URL": "https://app.example.net",
    "OUTBOX_FUNCTION": "OutboxFunction",
    "WEBHOOKS_TO_LOOPBACK": "allowed",
    "POWERTOOLS_SERVICE_NAME": "tests",
    "TOKEN_KEYS_SECRET_ID": SECRET,
}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    settings = {
        "fsync": "off",
        "synchronous_commit": "off",
        "full_page_writes": "off",
        "max_connections": "100",
        # Cloning and dropping a database takes a quarter of the time with these.
        "shared_buffers": "32MB",
        "wal_level": "minimal",
        "max_wal_senders": "0",
    }
    older = os.environ.get("TEST_POSTGRES")
    if not older:
        settings["scram_iterations"] = "1"
    with EmbeddedPostgres(tmp_path_factory.mktemp("postgres"), settings, Path(older) if older else None) as server:
        yield server


@pytest.fixture(scope="session")
def passwords() -> dict[str, str]:
    return {role: secrets.token_hex(8) for role in (OWNER, *ROLES)}


@pytest.fixture(scope="session")
def template(
    server: EmbeddedPostgres, passwords: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> EmbeddedPostgres:
    """The server with the roles and a migrated database to clone; functions find their passwords as libpq does."""
    password_file = tmp_path_factory.mktemp("libpq") / "pgpass"
    password_file.touch(mode=0o600)
    password_file.write_text("".join(f"*:*:*:{role}:{password}\n" for role, password in passwords.items()))
    os.environ |= {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGPASSFILE": str(password_file)}
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute("CREATE ROLE healthcare_owner LOGIN CREATEROLE")
        connection.execute(
            psycopg.sql.SQL("ALTER ROLE healthcare_owner PASSWORD {}").format(passwords["healthcare_owner"])
        )
        connection.execute(f"CREATE DATABASE {TEMPLATE} OWNER healthcare_owner")
    conninfo = server.conninfo(user="healthcare_owner", password=passwords["healthcare_owner"], dbname=TEMPLATE)
    migrate(conninfo, passwords=passwords)
    return server


class Database:
    """One test's database, to look into and to log in to as any role."""

    def __init__(self, server: EmbeddedPostgres, name: str, passwords: dict[str, str]) -> None:
        self.server = server
        self.name = name
        self._passwords = passwords

    def conninfo(self, role: str = "postgres") -> str:
        """`postgres` is the superuser: row-level security does not bind it."""
        if role == "postgres":
            return self.server.conninfo(dbname=self.name)
        return self.server.conninfo(dbname=self.name, user=role, password=self._passwords[role])

    def connect(self, role: str = "postgres") -> psycopg.Connection:
        return psycopg.connect(self.conninfo(role), autocommit=True)

    def value(self, query: str, *values: object) -> object:
        """The first column of the first row, as the superuser sees it."""
        with self.connect() as connection:
            row = connection.execute(query, values).fetchone()
        return row[0] if row else None

    def waiting(self) -> object:
        """How many statements wait for a lock."""
        return self.value(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = %s", self.name
        )

    def wait_for_a_lock(self) -> None:
        """Until a statement waits for one."""
        while not self.waiting():
            time.sleep(0.01)


KEPT = ["appointment_transitions", "schema_migrations", "time_zones"]  # what migrations fill

# What a test may have changed but for rows: any object's definition, and the rows that migrations made.
DEFINITIONS = " UNION ALL ".join(
    f"SELECT count(*), coalesce(max(xmin::text::bigint), 0) FROM {table}"
    for table in (
        *("pg_attrdef", "pg_attribute", "pg_class", "pg_constraint", "pg_db_role_setting", "pg_depend", "pg_index"),
        *("pg_namespace", "pg_policy", "pg_proc", "pg_trigger", "pg_type", *KEPT),
    )
)

EMPTY = """
    DO $$
    DECLARE
        relation record;
    BEGIN
        SET LOCAL session_replication_role = replica;  -- without triggers, of which some refuse to delete
        FOR relation IN
            SELECT oid::regclass AS name, relkind
              FROM pg_class
             WHERE relnamespace = 'public'::regnamespace
               AND relname <> ALL ({kept})
               AND (relkind = 'r' AND pg_relation_size(oid) > 0
                    OR relkind = 'S' AND pg_sequence_last_value(oid) IS NOT NULL)
        LOOP
            IF relation.relkind = 'r' THEN
                EXECUTE format('DELETE FROM %s', relation.name);
            ELSE
                PERFORM setval(relation.name, 1, false);
            END IF;
        END LOOP;
    END
    $$
"""
ROOM = 8 * 1024 * 1024  # bytes that a database may grow by


class Pool:
    """The database that tests take one after another."""

    def __init__(self, server: EmbeddedPostgres, passwords: dict[str, str]) -> None:
        self._server = server
        self._passwords = passwords
        self._administration = psycopg.connect(server.conninfo(), autocommit=True)
        self._database: Database | None = None
        self._connection: psycopg.Connection
        self._definitions: object
        self._most: int

    def take(self) -> Database:
        if not self._database:
            name = f"test_{secrets.token_hex(6)}"
            self._administration.execute(
                f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY OWNER healthcare_owner"
            )
            self._database = Database(self._server, name, self._passwords)
            self._connection = self._database.connect()
            self._definitions = self._connection.execute(DEFINITIONS).fetchall()
            self._most = self._size() + ROOM
        os.environ["PGDATABASE"] = self._database.name
        return self._database

    def give_back(self) -> None:
        try:
            clean = self._clean()
        except psycopg.Error:  # the test broke the database, or its server
            clean = False
        if not clean:
            self.drop()

    def drop(self) -> None:
        if self._database:
            self._connection.close()
            self._administration.execute(f"DROP DATABASE {self._database.name} WITH (FORCE)")
            self._database = None

    def close(self) -> None:
        self.drop()
        self._administration.close()

    def _clean(self) -> bool:
        self._connection.execute("""
            SELECT pg_terminate_backend(pid, 5000)
              FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'
        """)
        if self._connection.execute(DEFINITIONS).fetchall() != self._definitions or self._size() > self._most:
            return False
        self._connection.execute(EMPTY.format(kept=f"ARRAY{KEPT}"))
        return True

    def _size(self) -> int:
        row = self._connection.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row
        return int(row[0])


@pytest.fixture(scope="session")
def pool(template: EmbeddedPostgres, passwords: dict[str, str]) -> Iterator[Pool]:
    pool = Pool(template, passwords)
    yield pool
    pool.close()


@pytest.fixture
def database(pool: Pool) -> Iterator[Database]:
    yield pool.take()
    pool.give_back()


@pytest.fixture(scope="session")
def secrets_manager() -> None:
    keys = {"current": "first", "keys": {"first": b64encode(secrets.token_bytes(32)).decode()}}
    os.environ["AWS_ENDPOINT_URL"] = serve(0)
    boto3.client("secretsmanager").create_secret(Name=SECRET, SecretString=json.dumps(keys))
    boto3.client("secretsmanager").create_secret(Name=DATA_KEYS, SecretString=json.dumps(keys))
    boto3.client("sesv2").create_email_identity(EmailIdentity=os.environ["MAIL_FROM"])
    make_bucket(DOCUMENTS_BUCKET)


@pytest.fixture(scope="session")
def environments() -> Iterator[dict[str, Environment]]:
    folders = sorted(path.parent for path in Path("functions").glob("*/app.py"))
    environments = {folder.name: Environment(folder) for folder in folders}
    yield environments
    for environment in environments.values():
        environment.disconnect()


@pytest.fixture
def gateway(environments: dict[str, Environment], database: Database, secrets_manager: None) -> Gateway:
    for environment in environments.values():
        environment.stay_with(database.name)
    return Gateway(environments)


class Post:
    """The sender, and the mails that it has sent since the test began."""

    def __init__(self, environments: dict[str, Environment]) -> None:
        self._environments = environments
        self._before = len(inbox())

    def send(self) -> list[EmailMessage]:
        """Runs the sender once; the mails that this sent."""
        before = len(inbox())
        self._environments["sender"].invoke({})
        return inbox()[before:]

    def mails(self) -> list[EmailMessage]:
        return inbox()[self._before :]

    def token(self, client: Client, page: str = r"\w+") -> str:
        """The newest token that was sent to this user."""
        texts = [shown(mail)["text"] for mail in self.mails() if mail["To"] == client.user["email"]]
        return str(re.findall(rf"/{page}#token=(\S+)", "".join(texts))[-1])


@pytest.fixture(scope="session")
def functions_api(environments: dict[str, Environment], secrets_manager: None) -> Iterator[None]:
    """Lambda's Invoke, by which the sender asks the outbox."""

    def invoke(name: str, event: bytes) -> bytes:
        try:
            return json.dumps(environments[name.removesuffix("Function").lower()].invoke(json.loads(event))).encode()
        except Exception as error:
            raise InvocationFailed(type(error).__name__) from error

    with serve_functions(invoke) as address:
        os.environ["AWS_ENDPOINT_URL_LAMBDA"] = address
        yield


@pytest.fixture
def post(gateway: Gateway, functions_api: None) -> Post:
    return Post(dict(gateway.environments))


@pytest.fixture
def log_lines(environments: dict[str, Environment]) -> Iterator[LogLines]:
    """What the functions have logged since, parsed."""
    stream = io.StringIO()
    handler = logging.getLogger("tests").handlers[0]
    before = handler.setStream(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    handler.setStream(before)


@pytest.fixture
def anonymous(gateway: Gateway) -> Client:
    return Client(gateway)


@pytest.fixture
def sign_up(anonymous: Client) -> Callable[..., Client]:
    """Registers somebody and logs them in."""

    def sign_up(name: str = "Ann", *, admin: bool = False) -> Client:
        email = f"{name.lower()}-{secrets.token_hex(4)}@example.org"
        account = {"name": name, "email": email, "password": f"the password of {name}"}
        user = anonymous.post("/api/auth/register", account).expect(201)
        if admin:
            with psycopg.connect(
                host="127.0.0.1", user="healthcare_owner", dbname=os.environ["PGDATABASE"]
            ) as connection:
                connection.execute("UPDATE users SET role = 'admin' WHERE id = %s", [user["id"]])
        tokens = anonymous.post("/api/auth/login", {k: account[k] for k in ("email", "password")}).expect(200)
        return Client(anonymous.gateway, tokens["access_token"], user | {"password": account["password"]}, tokens)

    return sign_up


@pytest.fixture
def ann(sign_up: Callable[..., Client]) -> Client:
    return sign_up("Ann")


@pytest.fixture
def bob(sign_up: Callable[..., Client]) -> Client:
    return sign_up("Bob")


@pytest.fixture
def wire(gateway: Gateway, template: EmbeddedPostgres) -> Iterator[Wire]:
    """The functions' way to PostgreSQL, to be counted or cut."""
    with Wire(template.port) as wire:
        gateway.disconnect()
        os.environ["PGPORT"] = str(wire.port)
        yield wire
        os.environ["PGPORT"] = str(template.port)
        gateway.disconnect()
