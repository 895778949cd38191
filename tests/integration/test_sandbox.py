"""A database that may sleep: nothing keeps it awake, and whoever comes notices nothing of it."""

import time

import pytest

from tests.conftest import Database
from tests.gateway import Client


def test_a_warm_function_leaves_the_database_after_a_while_and_comes_back(
    ann: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connections() -> object:
        return database.value("SELECT count(*) FROM pg_stat_activity WHERE usename = 'healthcare_api'")

    monkeypatch.setenv("PGOPTIONS", "-c idle_session_timeout=300ms")
    ann.gateway.disconnect()
    ann.get("/api/patients").expect(200)
    assert connections() == 1
    deadline = time.monotonic() + 10
    while connections() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert connections() == 0
    ann.get("/api/patients").expect(200)
