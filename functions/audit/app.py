from healthcare import audit
from healthcare.audit import AuditEvent, AuditQuery
from healthcare.database.connection import Database
from healthcare.fields import Page
from healthcare.web.api import Api

api = Api()


@api.route("GET", "/api/audit")
def list_audit_events(db: Database, query: AuditQuery) -> Page[AuditEvent]:
    """List the changes to what is yours

    Newest first.
    """
    return audit.search(db, query)


lambda_handler = api.handle
