"""What `make run` promises beside the API itself: it starts, says what is wrong, and leaves nothing behind."""

import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from healthcare.database.migrate import MigrationError, migrate
from local.database.postgres import EmbeddedPostgres
from tests.e2e.local_run import PROJECT, LocalRun, still_running

SOMEBODY = {"name": "Somebody", "email": "somebody@example.org", "password": "a long enough password"}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Shared, since making a database takes longer than most of these tests."""
    folder = tmp_path_factory.mktemp("local") / "state"
    yield folder
    LocalRun(folder).clean()
    assert not folder.exists()


@pytest.fixture
def run(state: Path) -> LocalRun:
    """Not started yet."""
    return LocalRun(state)


def log_in(run: LocalRun) -> dict[str, str]:
    """The headers of somebody who is signed in."""
    credentials = {name: SOMEBODY[name] for name in ("email", "password")}
    answer = httpx.post(f"{run.base_url}/api/auth/login", json=credentials, timeout=30)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def register(run: LocalRun) -> None:
    """Unless an earlier test has."""
    assert httpx.post(f"{run.base_url}/api/auth/register", json=SOMEBODY, timeout=30).status_code in (201, 409)


def read_me(run: LocalRun, headers: dict[str, str]) -> int:
    return httpx.get(f"{run.base_url}/api/auth/me", headers=headers, timeout=30).status_code


def wait_for(run: LocalRun, line: str) -> None:
    deadline = time.monotonic() + 15
    while line not in run.lines:
        assert time.monotonic() < deadline, run.output
        time.sleep(0.05)


def test_it_says_where_it_runs_and_serves_until_it_is_interrupted(run: LocalRun) -> None:
    run.start()
    assert f"The API runs at {run.base_url}" in run.output
    assert f"{run.base_url}/docs" in run.output
    assert re.search("^  POST    /api/patients +token$", run.output, re.MULTILINE)
    assert re.search("^  POST    /api/auth/login +open$", run.output, re.MULTILINE)
    assert run.get("/health").json() == {"status": "ok"}

    processes = run.processes()
    assert any("postgres" in process.name() for process in processes)
    assert run.stop(signal.SIGINT) == 0
    assert still_running(processes) == []
    assert run.lines[-1] == "Stopping …"
    with socket.socket() as connection:
        assert connection.connect_ex(("127.0.0.1", run.port)) != 0


def test_data_and_tokens_outlive_a_restart(run: LocalRun) -> None:
    with run:
        register(run)
        headers = log_in(run)
        processes = run.processes()
        assert run.stop(signal.SIGTERM) == 0
        assert still_running(processes) == []
    with run:
        assert read_me(run, headers) == 200
        assert (run.folder / "token-keys.json").stat().st_mode & 0o777 == 0o600
        assert (run.folder / "pgpass").stat().st_mode & 0o777 == 0o600


def test_its_sudden_death_leaves_no_process_and_loses_nothing(run: LocalRun) -> None:
    with run:
        register(run)
        processes = run.processes()
        assert run.stop(signal.SIGKILL) == -signal.SIGKILL
        assert still_running(processes, 15) == []
    with run:
        log_in(run)


def test_a_database_server_that_was_left_behind_is_taken_down(run: LocalRun) -> None:
    with run:
        register(run)
        processes = run.processes()
        watching = [process for process in processes if "local.run" in process.cmdline()]
        watching.append(psutil.Process(run.process.pid))
        # Stopped first, so that neither sees the other's end and tidies up.
        for process in watching:
            process.suspend()
        for process in watching:
            process.kill()
        run.wait()
        left_behind = still_running(processes, 0)
        assert "postgres" in {process.name() for process in left_behind}
    with run:
        log_in(run)
        assert "postgres" not in {process.name() for process in still_running(left_behind, 0)}
    for process in still_running(left_behind, 0):
        process.kill()


def test_a_database_that_dies_is_started_again_with_its_data(run: LocalRun) -> None:
    with run:
        register(run)
        (postmaster,) = (process for process in run.processes() if "-D" in process.cmdline())
        writer = next(child for child in postmaster.children() if "background writer" in " ".join(child.cmdline()))
        writer.suspend()  # as one that ends later
        postmaster.kill()
        deadline = time.monotonic() + 15
        while "PostgreSQL has ended by itself. Starting it again …" not in run.lines:
            assert run.get("/health").status_code in (200, 503)
            assert time.monotonic() < deadline, run.output
        assert run.get("/health").status_code == 503
        writer.resume()
        while run.get("/health").status_code != 200:
            assert time.monotonic() < deadline, run.output
            time.sleep(0.1)
        log_in(run)
        assert "PostgreSQL runs again." in run.lines


def test_moto_that_dies_is_started_again_with_the_same_keys(run: LocalRun) -> None:
    with run:
        register(run)
        headers = log_in(run)
        (moto,) = (process for process in run.processes() if "local.aws.server" in process.cmdline())
        moto.kill()
        wait_for(run, "moto, which stands in for AWS, runs again.")
        # Their successors have to ask for the keys.
        for process in [process for process in run.processes() if "awslambdaric" in process.cmdline()]:
            process.kill()
        assert read_me(run, headers) == 200
        assert read_me(run, log_in(run)) == 200


def test_a_database_of_other_migrations_is_told_with_what_to_do(run: LocalRun) -> None:
    with run:
        pass
    with (
        EmbeddedPostgres(run.folder / "postgres") as server,
        psycopg.connect(server.conninfo(dbname="healthcare")) as connection,
    ):
        connection.execute("UPDATE schema_migrations SET name = '0000_of_before' WHERE name LIKE '0001%'")
    run = LocalRun(run.folder)
    run.start()
    assert run.wait() == 1
    assert run.lines[0] == "Starting PostgreSQL …"
    assert len(run.lines) == 2 + ("Running as root" in run.output), run.output
    with pytest.raises(MigrationError) as error, EmbeddedPostgres(run.folder / "postgres") as server:
        migrate(server.conninfo(dbname="healthcare"))
    assert run.lines[-1] == f"{error.value} `make clean` removes it, with all its data."
    LocalRun(run.folder).clean()


def test_the_death_of_the_working_process_ends_the_run(run: LocalRun) -> None:
    with run:
        processes = run.processes()
        next(process for process in processes if "local.run" in process.cmdline()).kill()
        assert run.wait() == 1
        assert still_running(processes) == []


def test_a_second_ctrl_c_changes_nothing(run: LocalRun) -> None:
    with run:
        processes = run.processes()
        run.process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        assert run.stop(signal.SIGINT) == 0
        assert still_running(processes) == []


def test_a_port_in_use_is_one_sentence(run: LocalRun) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        run.environ["PORT"] = str(other.getsockname()[1])
        run.start()
        assert run.wait() == 1
    assert run.lines == [f"Port {run.environ['PORT']} is in use. PORT= names another, as in `make run PORT=3001`."]


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "3000 ", "٣"])
def test_a_port_that_is_none_is_one_sentence(tmp_path: Path, port: str) -> None:
    run = LocalRun(tmp_path, PORT=port)
    run.start()
    assert run.wait() == 1
    assert run.lines == [f"PORT must be a number from 1 to 65535, not {port!r}."]


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run = LocalRun(tmp_path / "file" / "state")
    run.start()
    assert run.wait() == 1
    assert run.lines == [f"The folder {run.folder} can't be written: Not a directory. LOCAL_DIR names another."]


def test_a_second_run_on_the_same_state_is_one_sentence(local_run: LocalRun) -> None:
    second = LocalRun(local_run.folder)
    second.start()
    assert second.wait() == 1
    assert second.lines == [f"Another local run is using {local_run.folder}. Stop it, or name another with LOCAL_DIR."]
    assert local_run.get("/health").status_code == 200


def test_a_database_out_of_reach_is_one_sentence(run: LocalRun) -> None:
    run.environ["DATABASE_URL"] = "postgresql://somebody@127.0.0.1:1/healthcare"
    run.start()
    assert run.wait() == 1
    assert len(run.lines) == 2
    assert run.lines[1].startswith("The database that DATABASE_URL or PGHOST names does not let us in: ")


@pytest.mark.parametrize("url", ["healthcare", "postgress://somebody:secret@127.0.0.1/healthcare"])
def test_a_database_url_that_is_none_is_one_sentence(run: LocalRun, url: str) -> None:
    run.environ["DATABASE_URL"] = url
    run.start()
    assert run.wait() == 1
    assert run.lines[1:] == ["DATABASE_URL should look like postgresql://user:password@host:5432/database."]


@pytest.mark.parametrize("named_by", ["url", "variables"])
def test_another_database_takes_the_place_of_the_embedded_one(tmp_path: Path, named_by: str) -> None:
    run = LocalRun(tmp_path / "state")
    with EmbeddedPostgres(tmp_path / "other", {"fsync": "off"}) as other:
        with psycopg.connect(other.conninfo(), autocommit=True) as connection:
            connection.execute("CREATE ROLE mine LOGIN CREATEROLE PASSWORD 'it''s : \\ odd'")
            connection.execute("CREATE DATABASE clinic OWNER mine")
        if named_by == "url":
            run.environ["DATABASE_URL"] = f"postgresql://mine:it's%20%3A%20%5C%20odd@127.0.0.1:{other.port}/clinic"
        else:
            run.environ |= {"PGHOST": "127.0.0.1", "PGPORT": str(other.port), "PGDATABASE": "clinic"}
            run.environ |= {"PGUSER": "mine", "PGPASSWORD": "it's : \\ odd"}
        with run:
            register(run)
            assert read_me(run, log_in(run)) == 200
            assert not (run.folder / "postgres").exists()
        with psycopg.connect(other.conninfo(dbname="clinic")) as connection:
            assert connection.execute("SELECT email FROM users").fetchall() == [(SOMEBODY["email"],)]


def test_the_runtime_can_be_plain_processes(run: LocalRun) -> None:
    run.environ["LOCAL_RUNTIME"] = "process"
    with run:
        register(run)
        assert read_me(run, log_in(run)) == 200
        assert not any("rie" in process.name() for process in run.processes())
        assert "/api/auth/register" in (run.folder / "log" / "auth.log").read_text()


def test_changed_code_is_served_without_a_restart(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name in ("functions", "layers", "local", "tools"):
        shutil.copytree(PROJECT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "template.yaml", project)
    run = LocalRun(tmp_path / "state", project=project)
    with run:
        assert run.get("/health").headers["X-Request-Id"]
        (project / "functions" / "health" / "app.py").write_text(
            "def lambda_handler(event, context):\n    return {'statusCode': 200, 'body': 'edited'}\n"
        )
        deadline = time.monotonic() + 15
        while run.get("/health").text != "edited":
            assert time.monotonic() < deadline, run.output
            time.sleep(0.1)
        assert any("reloading health" in line for line in run.lines)
        os.utime(project / "template.yaml")
        while "template.yaml has changed: restart to apply it." not in run.lines:
            assert time.monotonic() < deadline, run.output
            time.sleep(0.1)
    run.clean()


def test_cleaning_refuses_a_folder_that_is_no_state(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    run = LocalRun(tmp_path)
    with pytest.raises(AssertionError, match="is no folder of a local run"):
        run.clean()
    assert (tmp_path / "precious").exists()


def test_nothing_listens_beyond_this_machine(local_run: LocalRun) -> None:
    addresses = {
        connection.laddr.ip
        for process in local_run.processes()
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


def test_the_settings_of_the_readme_reach_functions_and_gateway(tmp_path: Path) -> None:
    settings = {"ACCESS_TOKEN_LIFETIME": "60", "CORS_ALLOWED_ORIGIN": "https://app.example.org"}
    run = LocalRun(tmp_path / "local", POWERTOOLS_LOG_LEVEL="ERROR", **settings)
    with run:
        assert run.process.poll() is None, run.output
        register(run)
        credentials = {name: SOMEBODY[name] for name in ("email", "password")}
        login = httpx.post(f"{run.base_url}/api/auth/login", json=credentials, timeout=30)
        assert login.json()["expires_in"] == 60
        preflight = httpx.options(
            f"{run.base_url}/api/patients", headers={"Origin": "https://app.example.org"}, timeout=30
        )
        for answer in (login, preflight, run.get("/nowhere")):
            assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.org"
        assert not any("POST /api/auth" in line for line in run.lines)
    run.clean()


def test_a_path_that_does_not_exist_is_not_found_with_and_without_a_token(local_run: LocalRun) -> None:
    for headers in ({}, {"Authorization": "Bearer a-token"}):
        answer = httpx.get(f"{local_run.base_url}/api/nowhere", headers=headers, timeout=30)
        assert (answer.status_code, answer.json()["type"]) == (404, "/problems/not-found")
