"""The database server or Secrets Manager fails as a whole, and comes back."""

import os
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg import sql

from healthcare.database.migrate import migrate
from local.database.postgres import EmbeddedPostgres, free_port
from tests.conftest import Database
from tests.gateway import ARN, Answer, Client, Environment, Gateway
from tests.gateway import template as sam_template
from tests.wire import Wire

WRITERS = 6
RESTARTS = 3


def _unavailable(answer: Answer) -> None:
    answer.refuse(503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0


# PostgreSQL ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def durable_server(
    template: EmbeddedPostgres, passwords: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedPostgres]:
    """One that may be restarted, and keeps what it has acknowledged, as in production."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("durable")) as server:
        with psycopg.connect(server.conninfo(), autocommit=True) as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
            create = sql.SQL("CREATE ROLE healthcare_owner LOGIN CREATEROLE PASSWORD {}")
            connection.execute(create.format(passwords["healthcare_owner"]))
            connection.execute("CREATE DATABASE clinic OWNER healthcare_owner")
        owner = {"user": "healthcare_owner", "password": passwords["healthcare_owner"], "dbname": "clinic"}
        migrate(
            server.conninfo(**owner), passwords={role: passwords[role] for role in passwords if "owner" not in role}
        )
        yield server
    if server.elsewhere:
        shutil.rmtree(server.elsewhere)


@pytest.fixture
def clinic(
    durable_server: EmbeddedPostgres, passwords: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Database]:
    """The functions' database from here on."""
    monkeypatch.setenv("PGPORT", str(durable_server.port))
    monkeypatch.setenv("PGDATABASE", "clinic")
    yield Database(durable_server, "clinic", passwords)
    with psycopg.connect(durable_server.conninfo(dbname="clinic")) as connection:
        connection.execute("TRUNCATE users, patients, doctors, mappings, idempotency_keys, audit_events CASCADE")


@pytest.fixture
def app_at_the_clinic(
    clinic: Database, environments: dict[str, Environment], secrets_manager: None
) -> Iterator[Client]:
    """Ann's."""
    for environment in environments.values():
        environment.disconnect()
    gateway = Gateway(environments)
    account = {"email": "ann@example.org", "password": "a password of Ann"}
    user = Client(gateway).post("/api/auth/register", account | {"name": "Ann"}).expect(201)
    tokens = Client(gateway).post("/api/auth/login", account).expect(200)
    yield Client(gateway, tokens["access_token"], user | account, tokens)
    for environment in environments.values():
        environment.disconnect()


def _crash(server: EmbeddedPostgres) -> None:
    """As `pg_ctl stop -m immediate`: nothing is finished, nothing written down."""
    with psycopg.connect(server.conninfo()) as connection:
        (pid_file,) = connection.execute("SELECT pg_read_file('postmaster.pid')").fetchone() or ("",)
    os.kill(int(pid_file.split("\n")[0]), signal.SIGQUIT)
    server.stop()


class Writer:
    """One device: creates patients one after the other, every second one with a key and until it is acknowledged."""

    def __init__(self, number: int, app: Client) -> None:
        self.environment = Environment(Path("functions", "patients"))
        self.acknowledged: list[str] = []
        self.keyed: list[str] = []
        self.failures: list[Answer] = []
        self._number = number
        self._app = Client(Gateway({**app.gateway.environments, "patients": self.environment}), app.token)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        step = 0
        while not self._stop.is_set():
            name = f"Patient {self._number}.{step}"
            if step % 2:
                self.keyed.append(name)
                while not self._created(name, {"Idempotency-Key": name.replace(" ", "-")}):
                    time.sleep(0.05)
            elif not self._created(name, {}):
                time.sleep(0.05)
            step += 1

    def _created(self, name: str, headers: dict[str, str]) -> bool:
        answer = self._app.post("/api/patients", {"name": name}, headers=headers)
        (self.acknowledged.append(name) if answer.status == 201 else self.failures.append(answer))
        return answer.status == 201

    def finish(self) -> None:
        """Once the last keyed creation is acknowledged."""
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        self.environment.disconnect()


