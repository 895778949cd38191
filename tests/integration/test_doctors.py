from collections.abc import Callable

import pytest

from tests.gateway import Client

WHO = {"name": "Dr. Who", "specialty": "Time travel", "phone": "+44 20 7946 0000", "email": "who@example.org"}


def test_a_doctor_is_in_everybodys_directory(ann: Client, bob: Client) -> None:
    answer = ann.post("/api/doctors", WHO)
    doctor = answer.expect(201)
    read_only = {"created_by": ann.user["id"], "has_account": False, "verified": False}
    assert doctor == WHO | read_only | {k: doctor[k] for k in ("id", "created_at", "updated_at")}
    assert answer.headers["Location"] == f"/v1/api/doctors/{doctor['id']}"
    assert bob.get(f"/api/doctors/{doctor['id']}").expect(200) == doctor
    assert bob.get("/api/doctors").expect(200) == {"items": [doctor], "next_cursor": None}


@pytest.mark.parametrize(
    ("field", "value"),
    [("name", ""), ("name", None), ("specialty", None), ("specialty", "x" * 101), ("email", "who"), ("created_by", 1)],
)
def test_a_bad_field_is_named(ann: Client, field: str, value: object) -> None:
    problem = ann.post("/api/doctors", WHO | {field: value}).refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == [f"/{field}"]


def test_the_directory_is_searched_by_words_and_specialty(ann: Client, bob: Client) -> None:
    ann.create("/api/doctors", name="Åsa Öberg", specialty="Cardiology")
    bob.create("/api/doctors", name="John Smith", specialty="CARDIOLOGY")
    ann.create("/api/doctors", name="John Jones", specialty="Cardiology and more")

    def found(query: str) -> list[str]:
        return [doctor["name"] for doctor in bob.get(f"/api/doctors?{query}").expect(200)["items"]]

    assert found("specialty=cardiology") == ["Åsa Öberg", "John Smith"]
    assert found("q=jo") == ["John Smith", "John Jones"]
    assert found("q=sm%20john&specialty=Cardiology") == ["John Smith"]
    assert found("q=öb") == ["Åsa Öberg"]
    assert found("specialty=") == ["Åsa Öberg", "John Smith", "John Jones"]


def test_a_walk_of_a_filtered_search_meets_every_match(ann: Client) -> None:
    for number in range(12):
        specialty = "Cardiology" if number % 3 == 2 else "Surgery"
        ann.create("/api/doctors", name=f"Jo {number}", specialty=specialty)
    for limit in (1, 2, 3):
        found = ann.walk(f"/api/doctors?q=jo&specialty=cardiology&limit={limit}")
        assert [doctor["name"] for doctor in found] == ["Jo 2", "Jo 5", "Jo 8", "Jo 11"]


def test_only_its_creator_or_an_admin_changes_a_doctor(sign_up: Callable[..., Client]) -> None:
    ann, bob, eve = sign_up("Ann"), sign_up("Bob"), sign_up("Eve", admin=True)
    doctor = ann.create("/api/doctors", **WHO)
    url = f"/api/doctors/{doctor['id']}"
    for refused in (
        bob.put(url, WHO | {"name": "Mine"}),
        bob.patch(url, {"name": "Mine"}),
        bob.patch(url, {"name": "Mine"}, headers={"If-Match": '"7"'}),
        bob.delete(url),
    ):
        refused.refuse(403, "forbidden")
    assert ann.get(url).json == doctor
    assert ann.patch(url, {"phone": None}).expect(200)["phone"] is None
    assert eve.put(url, {"name": "Whom", "specialty": "Time"}).expect(200)["created_by"] == ann.user["id"]
    assert [found["name"] for found in bob.get("/api/doctors?q=whom").json["items"]] == ["Whom"]
    eve.delete(url).expect(204)
    ann.get(url).refuse(404, "not-found")


def test_deleting_a_doctor_takes_ones_own_mappings_along(ann: Client) -> None:
    doctor = ann.create("/api/doctors", **WHO)
    patient = ann.create("/api/patients", name="Zoë")
    ann.create("/api/mappings", patient_id=patient["id"], doctor_id=doctor["id"])
    ann.delete(f"/api/doctors/{doctor['id']}").expect(204)
    assert ann.get("/api/mappings").json["items"] == []
    assert ann.get(f"/api/patients/{patient['id']}/doctors").expect(200)["items"] == []


def test_a_doctor_of_another_users_patient_stays_unless_an_admin_deletes_it(sign_up: Callable[..., Client]) -> None:
    ann, bob, eve = sign_up("Ann"), sign_up("Bob"), sign_up("Eve", admin=True)
    doctor = ann.create("/api/doctors", **WHO)
    mine = ann.create("/api/patients", name="Ann's")
    theirs = bob.create("/api/patients", name="Bob's")
    ann.create("/api/mappings", patient_id=mine["id"], doctor_id=doctor["id"])
    bob.create("/api/mappings", patient_id=theirs["id"], doctor_id=doctor["id"])
    ann.delete(f"/api/doctors/{doctor['id']}").refuse(409, "doctor-in-use")
    assert len(ann.get("/api/mappings").json["items"]) == len(bob.get("/api/mappings").json["items"]) == 1
    eve.delete(f"/api/doctors/{doctor['id']}", headers={"If-Match": '"7"'}).refuse(412, "stale")
    assert len(bob.get("/api/mappings").json["items"]) == 1
    eve.delete(f"/api/doctors/{doctor['id']}").expect(204)
    assert ann.get("/api/mappings").json["items"] == bob.get("/api/mappings").json["items"] == []
