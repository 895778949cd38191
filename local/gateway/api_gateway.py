"""API Gateway without containers: SAM CLI's routing, events and authorizers, with pools of processes as its functions.

Everything here and in `template` that begins with `samcli` is private to SAM CLI, which is why its version is pinned
exactly and why none of it is imported anywhere else.
"""

import json
import re
import time
import traceback
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote
from wsgiref.types import WSGIApplication

from flask import Response, g, request
from samcli.lib.providers.provider import Cors
from samcli.local.apigw.exceptions import InvalidLambdaAuthorizerResponse, LambdaResponseParseException
from samcli.local.apigw.local_apigw_service import LocalApigwService
from samcli.local.apigw.route import Route
from werkzeug import Response as AnyResponse
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException

from local.console import Console
from local.environments.function import InvocationFailed
from local.environments.pool import EventTooLarge, Pool
from local.gateway.template import Template
from local.pages import Pages


class Refused(Exception):
    """The request ends with a gateway response."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Gateway(LocalApigwService):  # type: ignore[misc]  # SAM CLI has no types
    """Answers as API Gateway does. The order of the checks is here, each check is SAM CLI's."""

    def __init__(
        self, template: Template, pools: Mapping[str, Pool], pages: Pages, console: Console, port: int
    ) -> None:
        super().__init__(template.api, template.runner, port=port, host="127.0.0.1")
        self._responses = template.responses
        self._pools = pools
        self._pages = pages
        self._console = console
        self.create()
        self._app.url_map.merge_slashes = False
        self._app.before_request(self._begin)

    @property
    def application(self) -> WSGIApplication:
        application: WSGIApplication = self._app
        return application

    def routes(self) -> list[tuple[str, str, bool]]:
        """Path, method, and whether it is open."""
        routes = [
            (route.path, method, not route.authorizer_object) for route in self.api.routes for method in route.methods
        ]
        return sorted(route for route in routes if route[1] != "OPTIONS")

    def refuse(self, path: str, status: int, message: str) -> tuple[int, Headers, bytes]:
        """For a request that is not even HTTP, so that it never came to the application."""
        kind = "REQUEST_TOO_LARGE" if status == 413 else "DEFAULT_4XX" if status < 500 else "DEFAULT_5XX"
        context = _context(path.partition("?")[0], "", str(uuid.uuid4()))
        answer = self._responses.answer(kind, context, status=status, message=message)
        return answer.status, Headers(answer.headers), answer.body.encode()

    def _begin(self) -> AnyResponse | None:
        g.request_id = str(uuid.uuid4())
        g.started = time.monotonic()
        page = self._pages.get(request.path) if request.method == "GET" else None
        return page() if page else None

    def _request_handler(self, **_: str) -> Response:
        route: Route | None = self._dict_of_routes.get(self._route_key(request.method, request.endpoint))
        if route is None:
            raise Refused(_kind_without_route())
        if request.method == "OPTIONS" and self.api.cors:
            headers = Cors.cors_to_headers(self.api.cors, request.headers.get("Origin"), route.event_type)
            return Response(status=200, headers=headers, mimetype="application/json")
        event = self._generate_lambda_event(request, route, request.method, request.endpoint)
        event["requestContext"] |= _request_context()
        if route.authorizer_object:
            event["requestContext"]["authorizer"] = self._authorized(route)
        _put_headers(event)
        return self._function_response(route, event)

    def _authorized(self, route: Route) -> dict[str, str]:
        authorizer = route.authorizer_object
        if not self._valid_identity_sources(request, route):
            raise Refused("UNAUTHORIZED")
        event = self._generate_lambda_authorizer_event(request, route, authorizer)
        try:
            answer = self._invoke_lambda_function(authorizer.lambda_name, event)
        except InvocationFailed as error:
            # How a function says it: https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-use-lambda-authorizer.html
            if str(error) == "Unauthorized":
                raise Refused("UNAUTHORIZED") from None
            self._report(authorizer.lambda_name, error)
            raise Refused("AUTHORIZER_FAILURE") from error
        try:
            if not authorizer.is_valid_response(answer, event["methodArn"]):
                raise Refused("ACCESS_DENIED")
            return _as_strings(authorizer.get_context(answer))
        except InvalidLambdaAuthorizerResponse as error:
            self._report(authorizer.lambda_name, error)
            raise Refused("AUTHORIZER_CONFIGURATION_ERROR") from error

    def _function_response(self, route: Route, event: dict[str, Any]) -> Response:
        try:
            answer = self._invoke_lambda_function(route.function_name, event)
            status, headers, body = self._parse_v1_payload_format_lambda_output(
                answer, self.api.binary_media_types, request, route.event_type
            )
            return Response(body, status, headers)
        except EventTooLarge:
            raise Refused("REQUEST_TOO_LARGE") from None
        except (InvocationFailed, LambdaResponseParseException, ValueError, TypeError) as error:
            # ValueError and TypeError: a status or headers that HTTP can't carry.
            self._report(route.function_name, error)
            raise Refused("DEFAULT_5XX") from error

    def _invoke_lambda_function(self, name: str, event: dict[str, Any], tenant_id: str | None = None) -> str:
        return self._pools[name].invoke(json.dumps(event).encode()).decode()

    def _create_method_arn(self, flask_request: Any, event_type: str) -> str:
        """With the path as it came: a line break in it would escape SAM CLI's comparison with the policy."""
        arn: str = super()._create_method_arn(flask_request, event_type)
        return arn.removesuffix(flask_request.path) + quote(flask_request.path)

    def _construct_error_handling(self) -> None:
        self._app.register_error_handler(Refused, self._refused)
        self._app.register_error_handler(HTTPException, self._not_routed)
        self._app.register_error_handler(Exception, self._failed)

    def _refused(self, refusal: Refused) -> Response:
        return self._gateway_response(refusal.kind)

    def _not_routed(self, error: HTTPException) -> Response:
        if error.code in (404, 405):
            return self._gateway_response(_kind_without_route())
        return self._gateway_response("DEFAULT_4XX", status=400)

    def _failed(self, error: Exception) -> Response:
        for line in traceback.format_exception(error):
            self._console.log("gateway", "ERROR", line.rstrip())
        return self._gateway_response("DEFAULT_5XX", status=500)

    def _gateway_response(self, kind: str, *, status: int | None = None) -> Response:
        context = _context(quote(request.path), request.method, g.request_id)
        answer = self._responses.answer(kind, context, status=status)
        elapsed = round((time.monotonic() - g.started) * 1000)
        line = f"{request.method} {quote(request.path)} {answer.status} {elapsed} ms {kind} request_id={g.request_id}"
        self._console.log("gateway", "INFO", line)
        return Response(answer.body, answer.status, Headers(answer.headers))

    def _report(self, function: str, error: Exception) -> None:
        message = re.sub(r"\s+", " ", str(error))[:500]
        self._console.log("gateway", "ERROR", f"{function} failed: {message}")


