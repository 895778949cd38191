from datetime import UTC, datetime, timedelta
from unicodedata import normalize
from urllib.parse import quote

import pytest

from tests.gateway import Client

FULL = {
    "name": "Zoë O'Brien-Smith",
    "date_of_birth": "1990-02-03",
    "gender": "female",
    "phone": "+44 20 7946 0000",
    "email": "zoe@example.org",
    "address": "1 High Street\nLondon",
}
EMPTY = {"date_of_birth": None, "gender": None, "phone": None, "email": None, "address": None}


def test_a_patient_is_created_with_everything_that_was_sent(ann: Client) -> None:
    answer = ann.post("/api/patients", FULL)
    patient = answer.expect(201)
    assert patient == FULL | {k: patient[k] for k in ("id", "created_at", "updated_at")}
    assert answer.headers["Location"] == f"/v1/api/patients/{patient['id']}"
    assert answer.headers["ETag"] == '"1"'
    assert abs(datetime.fromisoformat(patient["created_at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert patient["created_at"].endswith("Z")
    assert ann.get(f"/api/patients/{patient['id']}").expect(200) == patient


def test_text_is_trimmed(ann: Client) -> None:
    assert ann.create("/api/patients", name="  Zoë \n")["name"] == "Zoë"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "   "),
        ("name", None),
        ("name", 5),
        ("name", "x" * 201),
        ("name", "a\x00b"),
        ("date_of_birth", "1990-02-30"),
        ("date_of_birth", "1990-2-3"),
        ("date_of_birth", "03/02/1990"),
        ("date_of_birth", "1990-02-03T00:00:00Z"),
        ("date_of_birth", 631152000),
        ("date_of_birth", "1066-10-14"),
        ("date_of_birth", "2999-12-31"),
        ("gender", "F"),
        ("gender", ["female"]),
        ("phone", "call me"),
        ("phone", "1" * 33),
        ("email", "zoe"),
        ("email", "zoe@localhost"),
        ("email", "zoe@a@example.org"),
        ("email", f"{'z' * 250}@example.org"),
        ("address", ""),
        ("address", "x" * 501),
        ("owner_id", 1),
        ("id", 1),
        ("created_at", "2020-01-01T00:00:00Z"),
        ("nmae", "typo"),
        ("a/b~c", "escaped"),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_created(ann: Client, field: str, value: object) -> None:
    problem = ann.post("/api/patients", FULL | {field: value}).refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == ["/" + field.replace("~", "~0").replace("/", "~1")]
    assert ann.get("/api/patients").expect(200)["items"] == []


def test_what_is_wrong_is_said_in_words(ann: Client) -> None:
    body = {"name": "a\x00b", "phone": "call me", "email": "zoe", "gender": "F", "date_of_birth": "1990", "nmae": ""}
    problem = ann.post("/api/patients", body).refuse(422, "validation")
    assert {error["pointer"]: error["detail"] for error in problem["errors"]} == {
        "/name": "Text should not contain control characters, changes of the writing direction or U+FFFD",
        "/phone": "Input should be a phone number: digits, spaces and ( ) + - . / # x",
        "/email": "Input should be an e-mail address",
        "/gender": "Input should be 'male', 'female', 'other' or 'unknown'",
        "/date_of_birth": "Input should be a date as YYYY-MM-DD",
        "/nmae": "Unknown field",
    }


def test_everything_wrong_is_said_at_once(ann: Client) -> None:
    problem = ann.patch("/api/patients/x", {"name": "", "nmae": 1}, headers={"If-Match": "1"}).refuse(422, "validation")
    assert {error["pointer"] for error in problem["errors"]} == {"path/id", "header/if-match", "/name", "/nmae"}


def test_lengths_count_code_points(ann: Client) -> None:
    assert ann.create("/api/patients", name="Zoë " + "👩🏽‍⚕️" * 39)["name"] == "Zoë " + "👩🏽‍⚕️" * 39


def test_a_patient_born_today_is_welcome(ann: Client) -> None:
    today = datetime.now(UTC).date().isoformat()
    assert ann.create("/api/patients", name="Newborn", date_of_birth=today)["date_of_birth"] == today


def test_put_replaces_the_whole_patient(ann: Client) -> None:
    patient = ann.create("/api/patients", **FULL)
    replaced = ann.put(f"/api/patients/{patient['id']}", {"name": "Zoë", "gender": "unknown"}).expect(200)
    assert replaced == patient | EMPTY | {"name": "Zoë", "gender": "unknown", "updated_at": replaced["updated_at"]}
    assert replaced["updated_at"] > patient["updated_at"]
    assert ann.get(f"/api/patients/{patient['id']}").json == replaced


def test_put_without_a_required_field_is_refused(ann: Client) -> None:
    patient = ann.create("/api/patients", **FULL)
    problem = ann.put(f"/api/patients/{patient['id']}", {"gender": "female"}).refuse(422, "validation")
    assert problem["errors"] == [{"pointer": "/name", "detail": "Field required"}]


def test_patch_changes_what_is_there_and_null_clears(ann: Client) -> None:
    patient = ann.create("/api/patients", **FULL)
    changed = ann.patch(f"/api/patients/{patient['id']}", {"phone": None, "gender": "other"}).expect(200)
    assert changed == patient | {"phone": None, "gender": "other", "updated_at": changed["updated_at"]}


def test_a_required_field_cannot_be_cleared(ann: Client) -> None:
    patient = ann.create("/api/patients", **FULL)
    ann.patch(f"/api/patients/{patient['id']}", {"name": None}).refuse(422, "validation")


@pytest.mark.parametrize("change", [{}, {"name": FULL["name"]}])
def test_a_change_of_nothing_keeps_the_version(ann: Client, change: dict[str, str]) -> None:
    patient = ann.create("/api/patients", **FULL)
    answer = ann.patch(f"/api/patients/{patient['id']}", change)
    assert answer.expect(200) == patient
    assert answer.headers["ETag"] == '"1"'


def test_a_merge_patch_may_say_what_it_is(ann: Client) -> None:
    patient = ann.create("/api/patients", **FULL)
    headers = {"Content-Type": "application/merge-patch+json"}
    ann.patch(f"/api/patients/{patient['id']}", {"name": "Zoë"}, headers=headers).expect(200)
    ann.put(f"/api/patients/{patient['id']}", {"name": "Zoë"}, headers=headers).refuse(415, "unsupported-media-type")


def test_a_deleted_patient_is_gone_with_its_mappings(ann: Client) -> None:
    patient = ann.create("/api/patients", **FULL)
    doctor = ann.create("/api/doctors", name="Dr Who", specialty="Time")
    ann.create("/api/mappings", patient_id=patient["id"], doctor_id=doctor["id"])
    answer = ann.delete(f"/api/patients/{patient['id']}")
    assert (answer.status, answer.text) == (204, "")
    ann.get(f"/api/patients/{patient['id']}").refuse(404, "not-found")
    ann.delete(f"/api/patients/{patient['id']}").refuse(404, "not-found")
    assert ann.get("/api/mappings").json["items"] == []


@pytest.mark.parametrize(
    "id", ["0", "-1", "+1", "1.0", "1e3", "01", "abc", "9223372036854775808", "1%20", "%D9%A3", "%00"]
)
def test_what_is_no_id_is_refused_and_what_is_unknown_is_not_found(ann: Client, id: str) -> None:
    problem = ann.get(f"/api/patients/{id}").refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == ["path/id"]
    ann.get("/api/patients/9223372036854775807").refuse(404, "not-found")


def test_search_matches_each_word_from_its_start_in_any_case(ann: Client) -> None:
    for name in ("Zoë O'Brien-Smith", "Bob Smithers", "SMITH JOHN", "Åsa Öberg", "100% Proof_x"):
        ann.create("/api/patients", name=name)

    def found(q: str) -> list[str]:
        return [patient["name"] for patient in ann.get(f"/api/patients?q={q}").expect(200)["items"]]

    assert found("smith") == ["Zoë O'Brien-Smith", "SMITH JOHN", "Bob Smithers"]
    assert found("ithers") == []
    assert found("JOHN%20sm") == ["SMITH JOHN"]
    assert found("o'bri") == ["Zoë O'Brien-Smith"]
    assert found("bob%20zoe") == []
    assert found("öb%20å") == ["Åsa Öberg"]
    assert found("100%25") == ["100% Proof_x"]
    assert found("%25") == found("") == found("%20") == []


def test_a_search_has_few_words(ann: Client) -> None:
    ann.get("/api/patients?q=a%20b%20c%20d%20e%20f%20g%20h").expect(200)
    for query in ("a%20b%20c%20d%20e%20f%20g%20h%20i", "a_b_c_d_e_f_g_h_i"):
        problem = ann.get(f"/api/patients?q={query}").refuse(422, "validation")
        assert problem["errors"] == [{"pointer": "query/q", "detail": "Text should have at most 8 words"}]


def test_search_finds_a_name_however_its_accents_are_encoded(ann: Client) -> None:
    ann.create("/api/patients", name=normalize("NFD", "Émile Österreich"))
    assert len(ann.get(f"/api/patients?q={quote(normalize('NFC', 'émile ö'))}").json["items"]) == 1


def test_search_follows_a_new_name(ann: Client) -> None:
    patient = ann.create("/api/patients", name="Zoë Smith")
    ann.patch(f"/api/patients/{patient['id']}", {"name": "Zoë Jones"}).expect(200)
    assert ann.get("/api/patients?q=smith").json["items"] == []
    assert [found["id"] for found in ann.get("/api/patients?q=jones").json["items"]] == [patient["id"]]
