"""Records and disclosures, through the routes of the owner's side and of the doctor's."""

import json
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Database, LogLines
from tests.gateway import Client, Environment, Gateway
from tests.practice import delegate, link, open_patient

NOTE = {"text": "Feels well."}
CODE = {"system": "http://snomed.info/sct", "code": "38341003", "display": "Hypertensive disorder"}
EXAMPLES: dict[str, dict[str, Any]] = {
    "note": {"title": "First visit", "text": "Line one\nline two"},
    "condition": {
        "name": "Hypertension",
        "code": CODE,
        "since": "2019-02-01",
        "until": "2020-02-01",
        "severity": "mild",
    },
    "allergy": {"substance": "Penicillin", "code": CODE, "reaction": "Rash", "severity": "severe"},
    "medication": {
        "name": "Ramipril",
        "code": {"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": "35296"},
        "dose": "5 mg",
        "instructions": "In the morning",
        "from": "2024-01-01",
        "until": "2099-01-01",
    },
    "observation": {
        "name": "Hemoglobin",
        "code": {"system": "http://loinc.org", "code": "718-7"},
        "value": 13.5,
        "unit": "g/dL",
    },
    "immunization": {"vaccine": "Tetanus toxoid", "code": CODE, "given_on": "2021-05-05", "lot": "A-17"},
}


@pytest.fixture
def path(ann: Client) -> str:
    return f"/api/patients/{ann.create('/api/patients', name='Zoë')['id']}/records"


def disclosures(owner: Client, path: str) -> list[tuple[int, str, int]]:
    """Who read what, newest first."""
    found = owner.get(path.replace("/records", "/disclosures")).expect(200)["items"]
    return [(row["actor_id"], row["resource"], row["resource_id"]) for row in found]


# What a record says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EXAMPLES)
def test_a_record_of_each_kind_comes_back_as_it_was_sent(ann: Client, path: str, kind: str) -> None:
    occurred_at = "2024-03-01T12:00:00Z"
    answer = ann.post(path, {"kind": kind, "content": EXAMPLES[kind], "occurred_at": occurred_at})
    record = answer.expect(201)
    assert answer.headers["Location"] == f"/v1{path}/{record['id']}"
    assert record == {
        "id": record["id"],
        "patient_id": int(path.split("/")[3]),
        "kind": kind,
        "content": EXAMPLES[kind],
        "status": "final",
        "occurred_at": occurred_at,
        "appointment_id": None,
        "replaces_id": None,
        "author_id": ann.user["id"],
        "author_name": "Ann",
        "by_doctor_id": None,
        "retract_reason": None,
        "created_at": record["created_at"],
        "updated_at": record["created_at"],
    }
    again = ann.get(f"{path}/{record['id']}")
    assert again.expect(200) == record
    assert again.headers["ETag"] == '"1"'
    assert ann.get(path).expect(200)["items"] == [record]


NOT_IN_TEXT = "\ufffd\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def lines(longest: int, *, breaks: bool = False) -> st.SearchStrategy[str]:
    letters = st.characters(exclude_categories=["Cc", "Cs"], exclude_characters=NOT_IN_TEXT)
    text = st.text(letters | st.just("\n") if breaks else letters, min_size=1, max_size=longest)
    return text.map(lambda text: unicodedata.normalize("NFC", text)).filter(
        lambda text: text == text.strip() and 0 < len(text) <= longest
    )


def optional(required: dict[str, Any], more: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=more)


