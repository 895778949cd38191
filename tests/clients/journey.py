"""What an app does with this API, through a client made from openapi.json: `python journey.py http://127.0.0.1:3000`."""

import sys
from datetime import date
from typing import TypeVar
from uuid import uuid4

from healthcare_client.api.auth import log_in, register
from healthcare_client.api.doctors import create_doctor
from healthcare_client.api.mappings import create_mapping, delete_mapping, list_doctors_of_mapped_patient
from healthcare_client.api.patients import (
    change_patient,
    create_patient,
    delete_patient,
    list_patients,
    read_patient,
)
from healthcare_client.client import AuthenticatedClient, Client
from healthcare_client.models.created_mapping import CreatedMapping
from healthcare_client.models.credentials import Credentials
from healthcare_client.models.doctor import Doctor
from healthcare_client.models.gender import Gender
from healthcare_client.models.new_doctor import NewDoctor
from healthcare_client.models.new_mapping import NewMapping
from healthcare_client.models.new_patient import NewPatient
from healthcare_client.models.new_user import NewUser
from healthcare_client.models.patient import Patient
from healthcare_client.models.patient_change import PatientChange
from healthcare_client.models.patient_page import PatientPage
from healthcare_client.models.problem import Problem
from healthcare_client.models.tokens import Tokens
from healthcare_client.models.user import User
from healthcare_client.types import UNSET, Response, Unset

Answer = TypeVar("Answer")


def answered(response: Response[Answer | Problem], status: int, kind: type[Answer]) -> Answer:
    assert response.status_code == status, response.content
    assert isinstance(response.parsed, kind)
    return response.parsed


def refused(response: Response[Answer | Problem], slug: str) -> Problem:
    problem = response.parsed
    assert isinstance(problem, Problem)
    assert problem.type_ == f"/problems/{slug}"
    assert problem.status == response.status_code
    assert problem.request_id == response.headers["X-Request-Id"]
    return problem


def sign_up(base_url: str) -> AuthenticatedClient:
    anonymous = Client(base_url, raise_on_unexpected_status=True)
    email, password = f"{uuid4()}@example.org", "seven green kettles"
    account = NewUser(name="Ada Brown", email=email, password=password)
    user = answered(register.sync_detailed(client=anonymous, body=account), 201, User)
    credentials = Credentials(email=email, password=password)
    tokens = answered(log_in.sync_detailed(client=anonymous, body=credentials), 200, Tokens)
    assert tokens.user == user
    return AuthenticatedClient(base_url, token=tokens.access_token, raise_on_unexpected_status=True)


def all_patients(client: AuthenticatedClient) -> list[Patient]:
    found: list[Patient] = []
    cursor: str | Unset | None = UNSET
    while cursor is not None:
        page = answered(list_patients.sync_detailed(client=client, limit=2, cursor=cursor), 200, PatientPage)
        found += page.items
        cursor = page.next_cursor
    return found


def main(base_url: str) -> None:
    client = sign_up(base_url)

    key = str(uuid4())
    maria = NewPatient(name="Maria Silva", gender=Gender.FEMALE, date_of_birth=date(1984, 11, 5))
    first = create_patient.sync_detailed(client=client, body=maria, idempotency_key=key)
    patient = answered(first, 201, Patient)
    again = create_patient.sync_detailed(client=client, body=maria, idempotency_key=key)
    assert answered(again, 201, Patient) == patient
    for name in ("Bob", "Carol", "Dan", "Erin"):
        answered(create_patient.sync_detailed(client=client, body=NewPatient(name=name)), 201, Patient)
    assert sorted(found.name for found in all_patients(client)) == ["Bob", "Carol", "Dan", "Erin", "Maria Silva"]

    version = first.headers["ETag"]
    called = PatientChange(phone="+351 21 555 0142")
    change = change_patient.sync_detailed(patient.id, client=client, body=called, if_match=version)
    assert answered(change, 200, Patient).phone == "+351 21 555 0142"
    cleared = PatientChange(phone=None)
    refused(change_patient.sync_detailed(patient.id, client=client, body=cleared, if_match=version), "stale")
    change = change_patient.sync_detailed(patient.id, client=client, body=cleared, if_match=change.headers["ETag"])
    assert answered(change, 200, Patient).phone is None

    okafor = NewDoctor(name="Dr. Grace Okafor", specialty="Cardiology")
    doctor = answered(create_doctor.sync_detailed(client=client, body=okafor), 201, Doctor)
    ids = NewMapping(patient_id=patient.id, doctor_id=doctor.id)
    mapping = answered(create_mapping.sync_detailed(client=client, body=ids), 201, CreatedMapping)
    refused(create_mapping.sync_detailed(client=client, body=ids), "already-assigned")
    doctors = list_doctors_of_mapped_patient.sync(patient.id, client=client)
    assert not isinstance(doctors, Problem | None)
    assert doctors.items == [doctor]

    assert delete_mapping.sync_detailed(mapping.id, client=client).status_code == 204
    assert delete_patient.sync_detailed(patient.id, client=client).status_code == 204
    refused(read_patient.sync_detailed(patient.id, client=client), "not-found")
    invalid = refused(create_patient.sync_detailed(client=client, body=NewPatient(name="")), "validation")
    assert not isinstance(invalid.errors, Unset)
    assert [error.pointer for error in invalid.errors] == ["/name"]


if __name__ == "__main__":
    main(sys.argv[1])