def test_a_crash_of_the_server_loses_nothing_that_was_acknowledged_and_repeats_nothing(
    durable_server: EmbeddedPostgres, clinic: Database, app_at_the_clinic: Client
) -> None:
    writers = [Writer(number, app_at_the_clinic) for number in range(WRITERS)]
    try:
        for _ in range(RESTARTS):
            _wait_until(lambda: _have_written(writers, 10))
            before = {writer: len(writer.acknowledged) for writer in writers}
            _crash(durable_server)
            durable_server.start()
            # The same environments go on; nobody has restarted them.
            _wait_until(lambda: all(len(writer.acknowledged) > before[writer] + 1 for writer in writers))  # noqa: B023
    finally:
        for writer in writers:
            writer.finish()

    failures = [answer for writer in writers for answer in writer.failures]
    assert len(failures) >= WRITERS
    for answer in failures:
        _unavailable(answer)
    with clinic.connect() as connection:
        rows = Counter(name for (name,) in connection.execute("SELECT name FROM patients"))
    for writer in writers:
        assert all(rows[name] == 1 for name in writer.acknowledged)
        assert all(rows[name] == 1 for name in writer.keyed)
    assert set(rows.values()) == {1}, "nor is one there twice that nobody has heard of"
    assert clinic.value("SELECT count(*) FROM broken_audit_links()") == 0
    assert clinic.value("SELECT count(*) FROM audit_events WHERE resource = 'patient'") == len(rows)


def _have_written(writers: list[Writer], number: int) -> bool:
    return all(len(writer.acknowledged) >= number for writer in writers)


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_that_is_down_at_a_cold_start_is_found_when_it_is_back(
    durable_server: EmbeddedPostgres, clinic: Database, app_at_the_clinic: Client
) -> None:
    cold = {name: Environment(Path("functions", name)) for name in ("auth", "patients", "health")}
    gateway = Gateway({**app_at_the_clinic.gateway.environments, **cold})
    app = Client(gateway, app_at_the_clinic.token)
    credentials = {name: app_at_the_clinic.user[name] for name in ("email", "password")}
    durable_server.stop()
    try:
        for _ in range(2):
            _unavailable(app.get("/health"))
            _unavailable(app.get("/api/patients"))
            _unavailable(app.post("/api/patients", {"name": "Zoë"}, headers={"Idempotency-Key": "cold"}))
            _unavailable(app.post("/api/auth/login", credentials))
    finally:
        durable_server.start()
    app.get("/health").expect(200)
    app.post("/api/patients", {"name": "Zoë"}, headers={"Idempotency-Key": "cold"}).expect(201)
    app.post("/api/auth/login", credentials).expect(200)
    assert [patient["name"] for patient in app.get("/api/patients").expect(200)["items"]] == ["Zoë"]
    for environment in cold.values():
        environment.disconnect()


def test_a_server_that_is_frozen_is_given_up_and_found_again(
    durable_server: EmbeddedPostgres, app_at_the_clinic: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = app_at_the_clinic
    patient = f"/api/patients/{app.create('/api/patients', name='Zoë')['id']}"
    environment = app.gateway.environments["patients"]
    monkeypatch.setattr(environment.modules["healthcare.database.connection"], "_UNANSWERED", 1)
    with psycopg.connect(durable_server.conninfo()) as connection:
        postmaster = psutil.Process(connection.info.backend_pid).parent()
    assert postmaster
    frozen = [postmaster, *postmaster.children()]
    for process in frozen:
        with suppress(psutil.NoSuchProcess):  # that connection's may be about to end
            process.suspend()
    try:
        _unavailable(app.post("/api/patients", {"name": "Yan"}))
        _unavailable(app.get(patient))
    finally:
        for process in frozen:
            with suppress(psutil.NoSuchProcess):
                process.resume()
    assert app.get(patient).expect(200)["name"] == "Zoë"


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "key"}], ids=["without a key", "with a key"])
def test_a_connection_that_is_cut_while_a_statement_runs(
    wire: Wire, ann: Client, database: Database, key: dict[str, str]
) -> None:
    """The server notices only when it has an answer to send; by then it has done what it was asked, or not."""
    ann.create("/api/patients", name="Zoë")
    answers: list[Answer] = []
    with psycopg.connect(database.conninfo()) as blocker:
        blocker.execute("LOCK TABLE patients")
        creation = threading.Thread(
            target=lambda: answers.append(ann.post("/api/patients", {"name": "Yan"}, headers=key))
        )
        creation.start()
        _wait_until(lambda: database.waiting() == 1)
        wire.cut()
        if not key:
            creation.join(10)
            _unavailable(answers[0])
        else:  # it is sent again, and waits for the first one's end
            _wait_until(lambda: database.waiting() == 2)
    creation.join(10)
    _wait_until(lambda: database.waiting() == 0)
    if key:
        created = answers[0].expect(201)
        assert database.value("SELECT array_agg(id) FROM patients WHERE name = 'Yan'") == [created["id"]]
    else:
        assert database.value("SELECT count(*) FROM patients WHERE name = 'Yan'") in (0, 1)
    assert ann.create("/api/patients", name="Xan")["name"] == "Xan"


