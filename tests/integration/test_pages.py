from urllib.parse import parse_qs, urlsplit

import pytest

from tests.conftest import Database
from tests.gateway import Client

LISTS = ("/api/patients", "/api/doctors", "/api/mappings", "/api/audit")


@pytest.fixture
def full(ann: Client, database: Database) -> Client:
    """Ann with 25 patients, doctors and mappings, among somebody else's."""
    with database.connect() as connection:
        connection.execute(
            """
            INSERT INTO users (name, email, password_hash) VALUES ('Bob', 'bob@example.org', 'x');
            INSERT INTO patients (owner_id, name)
            SELECT u.id, 'Patient ' || n FROM generate_series(1, 25) n, users u ORDER BY n, u.id;
            INSERT INTO doctors (name, specialty) SELECT 'Doctor ' || n, 'Time' FROM generate_series(1, 25) n;
            INSERT INTO mappings (owner_id, patient_id, doctor_id)
            SELECT p.owner_id, p.id, d.id
              FROM (SELECT *, row_number() OVER (PARTITION BY owner_id ORDER BY id) AS n FROM patients) p
              JOIN doctors d ON d.name = 'Doctor ' || p.n;
            INSERT INTO mappings (owner_id, patient_id, doctor_id)
            SELECT p.owner_id, p.id, d.id FROM patients p, doctors d WHERE p.name = 'Patient 1' AND d.name <> 'Doctor 1'
            """
        )
    return ann


@pytest.mark.parametrize("url", LISTS)
@pytest.mark.parametrize("limit", [1, 7, 24, 25, 100])
def test_a_walk_meets_every_row_once_in_order(full: Client, url: str, limit: int) -> None:
    items = full.walk(f"{url}?limit={limit}")
    ids = [item["id"] for item in items]
    assert ids == sorted(set(ids), reverse=url == "/api/audit")
    assert len(ids) == {"/api/mappings": 49, "/api/audit": 25 + 49 + 1}.get(url, 25)


def test_the_doctors_of_a_patient_come_in_pages_too(full: Client) -> None:
    patient = full.get("/api/patients?limit=1").json["items"][0]["id"]
    for url in (f"/api/patients/{patient}/doctors", f"/api/mappings/{patient}"):
        assert [doctor["name"] for doctor in full.walk(f"{url}?limit=10")] == [f"Doctor {n}" for n in range(1, 26)]


@pytest.mark.parametrize("url", LISTS)
def test_twenty_are_the_default_and_the_link_leads_on(full: Client, url: str) -> None:
    answer = full.get(url)
    page = answer.expect(200)
    assert len(page["items"]) == 20
    assert page.keys() == {"items", "next_cursor"}
    target, _, relation = answer.headers["Link"].partition("; ")
    assert relation == 'rel="next"'
    parts = urlsplit(target.strip("<>"))
    assert parts.path == f"/v1{url}"
    assert parse_qs(parts.query) == {"cursor": [page["next_cursor"]]}


def test_the_link_keeps_the_rest_of_the_query(full: Client) -> None:
    answer = full.get("/api/doctors?specialty=time&q=doc%20&limit=2")
    query = parse_qs(urlsplit(answer.headers["Link"].partition(">")[0]).query)
    assert query == {"specialty": ["time"], "q": ["doc "], "limit": ["2"], "cursor": [answer.json["next_cursor"]]}


def test_the_last_page_has_no_next_one(full: Client) -> None:
    answer = full.get("/api/patients?limit=25")
    assert answer.expect(200)["next_cursor"] is None
    assert "Link" not in answer.headers


def test_a_walk_meets_what_stood_there_throughout_whatever_happens_meanwhile(full: Client) -> None:
    stood = {patient["id"] for patient in full.walk("/api/patients")}
    met: list[int] = []
    cursor = ""
    for step in range(100):
        page = full.get(f"/api/patients?limit=3{cursor}").expect(200)
        met += [patient["id"] for patient in page["items"]]
        gone = page["items"][-1]["id"]  # the very row that the cursor stands on
        full.delete(f"/api/patients/{gone}").expect(204)
        full.create("/api/patients", name=f"Newcomer {step}")
        if page["next_cursor"] is None or stood <= set(met):
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(met) == len(set(met))
    assert stood <= set(met)


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=", "limit=1.0", "limit=%2B5", "limit=-1"])
def test_a_limit_is_a_number_from_1_to_100(ann: Client, query: str) -> None:
    problem = ann.get(f"/api/patients?{query}").refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == ["query/limit"]


@pytest.mark.parametrize(
    "cursor", ["", "x", "AAAAAAAAAAA", "AAAAAAAAAAF", "AAAAAAAAAAE=", "_" * 11, "é", "A" * 100, "%00"]
)
def test_a_made_up_cursor_is_refused(ann: Client, cursor: str) -> None:
    problem = ann.get(f"/api/patients?cursor={cursor}").refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == ["query/cursor"]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("offset=5", "query/offset"),
        ("q=a%00b", "query/q"),
        (f"q={'x' * 201}", "query/q"),
        ("limit=1&limit=2", "query/limit"),
    ],
)
def test_a_parameter_that_is_unknown_unusable_or_given_twice_is_refused(ann: Client, query: str, pointer: str) -> None:
    problem = ann.get(f"/api/patients?{query}").refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
