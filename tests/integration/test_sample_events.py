"""The sample events of all functions with a database, as one user's day: their ids are those of the first rows."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from tests.gateway import Gateway
from tools.openapi.declared import TIME
from tools.openapi.events import day

OPENAPI = json.loads(Path("functions/docs/openapi.json").read_text("utf-8"))

# Where the sample day does not go well: nobody was given these tokens or codes, nobody acts for the user, the user is
# no doctor, a new password has ended the session, and the visit is days away. A record that was amended is not
# retracted and keeps its patient, and nobody uploads a document.
ODD = {
    "auth/log_in_with_code": 401,
    "auth/close_account": 403,
    "auth/confirm_second_factor": 403,
    "auth/disable_second_factor": 403,
    "auth/refresh": 401,
    "auth/reset_password": 410,
    "auth/verify_address": 410,
    "auth/end_session": 404,
    "sharing/accept_invitation": 404,
    "sharing/change_delegate": 404,
    "sharing/delete_delegate": 404,
    "sharing/leave_owner": 404,
    "appointments/join": 409,
    "practice/read": 404,
    "webhooks/resend_delivery": 404,
    "practice/list_appointments": 404,
    "practice/read_appointment": 404,
    "practice/arrive": 404,
    "practice/fulfil": 404,
    "practice/miss": 404,
    "practice/cancel_appointment": 404,
    "practice/join_appointment": 404,
    "practice/list_patients": 404,
    "practice/read_patient": 404,
    "doctors/unlink": 404,
    "records/retract": 409,
    "patients/delete": 409,
    "documents/complete": 409,
    "documents/read_content": 409,
    **dict.fromkeys(
        (
            "practice/create_record",
            "practice/list_records",
            "practice/read_record",
            "practice/amend_record",
            "practice/retract_record",
            "practice/create_document",
            "practice/list_documents",
            "practice/read_document",
            "practice/complete_document",
            "practice/read_document_content",
        ),
        404,
    ),
}
OF_NO_DATABASE = ("docs",)


def test_the_sample_events_are_answered_as_openapi_json_says(gateway: Gateway) -> None:
    statuses, free_time = {}, ""
    for name in day():
        function = name.partition("/")[0]
        if function in OF_NO_DATABASE:
            continue
        event = json.loads(Path(f"events/{name}.json").read_text("utf-8"))
        if free_time and event["path"].startswith("/api/appointments") and event["body"]:
            event["body"] = event["body"].replace(TIME, free_time)
        answer = gateway.environments[function].invoke(event)
        if event["path"].endswith("/slots"):
            free_time = json.loads(answer["body"])["items"][0]["starts_at"]
        statuses[name] = answer["statusCode"]
        assert_documented(OPENAPI["paths"][event["resource"]][event["httpMethod"].lower()], answer)
    assert {name: status for name, status in statuses.items() if not 200 <= status < 300} == ODD


def assert_documented(operation: dict[str, Any], answer: dict[str, Any]) -> None:
    response = resolved(operation["responses"][str(answer["statusCode"])])
    for name, header in response["headers"].items():
        assert name in answer["headers"] or not resolved(header).get("required"), name
    documented = {"ETag", "Location", "Link", "Retry-After", "WWW-Authenticate"}
    assert documented & answer["headers"].keys() <= response["headers"].keys()
    if "content" not in response:
        assert answer["body"] == ""
        return
    schema = response["content"][answer["headers"]["Content-Type"]]["schema"] | {"components": OPENAPI["components"]}
    if not answer["headers"]["Content-Type"].endswith("json"):
        return
    body = json.loads(answer["body"])
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(body)
    # An answer may hold more than its schema says, for a client; not for us.
    described = resolved(response["content"][answer["headers"]["Content-Type"]]["schema"])
    variants = [resolved(variant) for variant in described.get("oneOf", [described])]
    assert body.keys() <= {name for variant in variants for name in variant["properties"]}


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    for name in value.get("$ref", "#").split("/")[1:]:
        value = OPENAPI[name] if name == "components" else value[name]
    return value
