"""An appointment as a file for calendars (RFC 5545)."""

from typing import TYPE_CHECKING, ClassVar
from uuid import NAMESPACE_OID, uuid5

from pydantic import Field

from healthcare.appointments import Appointment
from healthcare.fields import Text

if TYPE_CHECKING:
    from icalendar import Calendar

PRODUCT = "-//Healthcare API//EN"


class CalendarFile(Text):
    media_type: ClassVar[str] = "text/calendar; charset=utf-8"

    text: str = Field(examples=["BEGIN:VCALENDAR\r\nVERSION:2.0\r\n...\r\nEND:VCALENDAR\r\n"])
    version: int = Field(exclude=True)
    patient_id: int = Field(exclude=True)

    def patients(self) -> list[int]:
        return [self.patient_id]


def calendar_file(appointment: Appointment) -> CalendarFile:
    """Whoever sees a calendar learns no reason, no kind of visit and no patient's name from it."""
    text = _calendar(appointment).to_ical().decode()
    return CalendarFile(text=text, version=appointment.version, patient_id=appointment.patient_id)


def _calendar(appointment: Appointment) -> "Calendar":
    from icalendar import Calendar, Event  # takes longer to load than the rest of a cold start

    event = Event()
    # The same for each version of an appointment, and another one in every deployment.
    event.add("uid", str(uuid5(NAMESPACE_OID, f"{appointment.id} {appointment.created_at.isoformat()}")))
    event.add("sequence", appointment.version - 1)
    event.add("dtstamp", appointment.updated_at)
    event.add("dtstart", appointment.starts_at)
    event.add("dtend", appointment.ends_at)
    event.add("summary", f"Appointment with {appointment.doctor_name}")
    event.add("status", "CANCELLED" if appointment.status == "cancelled" else "CONFIRMED")
    calendar = Calendar()
    calendar.add("prodid", PRODUCT)
    calendar.add("version", "2.0")
    calendar.add("method", "CANCEL" if appointment.status == "cancelled" else "PUBLISH")
    calendar.add_component(event)
    return calendar