NAMES = lines(200).filter(lambda text: any(map(str.isalnum, text)))
PAST = st.dates(date(1900, 1, 1), datetime.now(UTC).date()).map(str)
WORDS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=100)
CODES = optional({"system": WORDS.map(lambda word: f"urn:{word}"), "code": WORDS}, {"display": lines(200)})
SEVERITIES = st.sampled_from(["mild", "moderate", "severe"])
NUMBERS = st.builds(
    lambda digits, places: Decimal(f"{digits}e-{places}"), st.integers(-(10**40), 10**40), st.integers(0, 50)
)
CONTENT: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "note": optional({"text": lines(300, breaks=True)}, {"title": lines(200)}),
    "condition": optional({"name": NAMES}, {"code": CODES, "since": PAST, "severity": SEVERITIES}),
    "allergy": optional(
        {"substance": NAMES}, {"code": CODES, "reaction": lines(200, breaks=True), "severity": SEVERITIES}
    ),
    "medication": optional(
        {"name": NAMES}, {"code": CODES, "dose": lines(200), "instructions": lines(200, breaks=True), "until": PAST}
    ),
    "observation": optional({"name": NAMES}, {"code": CODES}).flatmap(
        lambda content: st.one_of(
            st.builds(lambda value, unit: {**content, "value": value, "unit": unit}, NUMBERS, WORDS),
            lines(200, breaks=True).map(lambda text: {**content, "text": text}),
        )
    ),
    "immunization": optional({"vaccine": NAMES, "given_on": PAST}, {"code": CODES, "lot": lines(200)}),
}


@pytest.mark.parametrize("kind", CONTENT)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_a_kind_may_say_comes_back_letter_for_letter(
    ann: Client, path: str, kind: str, data: st.DataObject
) -> None:
    content = data.draw(CONTENT[kind])
    number = content.get("value")
    if number is not None:
        content["value"] = "digits"
    sent = json.dumps({"kind": kind, "content": content}).replace(
        '"digits"', f"{number:f}" if number is not None else ""
    )
    answer = ann.post(path, sent)
    record = answer.expect(201)
    for text in (answer.text, ann.get(f"{path}/{record['id']}").text, ann.get(f"{path}?limit=1").text):
        read = in_digits(text)
        assert read.get("items", [read])[0]["content"] == json.loads(sent, parse_float=str, parse_int=str)["content"]


def in_digits(text: str) -> Any:
    """With numbers as the text that they were written as; PostgreSQL has no negative zero."""
    return json.loads(text, parse_float=str, parse_int=str)


@pytest.mark.parametrize(
    "number", ["7.20", "7", "-0.50", "0.1234567890123456789012345678901", "98765432109876543210.01", "0.000"]
)
def test_a_number_keeps_its_digits(ann: Client, path: str, number: str) -> None:
    body = f'{{"kind": "observation", "content": {{"name": "Potassium", "value": {number}, "unit": "mmol/L"}}}}'
    answer = ann.post(path, body)
    record = answer.expect(201)
    assert in_digits(answer.text)["content"]["value"] == number
    assert in_digits(ann.get(f"{path}/{record['id']}").text)["content"]["value"] == number
    assert in_digits(ann.get(path).text)["items"][0]["content"]["value"] == number


@pytest.mark.parametrize(
    ("kind", "change", "pointer"),
    [
        ("note", {"text": ""}, "/content/text"),
        ("note", {"text": "x" * 20_001}, "/content/text"),
        ("note", {"text": "a\x00b"}, "/content/text"),
        ("note", {"title": "two\nlines"}, "/content/title"),
        ("note", {"name": "x"}, "/content/name"),
        ("condition", {"since": "2099-01-01"}, "/content/since"),
        ("condition", {"until": "2018-01-01"}, "/content"),
        ("condition", {"severity": "deadly"}, "/content/severity"),
        ("condition", {"code": {"system": "no uri", "code": "1"}}, "/content/code/system"),
        ("condition", {"code": {"system": "http://loinc.org"}}, "/content/code/code"),
        ("condition", {"code": {**CODE, "version": "1"}}, "/content/code/version"),
        ("medication", {"from": "2099-01-02"}, "/content"),
        ("medication", {"from": 20240101}, "/content/from"),
        ("medication", {"from_": "2024-01-01"}, "/content/from_"),
        ("observation", {"text": "positive"}, "/content"),
        ("observation", {"unit": None}, "/content"),
        ("observation", {"unit": "two words"}, "/content/unit"),
        ("observation", {"value": "13.5"}, "/content/value"),
        ("observation", {"value": True}, "/content/value"),
        ("observation", {"value": float("nan")}, "/content/value"),
        ("observation", {"value": float("inf")}, "/content/value"),
        ("immunization", {"given_on": None}, "/content/given_on"),
    ],
)
def test_what_a_kind_does_not_have_is_refused(
    ann: Client, path: str, kind: str, change: dict[str, Any], pointer: str
) -> None:
    problem = ann.post(path, {"kind": kind, "content": {**EXAMPLES[kind], **change}}).refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]
    assert ann.get(path).expect(200)["items"] == []