# A file system that is really full would have to be mounted, which takes root. What the server does there: it refuses
# single statements with this code, or, when its log has no room, it crashes (see above).
@pytest.mark.parametrize("code", ["53100", "53200", "58030"], ids=["disk full", "out of memory", "I/O error"])
def test_a_server_without_room_is_503_and_leaves_nothing_half_done(ann: Client, database: Database, code: str) -> None:
    with database.connect() as connection:
        connection.execute(
            f"""
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '{code}'; END $$;
            CREATE TRIGGER zz_refuse AFTER INSERT ON patients FOR EACH ROW EXECUTE FUNCTION refuse();
            """
        )
        for key in ({}, {"Idempotency-Key": "key"}):
            answer = ann.post("/api/patients", {"name": "Zoë"}, headers=key)
            _unavailable(answer)
            assert "extend" not in answer.text
        assert ann.get("/api/patients").expect(200)["items"] == []
        for table in ("patients", "patient_words", "idempotency_keys"):
            assert database.value(f"SELECT count(*) FROM {table}") == 0
        connection.execute("DROP TRIGGER zz_refuse ON patients")
    ann.post("/api/patients", {"name": "Zoë"}, headers={"Idempotency-Key": "key"}).expect(201)


# Secrets Manager ----------------------------------------------------------------------------------------------------


@contextmanager
def _silent() -> Iterator[int]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@contextmanager
def _closed() -> Iterator[int]:
    yield free_port()


@contextmanager
def _failing() -> Iterator[int]:
    class InternalError(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(500)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), InternalError) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize("secrets_manager_of", [_silent, _closed, _failing], ids=["silent", "closed", "failing"])
def test_without_secrets_manager_a_cold_start_says_so_and_spends_nothing(
    ann: Client,
    database: Database,
    secrets_manager_of: Callable[[], "contextmanager[int]"],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    credentials = {"email": ann.user["email"], "password": ann.user["password"]}
    refreshing = {"refresh_token": ann.tokens["refresh_token"]}
    token = {"type": "TOKEN", "authorizationToken": f"Bearer {ann.token}", "methodArn": f"{ARN}/GET/api/patients"}
    cold = {name: Environment(Path("functions", name)) for name in ("auth", "authorizer")}
    app = Client(Gateway({**ann.gateway.environments, **cold}))
    sessions = "SELECT array_agg((id, token_hash, expires_at)::text ORDER BY id) FROM sessions"
    before = database.value(sessions)

    with secrets_manager_of() as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", f"http://127.0.0.1:{port}")
        for path, body in (("login", credentials), ("refresh", refreshing)):
            started = time.monotonic()
            _unavailable(app.post(f"/api/auth/{path}", body))
            assert time.monotonic() - started < 5
        # API Gateway makes AUTHORIZER_FAILURE of whatever an authorizer raises.
        with pytest.raises(cold["authorizer"].modules["healthcare.errors"].Unavailable):
            cold["authorizer"].invoke(token)
        # Who has the keys already needs nobody.
        assert ann.get("/api/patients").expect(200)["items"] == []
    assert database.value(sessions) == before

    monkeypatch.delenv("AWS_ENDPOINT_URL_SECRETS_MANAGER")
    assert cold["authorizer"].invoke(token)["principalId"] == str(ann.user["id"])
    app.post("/api/auth/login", credentials).expect(200)
    app.post("/api/auth/refresh", refreshing).expect(200)
    cold["auth"].disconnect()


def test_api_gateway_answers_503_for_an_authorizer_that_raises() -> None:
    response = sam_template()["Resources"]["Api"]["Properties"]["GatewayResponses"]["AUTHORIZER_FAILURE"]
    assert str(response["StatusCode"]) == "503"
    assert "Retry-After" in response["ResponseParameters"]["Headers"]
