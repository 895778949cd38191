"""Run by a deployment or an operator, never by a client.

`{}` migrates, `{"grant_admin": "<e-mail>"}` promotes, `{"verify_audit": true}` lists broken links of the audit,
`{"delete_doctor": <id>}` deletes one who is assigned to too many patients for a request, `{"erase_patient": <id>}`
takes everything of a patient, `{"send_again": true}` sends the mails that were set aside,
`{"turn_off_second_factor": "<e-mail>"}` helps somebody who has lost a device. A deployment calls it as a custom
resource of CloudFormation, and goes on only when it has been told that all went well.
"""

import json
import traceback
from contextlib import suppress
from os import environ
from typing import Any
from urllib.request import Request, urlopen

import psycopg
from psycopg.conninfo import make_conninfo

from healthcare.database.connection import password
from healthcare.database.migrate import ROLES, DatabaseIsNewer, MigrationError, migrate
from healthcare.database.operations import (
    broken_audit_links,
    delete_doctor,
    erase_patient,
    grant_admin,
    send_again,
    turn_off_second_factor,
)
from healthcare.platform import aws
from healthcare.platform.logs import logger
from healthcare.platform.metrics import count
from healthcare.platform.settings import settings


def lambda_handler(event: dict[str, Any], context: object) -> dict[str, Any] | None:
    if "RequestType" in event:
        _deploy(event)
        return None
    if "grant_admin" in event:
        return {"granted": grant_admin(_conninfo(), event["grant_admin"])}
    if "delete_doctor" in event:
        return {"mappings": delete_doctor(_conninfo(), event["delete_doctor"])}
    if "erase_patient" in event:
        return {"erased": erase_patient(_conninfo(), event["erase_patient"])}
    if "turn_off_second_factor" in event:
        return {"turned_off": turn_off_second_factor(_conninfo(), event["turn_off_second_factor"])}
    if event.get("send_again"):
        return {"mails": send_again(_conninfo())}
    if event.get("verify_audit"):
        return {"broken": broken_audit_links(_conninfo())}
    return {"applied": _migrate(_conninfo())}


def _conninfo() -> str:
    """As the owner: with the password that RDS keeps in a secret, or as libpq finds it."""
    if settings().database_auth != "secret":
        return make_conninfo(password=password())
    return make_conninfo(password=aws.secret(environ["DATABASE_SECRET_ID"])["password"])


def _migrate(conninfo: str) -> list[str]:
    applied = migrate(conninfo)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        # Only where the server is Amazon's: who has this role logs in with a token of IAM, and with nothing else.
        if connection.execute("SELECT FROM pg_roles WHERE rolname = 'rds_iam'").fetchone() is not None:
            connection.execute(f"GRANT rds_iam TO {', '.join(ROLES)}")
    return applied


def _deploy(event: dict[str, Any]) -> None:
    """Answers CloudFormation whatever happens; without an answer, it would wait until its time is over."""
    answer = {name: event[name] for name in ("StackId", "RequestId", "LogicalResourceId")}
    answer["PhysicalResourceId"] = "schema"  # always the same, or CloudFormation would ask to delete the one before
    try:
        if event["RequestType"] != "Delete":  # the schema goes with the database
            with suppress(DatabaseIsNewer):  # a deployment that is rolled back comes with the previous code
                _migrate(_conninfo())
        answer["Status"] = "SUCCESS"
    except Exception as error:
        # The text of PostgreSQL's errors may hold a value of somebody's; what is safe to say is in the code.
        reason = str(error) if isinstance(error, MigrationError) else f"SQLSTATE {getattr(error, 'sqlstate', None)}"
        answer |= {"Status": "FAILED", "Reason": f"{type(error).__qualname__}: {reason}"}
        stack = "".join(traceback.format_tb(error.__traceback__))
        logger.error("migration failed", error=answer["Reason"], stack=stack)
        count("MigrationFailures")
    body = json.dumps(answer).encode()
    with urlopen(Request(event["ResponseURL"], body, {"Content-Type": ""}, method="PUT"), timeout=30):  # noqa: S310 - CloudFormation's
        pass
