"""A sample event for each route, as API Gateway would send it.

`sam local invoke PatientsFunction -e events/patients/create.json` calls a function with one.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local.settings import PROJECT
from tools.openapi.declared import Json, gateway_functions
from tools.openapi.document import REQUEST_ID, document

EVENTS = PROJECT / "events"
HOST = "api.example.com"
STAGE = "v1"
ACCOUNT, API = "123456789012", "abcdef1234"
AUTHORIZATION = "Bearer header.payload.signature"
CALLER = {"principalId": "1", "user_id": "1", "role": "user", "exp": "4102444800"}  # the year 2100

# Of the routes that are no part of openapi.json.
UNDOCUMENTED: Json = {
    "/docs/{file}": {"get": {"security": [], "parameters": [{"name": "file", "example": "page.css"}]}}
}

OF_NO_ROUTE: dict[str, Json] = {
    "authorizer/token": {
        "type": "TOKEN",
        "methodArn": f"arn:aws:execute-api:us-east-1:{ACCOUNT}:{API}/{STAGE}/GET/api/patients",
        "authorizationToken": AUTHORIZATION,
    },
    "migrate/migrate": {},
    "outbox/begin": {"begin": True},
    "outbox/claim": {"claim": 10},
    "sender/send": {},
    "rotate_keys/create_secret": {
        "SecretId": "healthcare/token-keys",
        "ClientRequestToken": REQUEST_ID,
        "Step": "createSecret",
    },
    "traffic_hook/before_traffic": {"DeploymentId": "d-A1B2C3D4E", "LifecycleEventHookExecutionId": REQUEST_ID},
    "migrate/verify_audit": {"verify_audit": True},
    "migrate/grant_admin": {"grant_admin": "ada@example.com"},
    "migrate/delete_doctor": {"delete_doctor": 1},
    "migrate/turn_off_second_factor": {"turn_off_second_factor": "ada@example.com"},
    "migrate/send_again": {"send_again": True},
    "migrate/erase_patient": {"erase_patient": 1},
}


def events() -> Iterator[tuple[str, Json]]:
    """Each with its path below events/, without the suffix."""
    openapi = document()
    paths = openapi["paths"] | UNDOCUMENTED
    for function, _, routes in gateway_functions():
        for name, route in routes.items():
            method, path = route["Properties"]["Method"], route["Properties"]["Path"]
            operation = _resolved(paths[path][method], openapi)
            yield f"{function}/{_snake_case(name)}", _event(method.upper(), path, operation)
    yield from OF_NO_ROUTE.items()


def day() -> list[str]:
    """The events of routes in an order that works: as they are declared, but deletions last and backwards."""
    names = {name: event for name, event in events() if "httpMethod" in event}
    deletions = [name for name, event in names.items() if event["httpMethod"] == "DELETE"]
    return [name for name in names if name not in deletions] + deletions[::-1]


def _snake_case(name: str) -> str:
    return re.sub("(?<!^)(?=[A-Z])", "_", name).lower()


def _resolved(operation: Json, openapi: Json) -> Json:
    shared = openapi["components"]["parameters"]
    parameters = [
        shared[parameter["$ref"].rpartition("/")[2]] if "$ref" in parameter else parameter
        for parameter in operation.get("parameters", [])
    ]
    return operation | {"parameters": parameters}


def _event(method: str, resource: str, operation: Json) -> Json:
    given = {parameter["name"]: parameter for parameter in operation["parameters"]}
    path_parameters = {name: str(given[name]["example"]) for name in re.findall(r"{(\w+)}", resource)}
    samples = {
        name: p.get("example", p["schema"].get("default")) for name, p in given.items() if p.get("in") == "query"
    }
    query = {name: str(value) for name, value in samples.items() if value is not None}
    path = resource.format_map(path_parameters)
    is_open = operation.get("security") == []
    body = operation["requestBody"]["content"]["application/json"]["example"] if "requestBody" in operation else None
    headers = {
        "Accept": "*/*",
        **({} if is_open else {"Authorization": AUTHORIZATION}),
        **({"Content-Type": "application/json"} if body else {}),
        "Host": HOST,
        "User-Agent": "curl/8.14.1",
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Port": "443",
        "X-Forwarded-Proto": "https",
    }
    return {
        "resource": resource,
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueHeaders": _lists(headers),
        "queryStringParameters": query or None,
        "multiValueQueryStringParameters": _lists(query) or None,
        "pathParameters": path_parameters or None,
        "stageVariables": None,
        "requestContext": _request_context(method, resource, path, is_open),
        "body": json.dumps(body, ensure_ascii=False) if body else None,
        "isBase64Encoded": False,
    }


def _lists(values: dict[str, str]) -> dict[str, list[str]]:
    return {name: [value] for name, value in values.items()}


def _request_context(method: str, resource: str, path: str, is_open: bool) -> dict[str, Any]:
    return {
        "accountId": ACCOUNT,
        "apiId": API,
        **({} if is_open else {"authorizer": CALLER}),
        "domainName": HOST,
        "domainPrefix": HOST.partition(".")[0],
        "extendedRequestId": "MmT5hGb4oAMEZkQ=",
        "httpMethod": method,
        "identity": {"sourceIp": "203.0.113.7", "userAgent": "curl/8.14.1"},
        "path": f"/{STAGE}{path}",
        "protocol": "HTTP/1.1",
        "requestId": REQUEST_ID,
        "requestTime": "02/Mar/2026:09:30:00 +0000",
        "requestTimeEpoch": 1772443800000,
        "resourceId": "r1s2t3",
        "resourcePath": resource,
        "stage": STAGE,
    }


def files() -> dict[Path, str]:
    return {EVENTS / f"{name}.json": json.dumps(event, indent=2, ensure_ascii=False) + "\n" for name, event in events()}
