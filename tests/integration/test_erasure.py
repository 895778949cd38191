"""What an operator erases where the law lets a patient be forgotten, and hands over to another account."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from healthcare.database.operations import broken_audit_links, erase_patient
from tests.conftest import Database
from tests.gateway import Client, Environment
from tests.integration.test_documents_in_s3 import NEW, key_of, uploaded
from tests.practice import delegate

SECRET = "Zqxjkvb"


@pytest.fixture
def patient(ann: Client, bob: Client) -> int:
    """With a record and its amendment, a document, and somebody who has read them."""
    patient: int = ann.create("/api/patients", name=f"{SECRET} Silva", address=f"{SECRET} Street")["id"]
    path = f"/api/patients/{patient}"
    record = ann.create(f"{path}/records", kind="note", content={"text": SECRET})
    ann.create(f"{path}/records/{record['id']}/amend", content={"text": SECRET})
    ann.patch(path, {"name": f"{SECRET} Santos"}).expect(200)
    document = uploaded(ann, f"{path}/documents")
    ann.create(f"{path}/documents", **{**NEW, "name": f"{SECRET}.pdf"})
    for_ann = delegate(ann, bob, "read")
    bob.get(f"{path}/records?history=true", headers=for_ann).expect(200)
    bob.get(f"{path}/documents/{document['id']}/content", headers=for_ann).expect(200)
    return patient


def test_an_erasure_takes_everything_and_leaves_an_event_that_counts_it(
    ann: Client, patient: int, database: Database
) -> None:
    other = ann.create("/api/patients", name="Zoë")
    keys = {key_of(database, id) for id in (1, 2)}
    head = database.value("SELECT encode(digest, 'hex') FROM audit_heads WHERE owner_id = %s", ann.user["id"])
    owner = database.conninfo("healthcare_owner")
    erased = erase_patient(owner, patient)
    assert erased
    assert set(erased.pop("objects")) == keys
    assert erased == {"records": 2, "documents": 2, "disclosures": 3, "appointments": 0, "head": head}
    ann.get(f"/api/patients/{patient}").refuse(404, "not-found")
    event, *before = ann.walk(f"/api/audit?patient_id={patient}")
    assert (event["action"], event["resource"], event["resource_id"]) == ("erase", "patient", patient)
    assert event["changes"] == {name: {"from": value, "to": None} for name, value in erased.items()}
    assert {str(event["changes"]) for event in before} == {"{}"}
    assert broken_audit_links(owner) == []
    for table in ("audit_events", "patients", "patient_words", "records", "documents", "disclosures"):
        found = database.value(f"SELECT count(*) FROM {table} AS t WHERE lower(t::text) LIKE %s", f"%{SECRET.lower()}%")
        assert found == 0, table
    ann.patch(f"/api/patients/{other['id']}", {"name": "Yan"}).expect(200)
    assert broken_audit_links(owner) == []
    assert erase_patient(owner, patient) is None


def test_the_function_for_operators_erases_and_names_the_objects_that_are_left(
    ann: Client, patient: int, database: Database
) -> None:
    answer = Environment(Path("functions/migrate")).invoke({"erase_patient": patient})
    assert answer["erased"]["records"] == 2
    assert len(answer["erased"]["objects"]) == 2


def test_records_and_documents_go_with_their_patient_to_another_account(
    ann: Client, bob: Client, patient: int, database: Database
) -> None:
    found = ann.get(f"/api/patients/{patient}/records?history=true").expect(200)["items"]
    disclosed = ann.get(f"/api/patients/{patient}/disclosures").expect(200)
    with database.connect("healthcare_owner") as connection:
        connection.execute("UPDATE patients SET owner_id = %s WHERE id = %s", [bob.user["id"], patient])
    ann.get(f"/api/patients/{patient}/records").refuse(404, "not-found")
    moved = bob.get(f"/api/patients/{patient}/records?history=true").expect(200)["items"]
    assert [record["content"] for record in moved] == [record["content"] for record in found]
    assert bob.get(f"/api/patients/{patient}/disclosures").expect(200) == disclosed
    assert len(bob.get(f"/api/patients/{patient}/documents").expect(200)["items"]) == 1


def test_a_patient_that_went_to_another_account_is_found_there_and_erased_in_both(
    ann: Client, bob: Client, patient: int, database: Database
) -> None:
    owner = database.conninfo("healthcare_owner")
    with database.connect("healthcare_owner") as connection:
        connection.execute("UPDATE patients SET owner_id = %s WHERE id = %s", [bob.user["id"], patient])
    assert ann.walk(f"/api/patients?q={SECRET}") == []
    assert [found["id"] for found in bob.walk(f"/api/patients?q={SECRET}")] == [patient]
    bob.patch(f"/api/patients/{patient}", {"address": f"{SECRET} Square"}).expect(200)
    assert erase_patient(owner, patient)
    for table in ("audit_events", "patient_words"):
        found = database.value(f"SELECT count(*) FROM {table} AS t WHERE lower(t::text) LIKE %s", f"%{SECRET.lower()}%")
        assert found == 0, table
    assert broken_audit_links(owner) == []


def test_an_erasure_and_who_closes_the_patient_take_turns(
    ann: Client, bob: Client, patient: int, database: Database
) -> None:
    doctor = ann.create("/api/doctors", name="Who", specialty="Time")["id"]
    mapping = ann.create("/api/mappings", patient_id=patient, doctor_id=doctor)["id"]
    with ThreadPoolExecutor(1) as pool, database.connect() as connection:
        with connection.transaction():
            connection.execute("SELECT FROM mappings WHERE id = %s FOR UPDATE", [mapping])
            erasure = pool.submit(erase_patient, database.conninfo("healthcare_owner"), patient)
            database.wait_for_a_lock()
            connection.execute("SELECT FROM audit_heads WHERE owner_id = %s FOR UPDATE", [ann.user["id"]])
        assert erasure.result(timeout=30)