@pytest.mark.parametrize("number", ["1e400", "1e-400", "0." + "1" * 101, "1" * 4400])
def test_a_number_has_a_hundred_digits_at_most(ann: Client, path: str, number: str) -> None:
    body = f'{{"kind": "observation", "content": {{"name": "Potassium", "value": {number}, "unit": "mmol/L"}}}}'
    ann.post(path, body).refuse(422, "validation")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"kind": "diagnosis"}, "/kind"),
        ({"content": "text"}, "/content"),
        ({"author_id": 1}, "/author_id"),
        ({"occurred_at": "2024-03-01T12:00:00"}, "/occurred_at"),
        ({"occurred_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}, "/occurred_at"),
        ({"appointment_id": "1"}, "/appointment_id"),
    ],
)
def test_what_a_record_does_not_have_is_refused(ann: Client, path: str, change: dict[str, Any], pointer: str) -> None:
    problem = ann.post(path, {"kind": "note", "content": NOTE, **change}).refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]


# Append only ---------------------------------------------------------------------------------------------------------


def test_an_amendment_replaces_a_record_and_keeps_it(ann: Client, path: str) -> None:
    first = ann.create(path, kind="note", content=NOTE, occurred_at="2024-03-01T12:00:00Z")
    answer = ann.post(f"{path}/{first['id']}/amend", {"content": {"text": "Feels better."}})
    second = answer.expect(201)
    assert answer.headers["Location"] == f"/v1{path}/{second['id']}"
    assert (second["replaces_id"], second["kind"], second["occurred_at"]) == (first["id"], "note", first["occurred_at"])
    assert ann.get(path).expect(200)["items"] == [second]
    history = ann.get(f"{path}?history=true").expect(200)["items"]
    assert [(record["id"], record["status"]) for record in history] == [
        (second["id"], "final"),
        (first["id"], "amended"),
    ]
    assert history[1]["content"] == NOTE
    ann.post(f"{path}/{first['id']}/amend", {"content": NOTE}).refuse(409, "superseded")
    ann.post(f"{path}/{first['id']}/retract", {"reason": "Wrong"}).refuse(409, "superseded")


def test_an_amendment_has_the_content_of_its_kind(ann: Client, path: str) -> None:
    record = ann.create(path, kind="observation", content=EXAMPLES["observation"])
    problem = ann.post(f"{path}/{record['id']}/amend", {"content": NOTE}).refuse(422, "validation")
    assert {error["pointer"] for error in problem["errors"]} == {"/content/name"}
    ann.post(f"{path}/{record['id']}/amend", {"content": NOTE, "kind": "note"}).refuse(422, "validation")
    assert ann.get(path).expect(200)["items"] == [record]


def test_a_retraction_says_why_and_happens_once(ann: Client, path: str, database: Database) -> None:
    record = ann.create(path, kind="note", content=NOTE)
    retracted = ann.post(f"{path}/{record['id']}/retract", {"reason": "Wrong patient"}).expect(200)
    assert (retracted["status"], retracted["retract_reason"]) == ("retracted", "Wrong patient")
    assert retracted["content"] == NOTE
    assert ann.get(path).expect(200)["items"] == []
    assert ann.get(f"{path}?history=true").expect(200)["items"] == [retracted]
    ann.post(f"{path}/{record['id']}/retract", {"reason": "Again"}).refuse(409, "superseded")
    ann.post(f"{path}/{record['id']}/amend", {"content": NOTE}).refuse(409, "superseded")
    assert database.value("SELECT retracted_by FROM records") == ann.user["id"]


