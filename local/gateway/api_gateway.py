"""API Gateway without containers: SAM CLI's parsing, routing, events and authorizers, with another runtime under them.

Everything here that begins with `samcli` is private to SAM CLI, which is why its version is pinned exactly and why
none of it is imported anywhere else.
"""

import json
import logging
import os
import re
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from wsgiref.types import WSGIApplication

from flask import Response, g, request
from samcli.commands.local.lib.local_lambda import LocalLambdaRunner
from samcli.lib.providers.api_provider import ApiProvider
from samcli.lib.providers.provider import Api, Cors
from samcli.lib.providers.sam_function_provider import SamFunctionProvider
from samcli.lib.providers.sam_stack_provider import SamLocalStackProvider
from samcli.local.apigw.exceptions import InvalidLambdaAuthorizerResponse, LambdaResponseParseException
from samcli.local.apigw.local_apigw_service import LocalApigwService
from samcli.local.apigw.route import Route
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException

from local.console import Console
from local.environments.pool import EventTooLarge, Function, InvocationFailed, Pool, TimedOut
from local.gateway.responses import Answer, GatewayResponses

API = "Api"


class RouteLine(NamedTuple):
    path: str
    method: str
    is_open: bool


class Refused(Exception):
    """The request ends with a gateway response."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Template:
    """What the local run needs of template.yaml, with parameters and intrinsic functions resolved."""

    def __init__(self, file: Path) -> None:
        logging.getLogger("samcli").setLevel(logging.ERROR)
        # The functions take this variable's value by themselves; preflights and the gateway's errors do not.
        origin = os.environ.get("CORS_ALLOWED_ORIGIN")
        overrides = {"CorsAllowedOrigin": origin} if origin else {}
        stacks, _ = SamLocalStackProvider.get_stacks(str(file), parameter_overrides=overrides)
        self.folder = file.parent
        self.functions = SamFunctionProvider(stacks)
        self.api: Api = ApiProvider(stacks, cwd=str(file.parent)).api
        properties = stacks[0].resources[API]["Properties"]
        self.responses = GatewayResponses(properties.get("GatewayResponses") or {})


class PoolsAsRuntime:
    """Takes the place of SAM CLI's LambdaRuntime, which would start a container."""

    def __init__(self, make_pool: Callable[[Function], Pool]) -> None:
        self._make_pool = make_pool
        self.pools: dict[str, Pool] = {}

    def add(self, config: Any) -> None:
        function = Function(
            name=config.name,
            handler=config.handler,
            folder=Path(config.code_abs_path),
            layers=tuple(Path(layer.codeuri).resolve() for layer in config.layers),
            timeout=config.timeout,
            variables=config.env_vars.resolve(),
        )
        self.pools[function.name] = self._make_pool(function)

    def invoke(self, config: Any, event: str, *_: Any, stdout: Any, **__: Any) -> None:
        answer = self.pools[config.name].invoke(event.encode()).decode()
        if '"errorMessage"' in answer:
            _raise_error(json.loads(answer))
        stdout.write_str(answer)


class Gateway(LocalApigwService):  # type: ignore[misc]
    """Answers as API Gateway does. The order of the checks is here, each check is SAM CLI's."""

    def __init__(self, template: Template, runtime: PoolsAsRuntime, console: Console, port: int) -> None:
        runner = LocalLambdaRunner(runtime, template.functions, str(template.folder), str(template.folder))
        super().__init__(template.api, runner, port=port, host="127.0.0.1")
        for function in template.functions.get_all():
            runtime.add(runner.get_invoke_config(function))
        self._responses = template.responses
        self._console = console
        self.create()
        self._app.url_map.merge_slashes = False
        self._app.before_request(_note_request)

    @property
    def application(self) -> WSGIApplication:
        application: WSGIApplication = self._app
        return application

    def route_lines(self) -> Iterator[RouteLine]:
        for route in self.api.routes:
            for method in route.methods:
                if method != "OPTIONS":
                    yield RouteLine(route.path, method, route.authorizer_object is None)

    def refuse(self, path: str, status: int, message: str) -> tuple[int, Headers, bytes]:
        """For a request that is not even HTTP, so that it never came to the application."""
        kind = "REQUEST_TOO_LARGE" if status == 413 else "DEFAULT_4XX" if status < 500 else "DEFAULT_5XX"
        context = _context(path.partition("?")[0], "", str(uuid.uuid4()))
        answer = self._responses.answer(kind, context, status=status, message=message)
        return answer.status, Headers(answer.headers), answer.body.encode()

    def _request_handler(self, **_: str) -> Response:
        route: Route | None = self._dict_of_routes.get(self._route_key(request.method, request.endpoint))
        if route is None:
            raise Refused("MISSING_AUTHENTICATION_TOKEN")
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
        except TimedOut as error:
            self._report(route.function_name, error)
            raise Refused("INTEGRATION_TIMEOUT") from error
        except (InvocationFailed, LambdaResponseParseException, ValueError, TypeError) as error:
            # ValueError and TypeError: a status or headers that HTTP can't carry.
            self._report(route.function_name, error)
            raise Refused("DEFAULT_5XX") from error

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
        # API Gateway does not tell an unknown path from a known one with another method.
        if error.code in (404, 405):
            return self._gateway_response("MISSING_AUTHENTICATION_TOKEN")
        return self._gateway_response("DEFAULT_4XX", status=400)

    def _failed(self, error: Exception) -> Response:
        for line in traceback.format_exception(error):
            self._console.log("gateway", "ERROR", line.rstrip())
        return self._gateway_response("DEFAULT_5XX", status=500)

    def _gateway_response(self, kind: str, *, status: int | None = None) -> Response:
        context = _context(quote(request.path), request.method, g.request_id)
        answer: Answer = self._responses.answer(kind, context, status=status)
        elapsed = round((time.monotonic() - g.started) * 1000)
        line = f"{request.method} {quote(request.path)} {answer.status} {elapsed} ms {kind} request_id={g.request_id}"
        self._console.log("gateway", "INFO", line)
        return Response(answer.body, answer.status, Headers(answer.headers))

    def _report(self, function: str, error: Exception) -> None:
        message = re.sub(r"\s+", " ", str(error))[:500]
        self._console.log("gateway", "ERROR", f"{function} failed: {message}")


def serve_template(
    file: Path, make_pool: Callable[[Function], Pool], console: Console, port: int
) -> tuple[Gateway, dict[str, Pool]]:
    runtime = PoolsAsRuntime(make_pool)
    return Gateway(Template(file), runtime, console, port), runtime.pools


def _raise_error(answer: object) -> None:
    """A function that raises is only to be told from one that returns by the names in its answer."""
    if isinstance(answer, dict) and {"errorMessage", "errorType"} <= answer.keys():
        raise InvocationFailed(str(answer["errorMessage"]))


def _note_request() -> None:
    g.request_id = str(uuid.uuid4())
    g.started = time.monotonic()


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
