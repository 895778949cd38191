"""What was done to a user's patients, mappings, doctors and account, as the database recorded it."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from healthcare.database.connection import Session
from healthcare.fields import IdText, Page, PageQuery, Row, page


class AuditEvent(Row):
    at: datetime
    actor_id: int | None = Field(description="Who did it; null for what was done outside the API.")
    action: Literal["create", "update", "delete"]
    resource: Literal["user", "patient", "doctor", "mapping"]
    resource_id: int
    request_id: str | None
    changes: dict[str, Any] = Field(description='`{"field": {"from": ..., "to": ...}}`; secrets show as null.')


class AuditQuery(PageQuery):
    patient_id: IdText | None = Field(None, description="Only what was done to this patient and its mappings.")


def search(session: Session, query: AuditQuery) -> Page[AuditEvent]:
    """Newest first."""
    events = session.rows(
        AuditEvent,
        """
        SELECT id, at, actor_id, action, resource, resource_id, request_id, changes
          FROM audit_events
         WHERE id < coalesce(%(cursor)s, 9223372036854775807)
           AND (%(patient_id)s::bigint IS NULL OR patient_id = %(patient_id)s)
         ORDER BY id DESC
         LIMIT %(limit)s + 1
        """,
        **dict(query),
    )
    return page(AuditEvent, events, query)