def _kind_without_route() -> str:
    """API Gateway then reads Authorization as a signature of AWS. It tells no unknown path from an unknown method."""
    return "INVALID_SIGNATURE" if "Authorization" in request.headers else "MISSING_AUTHENTICATION_TOKEN"


def _context(path: str, method: str, request_id: str) -> Mapping[str, str]:
    return {"path": path, "httpMethod": method, "requestId": request_id, "extendedRequestId": request_id}


def _request_context() -> dict[str, Any]:
    """SAM CLI makes up most of these once per process. The path has no stage in front, as with a domain of its own."""
    now = time.time()
    return {
        "requestId": g.request_id,
        "extendedRequestId": g.request_id,
        "path": request.path,
        "requestTime": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
        "requestTimeEpoch": int(now * 1000),
        "identity": {"sourceIp": request.remote_addr, "userAgent": request.headers.get("User-Agent")},
    }


def _put_headers(event: dict[str, Any]) -> None:
    """Flask joins headers of the same name; API Gateway gives all of them, and the last one."""
    headers: dict[str, list[str]] = {}
    for name, value in request.environ["local.headers"]:
        headers.setdefault(name, []).append(value)
    for name, values in headers.items():
        event["headers"][name] = values[-1]
        event["multiValueHeaders"][name] = values


def _as_strings(context: Mapping[str, Any]) -> dict[str, str]:
    """API Gateway passes an authorizer's numbers and booleans on as text, and refuses anything deeper."""
    strings = {}
    for name, value in context.items():
        if isinstance(value, (dict, list)):
            raise InvalidLambdaAuthorizerResponse(f"the context value {name} is not a string, number or boolean")
        if value is not None:
            strings[name] = value if isinstance(value, str) else json.dumps(value)
    return strings
