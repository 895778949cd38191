"""What the queries that the template saves would find in the lines that functions really write."""

import io
import json
import logging
import re
from collections.abc import Callable, Iterator

import pytest

from tests.gateway import Client, Environment, template


@pytest.fixture
def written(environments: dict[str, Environment]) -> Iterator[Callable[[], list[str]]]:
    """The lines of the log, as they are."""
    stream = io.StringIO()
    handler = logging.getLogger("tests").handlers[0]
    before = handler.setStream(stream)
    yield lambda: stream.getvalue().splitlines()
    handler.setStream(before)


def query(name: str) -> str:
    text: str = template()["Resources"][name]["Properties"]["QueryString"]
    return text


def test_who_read_this_patient_finds_single_reads_and_lists_and_no_other_patient(
    ann: Client, written: Callable[[], list[str]]
) -> None:
    ids = [ann.create("/api/patients", name=f"Patient {number}")["id"] for number in range(12)]
    first = len(written())
    ann.get(f"/api/patients/{ids[0]}").expect(200)
    ann.get("/api/patients?limit=1").expect(200)
    ann.get("/api/patients?limit=12").expect(200)
    ann.get(f"/api/patients/{ids[9]}").expect(200)
    (pattern,) = re.findall(r"@message like /(.*)/", query("WhoReadThisPatient"))
    found = re.compile(pattern.replace("1[", f"{ids[0]}["))
    assert [bool(found.search(line)) for line in written()[first:]] == [True, True, True, False]


def test_queries_ask_for_fields_that_lines_have(
    ann: Client, anonymous: Client, written: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    anonymous.post("/api/auth/login", {"email": ann.user["email"], "password": "wrong horse"}).expect(401)
    monkeypatch.setenv("PGPORT", "1")
    ann.gateway.disconnect()
    ann.get("/api/patients").expect(503)
    lines = [json.loads(line) for line in written()]
    (login,) = (line for line in lines if line["message"] == "POST /api/auth/login" and line["status"] == 401)
    (error,) = (line for line in lines if line["level"] == "ERROR")
    for name, line in (("FailedLogins", login), ("UnexpectedErrors", error), ("WhoReadThisPatient", login)):
        fields = set(re.findall(r"\b(?:display|by) (.*)", query(name))[0].split(", ")) - {"@timestamp", "user_id"}
        assert fields <= line.keys(), name
