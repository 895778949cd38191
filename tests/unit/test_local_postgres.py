"""Not a unit without a database, but one without a network: the server is what is tested."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import psycopg
import pytest

from local.database import postgres
from local.database.postgres import EmbeddedPostgres

SETTINGS = {"fsync": "off"}


def one(server: EmbeddedPostgres, query: str) -> object:
    with psycopg.connect(server.conninfo()) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def postmaster(server: EmbeddedPostgres) -> psutil.Process:
    with psycopg.connect(server.conninfo()) as connection:
        parent = psutil.Process(connection.info.backend_pid).parent()
    assert parent is not None
    return parent


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """In a place that every user may enter, so that the data stays from one server to the next."""
    with TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


def test_it_is_set_up_as_in_production(folder: Path) -> None:
    with EmbeddedPostgres(folder, SETTINGS) as server:
        assert one(server, "SHOW server_version_num") >= "180000"  # type: ignore[operator]
        assert one(server, "SHOW server_encoding") == "UTF8"
        assert one(server, "SHOW listen_addresses") == "127.0.0.1"
        assert one(server, "SHOW unix_socket_directories") == ""
        assert one(server, "SHOW fsync") == "off"
        assert one(server, "SELECT datlocprovider::text || datlocale FROM pg_database LIMIT 1") == "bC.UTF-8"
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(server.conninfo(password="guess"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_it_does_not_run_as_root_nor_change_the_folders_above(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with EmbeddedPostgres(tmp_path / "hidden", SETTINGS) as server:
        assert postmaster(server).username() == "nobody"
        assert server.elsewhere is not None
        elsewhere = server.elsewhere
        assert (elsewhere.stat().st_uid, elsewhere.stat().st_mode & 0o777) == (0, 0o711)
    assert tmp_path.stat().st_mode & 0o777 == 0o700
    assert not elsewhere.exists()


def test_its_data_and_port_stay(folder: Path) -> None:
    with EmbeddedPostgres(folder, SETTINGS) as server:
        with psycopg.connect(server.conninfo()) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS number")
        port = server.port
    with EmbeddedPostgres(folder, SETTINGS) as server:
        assert one(server, "SELECT number FROM kept") == 1
        assert server.port == port


def test_another_port_is_chosen_when_its_own_is_taken(folder: Path) -> None:
    with EmbeddedPostgres(folder, SETTINGS) as server:
        port = server.port
    with socket.create_server(("127.0.0.1", port)), EmbeddedPostgres(folder, SETTINGS) as server:
        assert server.port != port
        assert one(server, "SELECT 1") == 1


def test_a_server_left_running_is_replaced(folder: Path) -> None:
    first = EmbeddedPostgres(folder, SETTINGS)
    first.start()
    left = postmaster(first)
    with EmbeddedPostgres(folder, SETTINGS) as server:
        assert not left.is_running() or left.status() == psutil.STATUS_ZOMBIE
        assert one(server, "SELECT 1") == 1
    first.stop()


def test_a_frozen_server_is_ended_with_all_its_processes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "FAST_STOP_SECONDS", 0.2)
    monkeypatch.setattr(postgres, "IMMEDIATE_STOP_SECONDS", 0.2)
    with EmbeddedPostgres(folder, SETTINGS) as server:
        frozen = [postmaster(server), *postmaster(server).children()]
        for process in frozen:
            process.suspend()
    assert psutil.wait_procs(frozen, timeout=5)[1] == []
    with EmbeddedPostgres(folder, SETTINGS) as server:
        assert one(server, "SELECT 1") == 1


def test_a_killed_server_starts_again(folder: Path) -> None:
    first = EmbeddedPostgres(folder, SETTINGS)
    first.start()
    os.kill(postmaster(first).pid, signal.SIGKILL)
    first.stop()
    with EmbeddedPostgres(folder, SETTINGS) as server:
        assert one(server, "SELECT 1") == 1


def test_a_number_of_an_old_process_that_is_another_now_is_no_obstacle(folder: Path) -> None:
    (folder / "data" / "postmaster.pid").write_text(f"{os.getpid()}\n{folder}/data\n")
    with EmbeddedPostgres(folder, SETTINGS) as server:
        assert one(server, "SELECT 1") == 1


def test_values_with_quotes_pass_into_conninfo() -> None:
    conninfo = EmbeddedPostgres(Path("/nowhere")).conninfo(user="it's", password="a\\b c")
    parameters = psycopg.conninfo.conninfo_to_dict(conninfo)
    assert (parameters["user"], parameters["password"]) == ("it's", "a\\b c")
