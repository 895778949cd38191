"""API Gateway in a process: finds the route in template.yaml, asks the real authorizer, calls the real handler."""

import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import uuid4

from samcli.yamlhelper import yaml_parse

CONTEXT = SimpleNamespace(
    function_name="function",
    memory_limit_in_mb=256,
    invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:function",
    aws_request_id="00000000-0000-4000-8000-000000000000",
)
ARN = "arn:aws:execute-api:us-east-1:123456789012:api/v1"


@cache
def template() -> Any:
    return yaml_parse(Path("template.yaml").read_text())


@cache
def routes() -> list[tuple[str, str, str, bool]]:
    """Method, path, the function's folder, and whether it is open; literal paths before those with a variable."""
    found = []
    for resource in template()["Resources"].values():
        if resource["Type"] != "AWS::Serverless::Function":
            continue
        for event in resource["Properties"].get("Events", {}).values():
            properties = event["Properties"]
            is_open = properties.get("Auth", {}).get("Authorizer") == "NONE"
            folder = Path(resource["Properties"]["CodeUri"]).name
            found.append((properties["Method"].upper(), properties["Path"], folder, is_open))
    return sorted(found, key=lambda route: "{" in route[1])


@cache
def role_of(folder: str) -> str | None:
    """Whom a function logs in to PostgreSQL as."""
    for part in (*template()["Resources"].values(), template()["Globals"]["Function"]):
        properties = part.get("Properties", part)
        variables = properties.get("Environment", {}).get("Variables", {})
        if "PGUSER" in variables and properties.get("CodeUri", folder).endswith(folder):
            return str(variables["PGUSER"])
    return None


class Environment:
    """One warm environment of a function: with its own copy of the layer, and so its own connection."""

    def __init__(self, folder: Path) -> None:
        shared = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "healthcare"}
        spec = importlib.util.spec_from_file_location(f"function_{folder.name}_{uuid4().hex}", folder / "app.py")
        assert spec
        assert spec.loader
        self.app = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.app)
        self.modules: Mapping[str, ModuleType] = {
            name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "healthcare"
        }
        sys.modules |= shared
        self._role = role_of(folder.name)
        self._database: str | None = None

    def invoke(self, event: Mapping[str, Any]) -> Any:
        if self._role:
            os.environ["PGUSER"] = self._role
        return self.app.lambda_handler(event, CONTEXT)

    def stay_with(self, database: str) -> None:
        """Keeps its connection if that goes to this database."""
        if self._database != database:
            self.disconnect()
            self._database = database

    def disconnect(self) -> None:
        if "healthcare.database.connection" in self.modules:
            self.modules["healthcare.database.connection"].disconnect()


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    def expect(self, status: int) -> Any:
        """The body, once the status is what was expected."""
        assert self.status == status, (self.status, self.text)
        return self.json if self.text else None

    def refuse(self, status: int, slug: str) -> Any:
        """The problem, once it is one of this kind and complete."""
        problem = self.expect(status)
        assert self.headers["Content-Type"] == "application/problem+json"
        assert problem["type"] == f"/problems/{slug}", problem
        assert problem["status"] == status
        assert problem["request_id"] == self.headers["X-Request-Id"]
        assert {"title", "detail", "instance"} <= problem.keys()
        return problem


class Gateway:
    def __init__(self, environments: Mapping[str, Environment]) -> None:
        self.environments = environments

    def disconnect(self) -> None:
        for environment in self.environments.values():
            environment.disconnect()

    def request(self, event: dict[str, Any]) -> Answer:
        for method, resource, folder, is_open in routes():
            match = re.fullmatch(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", resource), event["path"])
            if match and method == event["httpMethod"]:
                return self._forward(event, resource, match.groupdict(), folder, is_open)
        raise AssertionError(f"no route for {event['httpMethod']} {event['path']}")

    def _forward(
        self, event: dict[str, Any], resource: str, parameters: Mapping[str, str], folder: str, is_open: bool
    ) -> Answer:
        event["resource"] = resource
        event["pathParameters"] = {name: unquote(value) for name, value in parameters.items()} or None
        if not is_open:
            event["requestContext"]["authorizer"] = self.authorize(event["headers"].get("Authorization", ""))
        answer = self.environments[folder].invoke(event)
        return Answer(answer["statusCode"], answer["headers"], answer["body"])

    def authorize(self, authorization: str) -> dict[str, Any] | None:
        event = {"type": "TOKEN", "authorizationToken": authorization, "methodArn": f"{ARN}/GET/api/patients"}
        answer = self.environments["authorizer"].invoke(event)
        effect = answer["policyDocument"]["Statement"][0]["Effect"]
        assert effect == "Allow", "API Gateway would have answered 401"
        return {**answer["context"], "principalId": answer["principalId"]}


class Client:
    """Somebody's app. `user` holds the account and its password, `tokens` what the login gave."""

    def __init__(
        self,
        gateway: Gateway,
        token: str | None = None,
        user: Mapping[str, Any] | None = None,
        tokens: Mapping[str, Any] | None = None,
    ) -> None:
        self.gateway = gateway
        self.token = token
        self.user = user or {}
        self.tokens = tokens or {}

    def request(
        self,
        method: str,
        url: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        lines: Mapping[str, list[str]] | None = None,
        source_ip: str = "203.0.113.7",
    ) -> Answer:
        """`body` goes as JSON, or as it is when it is text; `lines` are headers that come in several."""
        parts = urlsplit(url)
        query = parse_qs(parts.query, keep_blank_values=True)
        sent = {"Content-Type": "application/json", **({"Authorization": f"Bearer {self.token}"} if self.token else {})}
        sent |= headers or {}
        return self.gateway.request(
            {
                "httpMethod": method,
                "path": parts.path,
                "headers": sent,
                "multiValueHeaders": {name: [value] for name, value in sent.items()} | dict(lines or {}),
                "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
                "multiValueQueryStringParameters": query or None,
                "body": body if isinstance(body, str | None) else json.dumps(body),
                "isBase64Encoded": False,
                "requestContext": {
                    "requestId": str(uuid4()),
                    "path": f"/v1{parts.path}",
                    "stage": "v1",
                    "identity": {"sourceIp": source_ip},
                    "requestTimeEpoch": int(time.time() * 1000),
                },
            }
        )

    def get(self, url: str, **options: Any) -> Answer:
        return self.request("GET", url, **options)

    def post(self, url: str, body: object, **options: Any) -> Answer:
        return self.request("POST", url, body, **options)

    def put(self, url: str, body: object, **options: Any) -> Answer:
        return self.request("PUT", url, body, **options)

    def patch(self, url: str, body: object, **options: Any) -> Answer:
        return self.request("PATCH", url, body, **options)

    def delete(self, url: str, **options: Any) -> Answer:
        return self.request("DELETE", url, **options)

    def create(self, url: str, **body: object) -> Any:
        return self.post(url, body).expect(201)

    def walk(self, url: str) -> list[Any]:
        """All items of a list, page by page."""
        items: list[Any] = []
        cursor = ""
        separator = "&" if "?" in url else "?"
        while cursor is not None:
            page = self.get(f"{url}{separator}cursor={cursor}" if cursor else url).expect(200)
            items += page["items"]
            cursor = page["next_cursor"]
        return items