def test_of_many_amendments_and_retractions_at_once_one_succeeds(
    ann: Client, path: str, database: Database, environments: dict[str, Environment]
) -> None:
    """Each in an environment of its own, all waiting for the same row."""
    record = ann.create(path, kind="note", content=NOTE)
    ways = [
        lambda number: (f"{path}/{record['id']}/amend", {"content": {"text": f"No. {number}"}}),
        lambda number: (f"{path}/{record['id']}/retract", {"reason": f"No. {number}"}),
    ]
    twins = [
        Client(Gateway(environments | {"records": Environment(Path("functions/records"))}), ann.token, ann.user)
        for _ in range(8)
    ]
    with ThreadPoolExecutor(len(twins)) as pool:
        answers = list(pool.map(lambda pair: pair[1].post(*ways[pair[0] % 2](pair[0])), enumerate(twins)))
    for twin in twins:
        twin.gateway.environments["records"].disconnect()
    assert sorted(answer.status for answer in answers)[1:] == [409] * 7
    standing = ann.get(path).expect(200)["items"]
    history = ann.get(f"{path}?history=true").expect(200)["items"]
    by_status = sorted(record["status"] for record in history)
    assert by_status in (["amended", "final"], ["retracted"])
    assert len(standing) == (1 if by_status == ["amended", "final"] else 0)


def test_a_retried_record_exists_once(ann: Client, path: str) -> None:
    body = '{"kind": "observation", "content": {"name": "Potassium", "value": 4.20, "unit": "mmol/L"}}'
    first, again = (ann.post(path, body, headers={"Idempotency-Key": "a"}) for _ in range(2))
    assert first.expect(201) == again.expect(201)
    assert in_digits(again.text)["content"]["value"] == "4.20"
    assert len(ann.get(path).expect(200)["items"]) == 1
    other = body.replace("4.20", "4.2")
    ann.post(path, other, headers={"Idempotency-Key": "a"}).refuse(422, "idempotency-key-reused")


# Lists ---------------------------------------------------------------------------------------------------------------


def test_a_list_is_newest_first_by_kind_and_in_pages(ann: Client, path: str) -> None:
    made = [ann.create(path, kind=kind, content=EXAMPLES[kind])["id"] for kind in [*EXAMPLES, *EXAMPLES]]
    assert [record["id"] for record in ann.walk(f"{path}?limit=5")] == made[::-1]
    assert [record["id"] for record in ann.walk(f"{path}?limit=1&kind=allergy")] == [made[8], made[2]]
    ann.get(f"{path}?kind=diagnosis").refuse(422, "validation")
    ann.get(f"{path}?history=perhaps").refuse(422, "validation")


def test_a_page_reads_as_many_rows_of_100000_as_of_10(
    ann: Client, path: str, database: Database, subtests: pytest.Subtests
) -> None:
    """Of one kind among many, of what stands among what was amended, and beside another patient's newer records."""
    few, many = path, f"/api/patients/{ann.create('/api/patients', name='Yan')['id']}/records"
    with database.connect() as connection:
        connection.execute("ALTER TABLE records DISABLE TRIGGER USER")
        for patient, number in ((few, 10), (many, 100_000), (few, 10)):
            connection.execute(
                """
                INSERT INTO records (owner_id, patient_id, kind, content, author_id, author_name, status)
                SELECT %s, %s, CASE number %% 50 WHEN 0 THEN 'allergy' ELSE 'note' END, '{"text": "x"}', 1, 'x',
                       CASE WHEN number %% 100 = 50 THEN 'final' ELSE 'amended' END
                  FROM generate_series(1, %s) AS number
                """,
                [ann.user["id"], int(patient.split("/")[3]), number],
            )
        connection.execute("VACUUM ANALYZE records")
    for query in ("", "?history=true", "?kind=allergy", "?kind=allergy&history=true"):
        with subtests.test(query=query):
            assert rows_read(ann, database, f"{many}{query}") <= 80


def rows_read(ann: Client, database: Database, url: str) -> int:
    """Entries of indexes and rows of `records` that a request reads: the page's, and once more what they say."""
    counted = """
        SELECT pg_stat_get_tuples_returned('records'::regclass)
               + (SELECT sum(pg_stat_get_tuples_returned(indexrelid))
                    FROM pg_index
                   WHERE indrelid = 'records'::regclass)
        """
    ann.gateway.environments["records"].disconnect()  # a connection that ends reports what it has counted
    before = _settled(database, counted)
    ann.get(url).expect(200)
    ann.gateway.environments["records"].disconnect()
    return _settled(database, counted) - before


