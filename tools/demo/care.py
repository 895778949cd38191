"""What happens to the first user's patients in the demo: hours, visits, records and a document."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import httpx

Send = Callable[..., Any]

HOURS = {
    "time_zone": "Europe/London",
    "visits": [
        {"code": "check-up", "name": "Check-up", "minutes": 30, "modality": "in_person"},
        {"code": "video-call", "name": "Video call", "minutes": 20, "modality": "video"},
    ],
    "weekly": [
        {"day": day, "from": start, "to": end}
        for day in ("monday", "tuesday", "wednesday", "thursday", "friday")
        for start, end in (("09:00", "12:00"), ("13:30", "17:00"))
    ],
}
VISITS = ("video-call", "check-up", "check-up", "check-up")
RECORDS: tuple[dict[str, Any], ...] = (
    {"kind": "allergy", "content": {"substance": "Penicillin", "reaction": "Rash", "severity": "severe"}},
    {"kind": "condition", "content": {"name": "Asthma", "since": "2011-04-01", "severity": "mild"}},
    {"kind": "medication", "content": {"name": "Salbutamol inhaler", "dose": "100 µg", "instructions": "As needed"}},
    {"kind": "observation", "content": {"name": "Body weight", "value": 71.5, "unit": "kg"}},
    {"kind": "immunization", "content": {"vaccine": "Influenza", "given_on": "2024-10-14", "lot": "EU-2231"}},
    {"kind": "note", "content": {"title": "Before the visit", "text": "Sleeps well; walks half an hour each day."}},
)
DOCUMENT = "Letter from the lung clinic.txt"
LETTER = b"Lung function is normal. Another test in a year.\n"


def keep_hours(doctor: Send, doctor_id: int) -> None:
    path = f"/api/doctors/{doctor_id}/hours"
    if "weekly" not in doctor("GET", path, also=(404,)):
        doctor("PUT", path, HOURS)


def book(owner: Send, doctor_id: int, patient_ids: list[int]) -> None:
    """One visit for each of the first patients, unless one lies ahead already."""
    start, end = (_stamp(datetime.now(UTC) + timedelta(days=days)) for days in (0, 90))
    path = f"/api/appointments?doctor_id={doctor_id}&status=booked&from={start}&to={end}&limit=100"
    booked = {appointment["patient_id"] for appointment in owner("GET", path)["items"]}
    for days, (visit, patient_id) in enumerate(zip(VISITS, patient_ids, strict=False), start=1):
        if patient_id not in booked:
            first = _stamp(datetime.now(UTC) + timedelta(days=days))
            last = _stamp(datetime.now(UTC) + timedelta(days=days + 7))
            path = f"/api/doctors/{doctor_id}/slots?visit={visit}&from={first}&to={last}"
            time = owner("GET", path)["items"][0]["starts_at"]
            ids = {"patient_id": patient_id, "doctor_id": doctor_id}
            owner("POST", "/api/appointments", ids | {"visit": visit, "starts_at": time})


def document(owner: Send, patient_id: int) -> None:
    """Records of all kinds, and a file."""
    path = f"/api/patients/{patient_id}/records"
    known = {record["kind"] for record in owner("GET", f"{path}?limit=100")["items"]}
    for record in RECORDS:
        if record["kind"] not in known:
            owner("POST", path, record)

    path = f"/api/patients/{patient_id}/documents"
    if ("available", DOCUMENT) not in {(d["status"], d["name"]) for d in owner("GET", f"{path}?limit=100")["items"]}:
        details = {"content_type": "text/plain", "size": len(LETTER), "sha256": sha256(LETTER).hexdigest()}
        announced = owner("POST", path, {"name": DOCUMENT} | details)
        upload = announced["upload"]
        httpx.post(upload["url"], data=upload["fields"], files={"file": LETTER}, timeout=30).raise_for_status()
        owner("POST", f"{path}/{announced['document']['id']}/complete")


def _stamp(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
