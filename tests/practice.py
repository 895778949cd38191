"""People who see a patient of somebody else's."""

from typing import Any

from tests.gateway import Client


def delegate(owner: Client, account: Client, access: str = "write") -> dict[str, str]:
    """Makes `account` act for `owner`; returns the header to do so."""
    code = owner.create("/api/invitations", kind="delegate", access=access)["code"]
    account.post("/api/invitations/accept", {"code": code}).expect(200)
    return {"Acting-For": str(owner.user["id"])}


def link(owner: Client, account: Client, name: str = "Dr. Grace Okafor") -> Any:
    """A doctor of the directory, whose account is `account`."""
    doctor = owner.create("/api/doctors", name=name, specialty="Cardiology")
    code = owner.create("/api/invitations", kind="doctor", doctor_id=doctor["id"])["code"]
    account.post("/api/invitations/accept", {"code": code}).expect(200)
    return doctor


def open_patient(owner: Client, patient_id: int, doctor_id: int, access: str = "write") -> Any:
    return owner.create("/api/mappings", patient_id=patient_id, doctor_id=doctor_id, access=access)
