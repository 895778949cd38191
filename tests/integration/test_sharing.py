"""Delegates and invitations: who acts for whom, and until when."""

from collections.abc import Callable

from tests.gateway import Client


def invite(owner: Client, delegate: Client, access: str = "write") -> dict[str, str]:
    """Makes `delegate` one of `owner`; returns the header to act with."""
    code = owner.create("/api/invitations", kind="delegate", access=access)["code"]
    delegate.post("/api/invitations/accept", {"code": code}).expect(200)
    return {"Acting-For": str(owner.user["id"])}


def link(creator: Client, doctor_id: int, account: Client) -> None:
    code = creator.create("/api/invitations", kind="doctor", doctor_id=doctor_id)["code"]
    account.post("/api/invitations/accept", {"code": code}).expect(200)


def test_a_delegate_acts_as_the_owner_and_the_audit_names_the_delegate(ann: Client, bob: Client) -> None:
    for_ann = invite(ann, bob)
    patient = bob.post("/api/patients", {"name": "Zoë"}, headers=for_ann).expect(201)
    assert ann.get(f"/api/patients/{patient['id']}").expect(200) == patient
    assert bob.get("/api/patients").expect(200)["items"] == []
    event = ann.get("/api/audit").expect(200)["items"][0]
    assert (event["resource"], event["actor_id"]) == ("patient", bob.user["id"])


def test_a_delegate_with_read_changes_nothing(ann: Client, bob: Client) -> None:
    for_ann = invite(ann, bob, "read")
    patient = ann.create("/api/patients", name="Zoë")
    path = f"/api/patients/{patient['id']}"
    assert bob.get(path, headers=for_ann).expect(200) == patient
    bob.delete(path, headers=for_ann).refuse(403, "read-only")
    bob.post("/api/patients", {"name": "Yan"}, headers=for_ann).refuse(403, "read-only")


def test_a_doctor_sees_the_patients_that_are_opened(ann: Client, bob: Client, sign_up: Callable[..., Client]) -> None:
    doctor = ann.create("/api/doctors", name="Who", specialty="Time")
    link(ann, doctor["id"], bob)
    patient = ann.create("/api/patients", name="Zoë")
    mapping = ann.create("/api/mappings", patient_id=patient["id"], doctor_id=doctor["id"])
    assert bob.get("/api/practice").expect(200)["id"] == doctor["id"]
    assert bob.get("/api/practice/patients").expect(200)["items"] == []
    bob.get(f"/api/practice/patients/{patient['id']}").refuse(404, "not-found")
    ann.patch(f"/api/mappings/{mapping['id']}", {"access": "read"}).expect(200)
    assert bob.get("/api/practice/patients?q=zo").expect(200)["items"] == [{**patient, "access": "read"}]
    assert bob.get("/api/practice/patients?q=yan").expect(200)["items"] == []
    assert bob.get(f"/api/practice/patients/{patient['id']}").expect(200) == {**patient, "access": "read"}
    ann.delete(f"/api/doctors/{doctor['id']}/account").expect(204)
    assert ann.get("/api/mappings").expect(200)["items"][0]["access"] == "none"
    bob.get("/api/practice").refuse(404, "not-found")
    bob.get("/api/practice/patients").refuse(404, "not-found")
