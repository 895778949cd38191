"""`make move` into the local run's own database, which it finds by itself."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from local.database.postgres import EmbeddedPostgres
from tests.e2e.local_run import PROJECT, running
from tests.integration.test_move import HASH, PASSWORD, SCHEMA


@pytest.fixture
def source(server: EmbeddedPostgres) -> Iterator[str]:
    with psycopg.connect(server.conninfo(), autocommit=True) as superuser:
        superuser.execute("CREATE DATABASE original")
        with psycopg.connect(server.conninfo(dbname="original")) as original:
            original.execute(SCHEMA)
        yield server.conninfo(dbname="original")
        superuser.execute("DROP DATABASE original WITH (FORCE)")


def _add_user(source: str, email: str) -> None:
    with psycopg.connect(source) as original:
        original.execute("INSERT INTO users (name, email, password) VALUES ('Ann', %s, %s)", [email, HASH])


def _move(source: str, folder: Path) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "DATABASE_"))}
    done = subprocess.run(
        [sys.executable, "-m", "tools.move"],
        cwd=PROJECT,
        env=inherited | {"FROM": source, "LOCAL_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_local_run_takes_the_originals_users_whether_it_is_up_or_not(source: str, tmp_path: Path) -> None:
    _add_user(source, "first@example.org")
    assert "Every row was taken" in _move(source, tmp_path)
    with running(tmp_path) as run:
        _add_user(source, "second@example.org")
        assert "Every row was taken" in _move(source, tmp_path)
        for number, email in enumerate(("first@example.org", "second@example.org"), start=1):
            login = {"email": email, "password": PASSWORD}
            answer = httpx.post(f"{run.base_url}/api/auth/login", json=login, timeout=30)
            assert (answer.status_code, answer.json()["user"]["id"]) == (200, number)
