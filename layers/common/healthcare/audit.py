"""What was done to what belongs to a user, as the database recorded it."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from healthcare.database.connection import Database
from healthcare.fields import IdText, Page, PageQuery, Row, page


class AuditEvent(Row):
    at: datetime
    actor_id: int | None = Field(description="Who did it; null for what was done outside the API.")
    action: Literal["create", "update", "delete", "erase"] = Field(examples=["update"])
    resource: str = Field(description="Such as `patient` or `mapping`.", examples=["patient"])
    resource_id: int = Field(examples=[1])
    patient_id: int | None = Field(exclude=True)
    request_id: str | None = Field(examples=["6a2e0c9e-8f4b-4b8e-9d1c-0d6f3c5b7a21"])
    changes: dict[str, Any] = Field(
        description='`{"field": {"from": ..., "to": ...}}`; secrets show as null.',
        examples=[{"phone": {"from": "+351 21 555 0142", "to": "+351 21 555 0199"}}],
    )

    def patients(self) -> list[int]:
        return [self.patient_id] if self.patient_id else []


class AuditQuery(PageQuery):
    patient_id: IdText | None = Field(None, description="Only what was done to this patient and to what belongs to it.")


def search(db: Database, query: AuditQuery) -> Page[AuditEvent]:
    """Newest first."""
    events = db.rows(
        AuditEvent,
        """
        SELECT id, at, actor_id, action, resource, resource_id, patient_id, request_id, changes
          FROM audit_events
         WHERE id < coalesce(%(cursor)s, 9223372036854775807)
           AND (%(patient_id)s::bigint IS NULL OR patient_id = %(patient_id)s)
         ORDER BY id DESC
         LIMIT %(limit)s + 1
        """,
        **dict(query),
    )
    return page(AuditEvent, events, query)
