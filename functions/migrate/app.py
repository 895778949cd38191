from typing import Any

from psycopg.conninfo import make_conninfo

from healthcare.db import password
from healthcare.migrate import broken_audit_links, grant_admin, migrate


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Run by a deployment or an operator, never by a client.

    `{}` migrates, `{"grant_admin": "<e-mail>"}` promotes, `{"verify_audit": true}` lists broken links of the audit.
    """
    conninfo = make_conninfo(password=password())
    if "grant_admin" in event:
        return {"granted": grant_admin(conninfo, event["grant_admin"])}
    if event.get("verify_audit"):
        return {"broken": broken_audit_links(conninfo)}
    return {"applied": migrate(conninfo)}