def _settled(database: Database, statement: str) -> int:
    value = -1
    while value != (now := int(str(database.value(statement)))):
        value = now
        time.sleep(0.3)
    return value


# Who may read and write ----------------------------------------------------------------------------------------------


def test_another_account_finds_nothing(ann: Client, bob: Client, path: str) -> None:
    record = ann.create(path, kind="note", content=NOTE)
    one = f"{path}/{record['id']}"
    own = bob.create("/api/patients", name="Bob's own")["id"]
    for answer in (
        bob.get(path),
        bob.post(path, {"kind": "note", "content": NOTE}),
        bob.get(one),
        bob.post(f"{one}/amend", {"content": NOTE}),
        bob.post(f"{one}/retract", {"reason": "x"}),
        bob.get(path.replace("/records", "/disclosures")),
        bob.get(f"/api/patients/{own}/records/{record['id']}"),
        bob.post(f"/api/patients/{own}/records/{record['id']}/amend", {"content": NOTE}),
        bob.get(f"/api/practice/patients/{path.split('/')[3]}/records"),
        bob.get(one.replace("/api/", "/api/practice/")),
    ):
        answer.refuse(404, "not-found")
    assert ann.get(path).expect(200)["items"] == [record]
    assert disclosures(ann, path) == []


def test_a_delegate_reads_and_writes_as_the_owners_side_and_each_reading_is_written_down(
    ann: Client, bob: Client, path: str
) -> None:
    for_ann = delegate(ann, bob)
    record = ann.create(path, kind="note", content=NOTE)
    assert ann.get(path).expect(200)["items"] == [record]
    assert disclosures(ann, path) == []  # the owner's own reading is nobody's business
    written = bob.post(path, {"kind": "note", "content": NOTE}, headers=for_ann).expect(201)
    assert (written["author_id"], written["author_name"], written["by_doctor_id"]) == (bob.user["id"], "Bob", None)
    assert disclosures(ann, path) == []  # and who writes knows what
    bob.get(f"{path}/{record['id']}", headers=for_ann).expect(200)
    assert disclosures(ann, path) == [(bob.user["id"], "record", record["id"])]
    bob.get(path, headers=for_ann).expect(200)
    assert sorted(disclosures(ann, path)[:2]) == [
        (bob.user["id"], "record", record["id"]),
        (bob.user["id"], "record", written["id"]),
    ]
    bob.post(f"{path}/{record['id']}/amend", {"content": NOTE}, headers=for_ann).expect(201)


def test_a_delegate_who_may_only_read_leaves_a_disclosure_and_nothing_else(ann: Client, bob: Client, path: str) -> None:
    for_ann = delegate(ann, bob, "read")
    record = ann.create(path, kind="note", content=NOTE)
    one = f"{path}/{record['id']}"
    assert bob.get(one, headers=for_ann).expect(200) == record
    assert disclosures(ann, path) == [(bob.user["id"], "record", record["id"])]
    for answer in (
        bob.post(path, {"kind": "note", "content": NOTE}, headers=for_ann),
        bob.post(f"{one}/amend", {"content": NOTE}, headers=for_ann),
        bob.post(f"{one}/retract", {"reason": "x"}, headers=for_ann),
    ):
        answer.refuse(403, "read-only")
    assert ann.get(path).expect(200)["items"] == [record]


def test_a_page_discloses_what_it_shows_and_no_more(ann: Client, bob: Client, path: str) -> None:
    for_ann = delegate(ann, bob)
    made = [ann.create(path, kind="note", content=NOTE)["id"] for _ in range(5)]
    bob.get(f"{path}?limit=2", headers=for_ann).expect(200)
    assert sorted(resource_id for _, _, resource_id in disclosures(ann, path)) == made[3:]
    bob.get(f"{path}/{made[-1] + 1000}", headers=for_ann).refuse(404, "not-found")
    bob.get(f"{path}?kind=allergy", headers=for_ann).expect(200)
    assert len(disclosures(ann, path)) == 2


