"""The sample events of all functions with a database, as one user's day: their ids are those of the first rows."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker

from tests.gateway import Gateway

OPENAPI = json.loads(Path("functions/docs/openapi.json").read_text("utf-8"))

DAY = {
    "health/read": 200,
    "auth/register": 201,
    "auth/log_in": 200,
    "auth/refresh": 401,  # a refresh token that nobody was given
    "auth/read_me": 200,
    "auth/change_me": 200,
    "doctors/create": 201,
    "doctors/list": 200,
    "doctors/read": 200,
    "doctors/replace": 200,
    "doctors/change": 200,
    "patients/create": 201,
    "patients/list": 200,
    "patients/read": 200,
    "patients/replace": 200,
    "patients/change": 200,
    "mappings/create": 201,
    "mappings/list": 200,
    "mappings/list_doctors": 200,
    "patients/list_doctors": 200,
    "audit/list": 200,
    "mappings/delete": 204,
    "patients/delete": 204,
    "doctors/delete": 204,
    "auth/change_password": 204,
    "auth/log_out": 204,
}


def test_the_sample_events_are_answered_as_openapi_json_says(gateway: Gateway) -> None:
    statuses = {}
    for name in DAY:
        event = json.loads(Path(f"events/{name}.json").read_text("utf-8"))
        answer = gateway.environments[name.partition("/")[0]].invoke(event)
        statuses[name] = answer["statusCode"]
        assert_documented(OPENAPI["paths"][event["resource"]][event["httpMethod"].lower()], answer)
    assert statuses == DAY


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
    body = json.loads(answer["body"])
    Draft202012Validator(schema, format_checker=FormatChecker()).validate(body)
    # An answer may hold more than its schema says, for a client; not for us.
    described = resolved(response["content"][answer["headers"]["Content-Type"]]["schema"])["properties"]
    assert body.keys() <= described.keys()


def resolved(value: dict[str, Any]) -> dict[str, Any]:
    for name in value.get("$ref", "#").split("/")[1:]:
        value = OPENAPI[name] if name == "components" else value[name]
    return value


def test_the_day_has_every_event_that_needs_a_database() -> None:
    found = {f"{path.parent.name}/{path.stem}" for path in Path("events").glob("*/*.json")}
    assert {
        name for name in found if name.partition("/")[0] not in ("authorizer", "docs", "migrate", "rotate_keys")
    } == DAY.keys()
