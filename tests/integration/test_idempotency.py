import pytest

from tests.conftest import Database
from tests.gateway import Client

KEY = {"Idempotency-Key": "8e03978e-40d5-43e8-bc93-6894a57f9324"}


def test_a_retry_gets_the_first_answer_and_makes_no_second_row(ann: Client) -> None:
    first = ann.post("/api/patients", {"name": "Zoë", "gender": "female"}, headers=KEY)
    first.expect(201)
    second = ann.post("/api/patients", {"gender": "female", "name": " Zoë "}, headers=KEY)
    assert (second.status, second.json) == (first.status, first.json)
    for header in ("Location", "ETag", "Content-Type"):
        assert second.headers[header] == first.headers[header]
    assert second.headers["X-Request-Id"] != first.headers["X-Request-Id"]
    assert len(ann.get("/api/patients").json["items"]) == 1


def test_the_first_answer_is_given_even_after_the_row_has_changed(ann: Client) -> None:
    first = ann.post("/api/patients", {"name": "Zoë"}, headers=KEY).expect(201)
    ann.patch(f"/api/patients/{first['id']}", {"name": "Changed"}).expect(200)
    assert ann.post("/api/patients", {"name": "Zoë"}, headers=KEY).expect(201) == first
    ann.delete(f"/api/patients/{first['id']}").expect(204)
    assert ann.post("/api/patients", {"name": "Zoë"}, headers=KEY).expect(201) == first


def test_doctors_and_mappings_take_a_key_too(ann: Client) -> None:
    doctors = [ann.post("/api/doctors", {"name": "Who", "specialty": "T"}, headers=KEY).expect(201) for _ in range(2)]
    assert doctors[0] == doctors[1]
    patient = ann.create("/api/patients", name="Zoë")
    body = {"patient_id": patient["id"], "doctor_id": doctors[0]["id"]}
    key = {"Idempotency-Key": "another"}
    assert ann.post("/api/mappings", body, headers=key).expect(201) == ann.post("/api/mappings", body, headers=key).json
    ann.post("/api/mappings", body).refuse(409, "already-assigned")


def test_a_key_belongs_to_one_request(ann: Client) -> None:
    ann.post("/api/patients", {"name": "Zoë"}, headers=KEY).expect(201)
    ann.post("/api/patients", {"name": "Yan"}, headers=KEY).refuse(422, "idempotency-key-reused")
    ann.post("/api/doctors", {"name": "Zoë", "specialty": "T"}, headers=KEY).refuse(422, "idempotency-key-reused")
    assert [patient["name"] for patient in ann.get("/api/patients").json["items"]] == ["Zoë"]
    assert ann.get("/api/doctors").json["items"] == []


def test_a_key_belongs_to_one_user(ann: Client, bob: Client) -> None:
    ann.post("/api/patients", {"name": "Zoë"}, headers=KEY).expect(201)
    bob.post("/api/patients", {"name": "Yan"}, headers=KEY).expect(201)
    assert [patient["name"] for patient in bob.get("/api/patients").json["items"]] == ["Yan"]


def test_a_failed_creation_leaves_its_key_free(ann: Client) -> None:
    body = {"patient_id": 1, "doctor_id": 1}
    ann.post("/api/mappings", body, headers=KEY).refuse(404, "not-found")
    ann.post("/api/patients", {"name": ""}, headers=KEY).refuse(422, "validation")
    ann.post("/api/patients", {"name": "Zoë"}, headers=KEY).expect(201)


def test_a_key_is_forgotten_after_a_day(ann: Client, database: Database) -> None:
    ann.post("/api/patients", {"name": "Zoë"}, headers=KEY).expect(201)
    with database.connect() as connection:
        connection.execute("UPDATE idempotency_keys SET created_at = now() - interval '23 hours 59 minutes'")
    ann.post("/api/patients", {"name": "Yan"}, headers=KEY).refuse(422, "idempotency-key-reused")
    with database.connect() as connection:
        connection.execute("UPDATE idempotency_keys SET created_at = now() - interval '24 hours 1 minute'")
    ann.post("/api/patients", {"name": "Yan"}, headers=KEY).expect(201)
    assert database.value("SELECT count(*) FROM idempotency_keys") == 1


def test_anybodys_use_of_a_key_sweeps_out_everybodys_old_answers(ann: Client, bob: Client, database: Database) -> None:
    ann.post("/api/patients", {"name": "Zoë"}, headers=KEY).expect(201)
    with database.connect() as connection:
        connection.execute("UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")
    bob.post("/api/patients", {"name": "Yan"}, headers=KEY).expect(201)
    assert database.value("SELECT array_agg(user_id) FROM idempotency_keys") == [bob.user["id"]]


@pytest.mark.parametrize("key", ["", " ", "a b", "é", "x" * 256, "tab\t"])
def test_a_key_is_visible_ascii(ann: Client, key: str) -> None:
    problem = ann.post("/api/patients", {"name": "Zoë"}, headers={"Idempotency-Key": key}).refuse(422, "validation")
    assert problem["errors"][0]["pointer"] == "header/idempotency-key"
    assert ann.get("/api/patients").json["items"] == []


def test_the_longest_key_is_fine(ann: Client) -> None:
    ann.post("/api/patients", {"name": "Zoë"}, headers={"idempotency-key": "~" * 255}).expect(201)