def test_a_doctor_reads_and_writes_what_is_opened_and_changes_only_its_own(
    ann: Client, bob: Client, path: str, sign_up: Callable[..., Client]
) -> None:
    doctor = link(ann, bob)
    patient_id = int(path.split("/")[3])
    of_doctor = path.replace("/api/", "/api/practice/")
    bob.get(of_doctor).refuse(404, "not-found")
    mapping = open_patient(ann, patient_id, doctor["id"], "read")
    record = ann.create(path, kind="note", content=NOTE)
    assert bob.get(of_doctor).expect(200)["items"] == [record]
    refused = bob.post(of_doctor, {"kind": "note", "content": NOTE}).refuse(403, "read-only")
    assert "opened to you" in refused["detail"]
    bob.post(f"{of_doctor}/{record['id']}/amend", {"content": NOTE}).refuse(403, "read-only")
    bob.post(f"{of_doctor}/{record['id']}/retract", {"reason": "x"}).refuse(403, "read-only")
    ann.patch(f"/api/mappings/{mapping['id']}", {"access": "write"}).expect(200)
    answer = bob.post(of_doctor, {"kind": "observation", "content": EXAMPLES["observation"]})
    written = answer.expect(201)
    assert answer.headers["Location"] == f"/v1{of_doctor}/{written['id']}"
    assert (written["author_id"], written["by_doctor_id"]) == (bob.user["id"], doctor["id"])
    bob.post(f"{of_doctor}/{record['id']}/amend", {"content": NOTE}).refuse(403, "forbidden")
    bob.post(f"{of_doctor}/{record['id']}/retract", {"reason": "x"}).refuse(403, "forbidden")
    amended = bob.post(f"{of_doctor}/{written['id']}/amend", {"content": EXAMPLES["observation"]}).expect(201)
    ann.post(f"{path}/{amended['id']}/retract", {"reason": "The owner's side may"}).expect(200)
    found = ann.get(path.replace("/records", "/disclosures")).expect(200)["items"]
    assert {row["by_doctor_id"] for row in found} == {doctor["id"]}
    assert {row["actor_name"] for row in found} == {"Bob"}
    ann.patch(f"/api/mappings/{mapping['id']}", {"access": "none"}).expect(200)
    bob.get(f"{of_doctor}/{record['id']}").refuse(404, "not-found")
    bob.post(of_doctor, {"kind": "note", "content": NOTE}).refuse(404, "not-found")


def test_the_reception_of_a_doctor_reaches_no_patient(
    ann: Client, bob: Client, path: str, sign_up: Callable[..., Client], database: Database
) -> None:
    doctor = link(ann, bob)
    open_patient(ann, int(path.split("/")[3]), doctor["id"])
    record = ann.create(path, kind="note", content=NOTE)
    reception = sign_up("Rita")
    for_bob = delegate(bob, reception)
    of_doctor = path.replace("/api/", "/api/practice/")
    reception.get(of_doctor, headers=for_bob).refuse(422, "validation")
    with database.connect("healthcare_doctor") as connection:
        connection.execute("BEGIN")
        connection.execute("SELECT act_for(%s, %s, 'disclose', '')", [reception.user["id"], bob.user["id"]])
        assert connection.execute("SELECT id FROM records").fetchall() == []
        seen = connection.execute(
            "SELECT id FROM read_records(%s, ARRAY[%s]::bigint[])", [record["patient_id"], record["id"]]
        )
        assert seen.fetchall() == []


def test_a_patient_with_records_stays(ann: Client, path: str) -> None:
    patient = path.removesuffix("/records")
    record = ann.create(path, kind="note", content=NOTE)
    ann.delete(patient).refuse(409, "has-history")
    ann.post(f"{path}/{record['id']}/retract", {"reason": "Wrong patient"}).expect(200)
    ann.delete(patient).refuse(409, "has-history")
    empty = ann.create("/api/patients", name="Yan")["id"]
    ann.delete(f"/api/patients/{empty}").expect(204)


def test_an_appointment_of_another_patient_is_unknown(ann: Client, path: str) -> None:
    body = {"kind": "note", "content": NOTE, "appointment_id": 1}
    assert "appointment" in ann.post(path, body).refuse(404, "not-found")["detail"]


