"""What an app does with this API, through a client made from openapi.json: `python journey.py http://127.0.0.1:3000`."""

import sys
from datetime import date
from hashlib import sha256
from typing import TypeVar
from uuid import uuid4

import httpx
from healthcare_client.api.appointments import create_appointment, list_slots, put_hours
from healthcare_client.api.auth import log_in, register
from healthcare_client.api.doctors import create_doctor
from healthcare_client.api.documents import complete_document, create_document
from healthcare_client.api.mappings import create_mapping, delete_mapping, list_doctors_of_mapped_patient
from healthcare_client.api.patients import (
    change_patient,
    create_patient,
    delete_patient,
    list_patients,
    read_patient,
)
from healthcare_client.api.records import create_record
from healthcare_client.api.sharing import accept_invitation, create_invitation
from healthcare_client.client import AuthenticatedClient, Client
from healthcare_client.models.acceptance import Acceptance
from healthcare_client.models.accepted_as_delegate import AcceptedAsDelegate
from healthcare_client.models.accepted_as_doctor import AcceptedAsDoctor
from healthcare_client.models.allergy import Allergy
from healthcare_client.models.allergy_record import AllergyRecord
from healthcare_client.models.appointment import Appointment
from healthcare_client.models.content_type import ContentType
from healthcare_client.models.created_document import CreatedDocument
from healthcare_client.models.created_mapping import CreatedMapping
from healthcare_client.models.credentials import Credentials
from healthcare_client.models.doctor import Doctor
from healthcare_client.models.document import Document
from healthcare_client.models.document_status import DocumentStatus
from healthcare_client.models.gender import Gender
from healthcare_client.models.hours import Hours
from healthcare_client.models.invitation_with_code import InvitationWithCode
from healthcare_client.models.new_allergy import NewAllergy
from healthcare_client.models.new_appointment import NewAppointment
from healthcare_client.models.new_doctor import NewDoctor
from healthcare_client.models.new_document import NewDocument
from healthcare_client.models.new_hours import NewHours
from healthcare_client.models.new_invitation_type_0 import NewInvitationType0
from healthcare_client.models.new_invitation_type_1 import NewInvitationType1
from healthcare_client.models.new_mapping import NewMapping
from healthcare_client.models.new_patient import NewPatient
from healthcare_client.models.new_user import NewUser
from healthcare_client.models.patient import Patient
from healthcare_client.models.patient_change import PatientChange
from healthcare_client.models.patient_page import PatientPage
from healthcare_client.models.problem import Problem
from healthcare_client.models.slots import Slots
from healthcare_client.models.tokens import Tokens
from healthcare_client.models.user import User
from healthcare_client.models.visit import Visit
from healthcare_client.models.visit_modality import VisitModality
from healthcare_client.models.window import Window
from healthcare_client.models.window_day import WindowDay
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


def share(base_url: str) -> None:
    """A doctor's account sets hours; a delegate books, keeps a record and uploads a document for the owner."""
    owner, delegate, doctors_account = (sign_up(base_url) for _ in range(3))
    patient = answered(create_patient.sync_detailed(client=owner, body=NewPatient(name="Maria Silva")), 201, Patient)
    okafor = NewDoctor(name="Dr. Grace Okafor", specialty="Cardiology")
    doctor = answered(create_doctor.sync_detailed(client=owner, body=okafor), 201, Doctor)

    invitation = NewInvitationType1(kind="doctor", doctor_id=doctor.id)
    code = answered(create_invitation.sync_detailed(client=owner, body=invitation), 201, InvitationWithCode).code
    linked = accept_invitation.sync_detailed(client=doctors_account, body=Acceptance(code))
    assert isinstance(linked.parsed, AcceptedAsDoctor)
    hours = NewHours(
        time_zone="Europe/Lisbon",
        visits=[Visit(code="first", name="First visit", minutes=30, modality=VisitModality.VIDEO)],
        weekly=[Window(day=day, from_="09:00", to="17:00") for day in WindowDay],
    )
    answered(put_hours.sync_detailed(doctor.id, client=doctors_account, body=hours), 200, Hours)

    to_write = NewInvitationType0(kind="delegate", access="write")
    code = answered(create_invitation.sync_detailed(client=owner, body=to_write), 201, InvitationWithCode).code
    accepted = accept_invitation.sync_detailed(client=delegate, body=Acceptance(code))
    assert isinstance(accepted.parsed, AcceptedAsDelegate)
    acting_for = str(accepted.parsed.owner.id)
    refused(read_patient.sync_detailed(patient.id, client=delegate), "not-found")
    read = read_patient.sync_detailed(patient.id, client=delegate, acting_for=acting_for)
    assert answered(read, 200, Patient) == patient

    slots = list_slots.sync_detailed(doctor.id, client=delegate, visit="first", acting_for=acting_for)
    time = answered(slots, 200, Slots).items[0].starts_at
    visit = NewAppointment(patient_id=patient.id, doctor_id=doctor.id, visit="first", starts_at=time)
    booked = create_appointment.sync_detailed(client=delegate, body=visit, acting_for=acting_for)
    assert answered(booked, 201, Appointment).starts_at == time
    refused(create_appointment.sync_detailed(client=delegate, body=visit, acting_for=acting_for), "slot-taken")

    allergy = NewAllergy(kind="allergy", content=Allergy(substance="Penicillin"))
    kept = create_record.sync_detailed(patient.id, client=delegate, body=allergy, acting_for=acting_for)
    assert isinstance(kept.parsed, AllergyRecord)
    assert kept.parsed.content.substance == "Penicillin"

    text = b"Lung function is normal."
    letter = NewDocument("Letter.txt", ContentType.TEXTPLAIN, len(text), sha256(text).hexdigest())
    announced = create_document.sync_detailed(patient.id, client=delegate, body=letter, acting_for=acting_for)
    made = answered(announced, 201, CreatedDocument)
    ids = patient.id, made.document.id
    refused(complete_document.sync_detailed(*ids, client=delegate, acting_for=acting_for), "not-uploaded")
    httpx.post(made.upload.url, data=made.upload.fields.to_dict(), files={"file": text}).raise_for_status()
    document = answered(complete_document.sync_detailed(*ids, client=delegate, acting_for=acting_for), 200, Document)
    assert document.status == DocumentStatus.AVAILABLE


if __name__ == "__main__":
    main(sys.argv[1])
    share(sys.argv[1])
