"""The gateway responses of the template: what API Gateway itself answers when it does not pass a request on."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html
DEFAULTS: Mapping[str, tuple[int, str]] = {
    "ACCESS_DENIED": (403, "User is not authorized to access this resource with an explicit deny"),
    "AUTHORIZER_CONFIGURATION_ERROR": (500, "Internal server error"),
    "AUTHORIZER_FAILURE": (500, "Internal server error"),
    "DEFAULT_4XX": (400, "Bad Request"),
    "DEFAULT_5XX": (502, "Internal server error"),
    "INVALID_SIGNATURE": (403, "Invalid key=value pair (missing equal-sign) in Authorization header"),
    "MISSING_AUTHENTICATION_TOKEN": (403, "Missing Authentication Token"),
    "REQUEST_TOO_LARGE": (413, "Request Too Long"),
    "UNAUTHORIZED": (401, "Unauthorized"),
}

FALLBACK: Mapping[str, Any] = {
    "ResponseParameters": {"Headers": {"Content-Type": "'application/problem+json'"}},
    "ResponseTemplates": {"application/json": '{"title": $context.error.messageString}'},
}


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: str


class GatewayResponses:
    def __init__(self, template: Mapping[str, Any]) -> None:
        """`template`: the property GatewayResponses of an AWS::Serverless::Api."""
        self._template = template

    def answer(
        self, kind: str, context: Mapping[str, str], *, status: int | None = None, message: str | None = None
    ) -> Answer:
        """`status` and `message` of the case at hand count where the template does not set its own."""
        default_status, default_message = DEFAULTS[kind]
        default_status = status or default_status
        response = self._of(kind, default_status)
        message = message or default_message
        status = int(response.get("StatusCode") or default_status)
        variables = {
            **context,
            "error.message": message,
            "error.messageString": json.dumps(message),
            "error.responseType": kind,
            "status": str(status),
        }
        templates = response.get("ResponseTemplates") or FALLBACK["ResponseTemplates"]
        media_type, body = next(iter(templates.items()))
        headers = {"Content-Type": media_type}
        for name, value in (response.get("ResponseParameters") or {}).get("Headers", {}).items():
            headers[name] = _mapped(str(value), variables)
        return Answer(status, headers, _filled(body, variables))

    def _of(self, kind: str, status: int) -> Mapping[str, Any]:
        default = "DEFAULT_4XX" if status < 500 else "DEFAULT_5XX"
        response: Mapping[str, Any] = self._template.get(kind) or self._template.get(default) or FALLBACK
        return response


def _mapped(value: str, variables: Mapping[str, str]) -> str:
    if value.startswith("'"):
        return value.strip("'")
    return variables.get(value.removeprefix("context."), "")


def _filled(template: str, variables: Mapping[str, str]) -> str:
    """API Gateway puts values in as they are; escaping them keeps the body JSON whatever the request was."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        text = variables.get(name, "")
        return text if name == "error.messageString" else json.dumps(text)[1:-1]

    return re.sub(r"\$context\.(\w+(?:\.\w+)*)", value, template)