# What the database holds against -------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["healthcare_api", "healthcare_doctor"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE records SET content = '{}'",
        "UPDATE records SET status = 'final'",
        "UPDATE records SET author_id = 1",
        "UPDATE records SET retracted_at = now()",
        "UPDATE records SET occurred_at = now()",
        "DELETE FROM records",
        "TRUNCATE records",
        "SELECT content FROM records",
        "SELECT retract_reason FROM records",
        "INSERT INTO records (owner_id, patient_id, kind, content, author_id) VALUES (1, 1, 'note', '{}', 1)",
        "INSERT INTO records (owner_id, patient_id, kind, content, status) VALUES (1, 1, 'note', '{}', 'retracted')",
        "UPDATE disclosures SET actor_id = 1",
        "DELETE FROM disclosures",
        "INSERT INTO disclosures (patient_id, actor_id) VALUES (1, 1)",
        "SELECT disclose(1, 'record', ARRAY[1])",
        "SELECT erase_patient(1)",
        "SELECT name FROM documents",
        "SELECT object_version FROM documents",
        "UPDATE documents SET sha256 = repeat('0', 64)",
        "UPDATE documents SET object_key = gen_random_uuid()",
    ],
)
def test_no_role_of_the_api_may(ann: Client, path: str, database: Database, role: str, statement: str) -> None:
    ann.create(path, kind="note", content=NOTE)
    with database.connect(role) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute(f"SELECT act_as({ann.user['id']}, 'user', '');\n{statement}")


@pytest.mark.parametrize("role", ["healthcare_api", "healthcare_doctor"])
def test_a_statement_reaches_no_record_of_another(
    ann: Client, bob: Client, path: str, database: Database, role: str
) -> None:
    record = ann.create(path, kind="note", content=NOTE)
    with database.connect(role) as connection, connection.transaction():
        connection.execute("SELECT act_as(%s, 'user', '')", [bob.user["id"]])
        assert connection.execute("SELECT id FROM records").fetchall() == []
        assert connection.execute("UPDATE records SET retract_reason = 'x'").rowcount == 0
        ids = [record["patient_id"], record["id"]]
        assert connection.execute("SELECT * FROM read_records(%s, ARRAY[%s]::bigint[])", ids).fetchall() == []
        with pytest.raises(psycopg.errors.Error), connection.transaction():
            connection.execute(
                "INSERT INTO records (owner_id, patient_id, kind, content) VALUES (%s, %s, 'note', '{}')",
                [ann.user["id"], record["patient_id"]],
            )
    assert database.value("SELECT count(*) FROM disclosures") == 0
    assert ann.get(path).expect(200)["items"] == [record]


# Nothing leaks, and what may be erased -------------------------------------------------------------------------------


def test_what_a_record_says_is_in_no_log_no_audit_and_no_error(
    ann: Client, bob: Client, path: str, log_lines: LogLines, database: Database
) -> None:
    secret = "Zqxjkvb"
    record = ann.create(path, kind="condition", content={"name": secret, "severity": "mild"})
    ann.post(f"{path}/{record['id']}/amend", {"content": {"name": secret, "severity": secret}}).expect(422)
    ann.post(f"{path}/{record['id']}/retract", {"reason": secret}).expect(200)
    refused = ann.post(f"{path}/{record['id']}/retract", {"reason": secret}).refuse(409, "superseded")
    assert secret not in json.dumps(refused)
    ann.get(f"{path}?history=true").expect(200)
    assert secret not in json.dumps(log_lines())
    assert secret not in json.dumps(ann.get("/api/audit?limit=100").expect(200))
    events = [(event["action"], event["resource"]) for event in ann.get("/api/audit").expect(200)["items"]]
    assert events[:2] == [("update", "record"), ("create", "record")]
    assert database.value("SELECT count(*) FROM audit_events WHERE changes::text LIKE %s", f"%{secret}%") == 0


@pytest.mark.parametrize("number", ["1E1000000000000000000", "-1e-1000000000000000000"])
def test_an_exponent_that_no_number_has_is_refused(ann: Client, number: str) -> None:
    patient = ann.create("/api/patients", name="Zoë")["id"]
    body = '{"kind": "observation", "content": {"code": {"text": "x"}, "unit": "kg", "value": N}}'.replace("N", number)
    ann.post(f"/api/patients/{patient}/records", body).refuse(422, "validation")
