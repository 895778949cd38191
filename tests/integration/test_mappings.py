import pytest

from tests.gateway import Client


@pytest.fixture
def patient(ann: Client) -> int:
    return int(ann.create("/api/patients", name="Zoë")["id"])


@pytest.fixture
def doctor(bob: Client) -> int:
    return int(bob.create("/api/doctors", name="Dr. Who", specialty="Time")["id"])


def test_a_doctor_is_assigned_to_a_patient(ann: Client, patient: int, doctor: int) -> None:
    answer = ann.post("/api/mappings", {"patient_id": patient, "doctor_id": doctor})
    mapping = answer.expect(201)
    assert mapping.keys() == {"id", "patient_id", "doctor_id", "access", "created_at", "updated_at"}
    assert (mapping["patient_id"], mapping["doctor_id"]) == (patient, doctor)
    assert answer.headers["Location"] == f"/v1/api/mappings/{mapping['id']}"
    names = {"patient_name": "Zoë", "doctor_name": "Dr. Who", "specialty": "Time"}
    assert ann.get("/api/mappings").expect(200)["items"] == [mapping | names]
    for url in (f"/api/mappings/{patient}", f"/api/patients/{patient}/doctors"):
        assert [item["id"] for item in ann.get(url).expect(200)["items"]] == [doctor]


def test_a_doctor_cannot_be_assigned_twice(ann: Client, patient: int, doctor: int) -> None:
    ann.create("/api/mappings", patient_id=patient, doctor_id=doctor)
    ann.post("/api/mappings", {"patient_id": patient, "doctor_id": doctor}).refuse(409, "already-assigned")
    assert len(ann.get("/api/mappings").json["items"]) == 1


def test_what_is_missing_is_said(ann: Client, patient: int, doctor: int) -> None:
    problem = ann.post("/api/mappings", {"patient_id": 99, "doctor_id": doctor}).refuse(404, "not-found")
    assert "patient" in problem["detail"]
    problem = ann.post("/api/mappings", {"patient_id": patient, "doctor_id": 99}).refuse(404, "not-found")
    assert "doctor" in problem["detail"]


@pytest.mark.parametrize("id", ["1", 1.5, 0, -1, 2**63, True, None, [1], 10**400])
def test_an_id_is_a_positive_number(ann: Client, doctor: int, id: object) -> None:
    problem = ann.post("/api/mappings", {"patient_id": id, "doctor_id": doctor}).refuse(422, "validation")
    assert [error["pointer"] for error in problem["errors"]] == ["/patient_id"]


def test_a_patient_without_doctors_has_an_empty_page_and_an_unknown_one_none(ann: Client, patient: int) -> None:
    for prefix, suffix in (("mappings", ""), ("patients", "/doctors")):
        page = ann.get(f"/api/{prefix}/{patient}{suffix}").expect(200)
        assert page == {"items": [], "next_cursor": None}
        ann.get(f"/api/{prefix}/99{suffix}").refuse(404, "not-found")


def test_a_mapping_is_deleted_once(ann: Client, patient: int, doctor: int) -> None:
    mapping = ann.create("/api/mappings", patient_id=patient, doctor_id=doctor)
    ann.delete(f"/api/mappings/{mapping['id']}").expect(204)
    ann.delete(f"/api/mappings/{mapping['id']}").refuse(404, "not-found")
    assert ann.create("/api/mappings", patient_id=patient, doctor_id=doctor)["id"] != mapping["id"]
