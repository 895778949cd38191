"""A doctor who can be visited, for the tests of appointments."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.conftest import Database
from tests.gateway import Client

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
VISIT = {"code": "first", "name": "First visit", "minutes": 30, "modality": "any"}
HOURS: dict[str, Any] = {
    "time_zone": "Etc/UTC",
    "visits": [VISIT, {"code": "talk", "name": "A talk", "minutes": 15, "modality": "video"}],
    "weekly": [{"day": day, "from": "00:00", "to": "24:00"} for day in DAYS],
}


def new_doctor(client: Client, **hours: Any) -> int:
    """Can be visited at any time, unless `hours` say otherwise."""
    doctor: int = client.create("/api/doctors", name="Who", specialty="Time")["id"]
    client.put(f"/api/doctors/{doctor}/hours", HOURS | hours).expect(200)
    return doctor


def new_patient(client: Client, name: str = "Zoë") -> int:
    patient: int = client.create("/api/patients", name=name)["id"]
    return patient


def free_times(client: Client, doctor: int, query: str = "", visit: str = "first", *, soon: bool = False) -> list[str]:
    """From tomorrow on, or as `query` says, or the next that there are, of which late in the day few are left."""
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    query = query or ("" if soon else f"&from={tomorrow}T00:00:00Z")
    slots = client.get(f"/api/doctors/{doctor}/slots?visit={visit}{query}").expect(200)
    return [slot["starts_at"] for slot in slots["items"]]


def booking(patient: int, doctor: int, starts_at: str, **more: Any) -> dict[str, Any]:
    return {
        "patient_id": patient,
        "doctor_id": doctor,
        "visit": "first",
        "starts_at": starts_at,
        "modality": "video",
    } | more


def book(client: Client, patient: int, doctor: int, starts_at: str, **more: Any) -> Any:
    return client.create("/api/appointments", **booking(patient, doctor, starts_at, **more))


def later(time: str, **by: float) -> str:
    """As the API writes it."""
    return (datetime.fromisoformat(time) + timedelta(**by)).isoformat().replace("+00:00", "Z")


def let_pass(database: Database, appointment: int, **time: float) -> None:
    """Moves an appointment into the past, by so much, as if this time had passed."""
    with database.connect() as connection:
        connection.execute("SET session_replication_role = replica")  # no trigger fires
        connection.execute(
            """
            UPDATE appointments
               SET (starts_at, ends_at, busy_until) = (starts_at - %(by)s, ends_at - %(by)s, busy_until - %(by)s)
             WHERE id = %(id)s
            """,
            {"by": timedelta(**time), "id": appointment},
        )
