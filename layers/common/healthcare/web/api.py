"""How a function answers API Gateway: typed arguments in; problem+json, ETag, pages, retries and the access log out.

API Gateway has matched the path already and hands over which route it was (`resource`), so a route is found by a
look-up. A handler's parameters are filled by their names:

- `session`: the caller's database session (a route with `open=True` gets one that nobody has signed in to);
- `body`: the JSON body, as the pydantic model of its annotation;
- `query`: the query string, as the pydantic model of its annotation;
- `if_match`: the versions of If-Match, None when it was not sent or is `*`;
- `source_ip`: the client's address;
- any other: the path parameter of that name.
"""

import inspect
import json
import re
import time
import traceback
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, get_type_hints
from urllib.parse import quote, urlencode

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from healthcare import errors
from healthcare.database.connection import ConnectionLost, Session
from healthcare.fields import PATTERN_IN_WORDS, Input, Page
from healthcare.platform.logs import log
from healthcare.platform.settings import settings
from healthcare.web import idempotency

BODY_LIMIT = 100 * 1024
PROBLEMS_SHOWN = 100
ETAG = r'(?:W/)?"[\x21\x23-\x7e]*"'  # RFC 9110, 8.8.3; a comma may be part of it

# The one table from error to status. A subclass has its parent's.
STATUS: Mapping[type[errors.Refusal], int] = {
    errors.MalformedBody: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Stale: 412,
    errors.BodyTooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.Invalid: 422,
    errors.IdempotencyKeyReused: 422,
    errors.TooManyAttempts: 429,
    errors.Unavailable: 503,
}

EXPOSED_HEADERS = "ETag, Location, Link, Retry-After, X-Request-Id"

# Where pydantic's own words would puzzle the reader.
TYPE_IN_WORDS = {
    "extra_forbidden": "There is nothing of this name to send",
    "date_type": "Input should be a date as YYYY-MM-DD",
    "date_parsing": "Input should be a date as YYYY-MM-DD",
    "date_from_datetime_parsing": "Input should be a date as YYYY-MM-DD",
    "date_from_datetime_inexact": "Input should be a date as YYYY-MM-DD",
}

Handler = Callable[..., BaseModel | None]
Headers = dict[str, str]
Response = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    handler: Handler
    status: int
    open: bool
    location: str | None
    refusals: tuple[type[errors.Refusal], ...]
    body: type[BaseModel] | None = None
    query: type[BaseModel] = Input
    if_match: bool = False
    session: bool = False
    source_ip: bool = False
    path_types: Mapping[str, TypeAdapter[Any]] = field(default_factory=dict)

    @property
    def creates(self) -> bool:
        """Whether it takes an Idempotency-Key."""
        return self.status == 201 and not self.open


class Api:
    """The routes of one function."""

    def __init__(self) -> None:
        self.routes: dict[tuple[str, str], Route] = {}

    def route(
        self,
        method: str,
        path: str,
        *,
        status: int = 200,
        open: bool = False,
        location: str | None = None,
        refusals: Sequence[type[errors.Refusal]] = (),
    ) -> Callable[[Handler], Handler]:
        """`location` is a template of the answer's fields; `refusals` are those that its parameters do not imply."""

        def register(handler: Handler) -> Handler:
            types = get_type_hints(handler, include_extras=True)
            names = inspect.signature(handler).parameters.keys()
            self.routes[method, path] = Route(
                method,
                path,
                handler,
                status,
                open,
                location,
                tuple(refusals),
                body=types.get("body"),
                query=types.get("query", Input),
                if_match="if_match" in names,
                session="session" in names,
                source_ip="source_ip" in names,
                path_types={name: TypeAdapter(types[name]) for name in re.findall(r"{(\w+)}", path)},
            )
            return handler

        return register

    def handle(self, event: Mapping[str, Any], context: object) -> Response:
        """Answers a proxy event of a REST API. Nothing that a client sends makes it raise."""
        request = Request(event)
        try:
            response = self._answer(request)
        except errors.Refusal as refusal:
            response = request.refused(refusal)
        except Exception as error:
            # The text of an exception may hold a value of somebody's; its type and its place do not.
            log(
                "ERROR",
                "unexpected error",
                error=f"{type(error).__module__}.{type(error).__qualname__}",
                sqlstate=getattr(error, "sqlstate", None),
                request_id=request.id,
                stack="".join(traceback.format_tb(error.__traceback__)),
            )
            response = request.problem(500, "internal-error", "Internal error", "Something went wrong on our side.")
        request.log(response["statusCode"])
        return response

    def _answer(self, request: "Request") -> Response:
        route = self.routes.get((request.method, request.resource))
        if route is None:
            raise errors.NotFound("There is nothing at this address.")
        session = request.session(route)
        arguments = request.arguments(route, session)

        def respond() -> Response:
            return request.respond(route, route.handler(**arguments))

        key = request.idempotency_key() if route.creates else None
        if key is not None:
            body = arguments["body"].model_dump_json()
            fingerprint = sha256(f"{route.method} {route.path}\n{body}".encode()).digest()
            return request.finish(_repeated(lambda: idempotency.once(session, key, fingerprint, respond)))
        if route.method == "GET":
            return request.finish(_repeated(respond))
        return request.finish(respond())


def _repeated(answer: Callable[[], Response]) -> Response:
    """Once more after a lost connection, for what does no harm when it is done twice."""
    try:
        return answer()
    except ConnectionLost:
        return answer()


class Request:
    """One proxy event, and the answers to it."""

    def __init__(self, event: Mapping[str, Any]) -> None:
        self._event = event
        self._context: Mapping[str, Any] = event["requestContext"]
        self._started = time.perf_counter()
        # A header that comes in several lines is one whose values are listed (RFC 9110, 5.3).
        lines = event.get("multiValueHeaders") or {
            name: [value] for name, value in (event.get("headers") or {}).items()
        }
        self._headers = {name.lower(): ", ".join(values) for name, values in lines.items()}
        self._caller: Mapping[str, Any] = self._context.get("authorizer") or {}
        self._session: Session | None = None
        self._listed: list[int] | None = None
        self.id: str = self._context["requestId"]
        self.method: str = event["httpMethod"]
        self.resource: str = event["resource"]
        self.path: str = event["path"]

    # In -------------------------------------------------------------------------------------------------------------

    def session(self, route: Route) -> Session:
        if route.open:
            self._session = Session(None, "anonymous", self.id)
            return self._session
        # API Gateway caches what the authorizer said; a token's end is looked at for each request.
        if "user_id" not in self._caller or time.time() >= int(self._caller["exp"]):
            raise errors.Unauthenticated("Send a valid access token as `Authorization: Bearer <token>`.")
        return Session(int(self._caller["user_id"]), self._caller["role"], self.id)

    def arguments(self, route: Route, session: Session) -> dict[str, Any]:
        """Everything that is wrong with the request is said at once, except for a body that cannot be read at all."""
        problems: list[tuple[str, str]] = []
        arguments: dict[str, Any] = {}
        parameters = self._event.get("pathParameters") or {}
        for name, type_ in route.path_types.items():
            try:
                arguments[name] = type_.validate_python(parameters[name])
            except ValidationError as error:
                problems += _problems(error, f"path/{name}")
        given = self._event.get("multiValueQueryStringParameters") or {}
        problems += [(f"query/{name}", "Input should be given once") for name, all_ in given.items() if len(all_) > 1]
        try:
            query = route.query.model_validate(self._query())
            if route.query is not Input:
                arguments["query"] = query
        except ValidationError as error:
            problems += _problems(error, "query")
        if route.if_match:
            arguments["if_match"] = self._if_match(problems)
        if route.body:
            try:
                arguments["body"] = route.body.__pydantic_validator__.validate_json(self._body())
            except ValidationError as error:
                problems += self._body_problems(error)
        if problems:
            raise errors.Invalid(problems[:PROBLEMS_SHOWN])
        if route.session:
            arguments["session"] = session
        if route.source_ip:
            arguments["source_ip"] = self._context["identity"]["sourceIp"]
        return arguments

    def _query(self) -> dict[str, str]:
        return dict(self._event.get("queryStringParameters") or {})

    def _body(self) -> bytes:
        media_type = self._headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        accepted = ["application/json", *(["application/merge-patch+json"] if self.method == "PATCH" else [])]
        body = self._event.get("body") or ""
        content = b64decode(body) if self._event.get("isBase64Encoded") else body.encode(errors="surrogatepass")
        if len(content) > BODY_LIMIT:
            raise errors.BodyTooLarge(f"A body may have {BODY_LIMIT:,} bytes at most.")
        if media_type not in accepted:
            raise errors.UnsupportedMediaType(f"Send the body as {accepted[0]}.")
        return content

    def _body_problems(self, error: ValidationError) -> list[tuple[str, str]]:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            return _unpaired_surrogates(self._body())
        if not first["loc"]:
            raise errors.MalformedBody("The body has to be a JSON object.")
        return _problems(error)

    def _if_match(self, problems: list[tuple[str, str]]) -> list[int] | None:
        value = self._headers.get("if-match", "*").strip()
        if value == "*":
            return None
        if not re.fullmatch(rf"{ETAG}([ \t]*,[ \t]*{ETAG})*", value):
            problems.append(("header/if-match", "Input should be an ETag as an earlier answer gave it, in quotes"))
        # A weak tag never matches here (RFC 9110, 13.1.1), nor does one that this API did not make.
        return [int(tag[1:-1]) for tag in re.findall(ETAG, value) if re.fullmatch(r'"[0-9]{1,18}"', tag)]

    def idempotency_key(self) -> str | None:
        key = self._headers.get("idempotency-key")
        if key is not None and not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
            raise errors.Invalid([("header/idempotency-key", "Input should be 1 to 255 visible ASCII characters")])
        return key

    # Out ------------------------------------------------------------------------------------------------------------

    def respond(self, route: Route, answer: BaseModel | None) -> Response:
        """Only what can be stored and given again to a retry; `finish` adds what is of this request."""
        headers: Headers = {}
        if answer is None:
            return {"statusCode": route.status, "headers": headers, "body": ""}
        version = getattr(answer, "version", None)
        if version is not None:
            headers["ETag"] = f'"{version}"'
        if route.location:
            headers["Location"] = self._stage() + route.location.format_map(dict(answer))
        if isinstance(answer, Page):
            self._listed = [getattr(item, "patient_id", item.id) for item in answer.items]
            if answer.next_cursor:
                headers["Link"] = f'<{self._next_page(answer.next_cursor)}>; rel="next"'
        headers["Content-Type"] = "application/json"
        body = answer.__pydantic_serializer__.to_json(answer).decode()
        return {"statusCode": route.status, "headers": headers, "body": body}

    def finish(self, response: Response) -> Response:
        etag = response["headers"].get("ETag")
        if self.method == "GET" and etag and self._has_seen(etag):
            del response["headers"]["Content-Type"]
            response |= {"statusCode": 304, "body": ""}
        response["headers"] |= self._headers_of_every_answer()
        return response

    def refused(self, refusal: errors.Refusal) -> Response:
        status = next(STATUS[kind] for kind in type(refusal).__mro__ if kind in STATUS)
        more: dict[str, Any] = {}
        headers: Headers = {}
        if isinstance(refusal, errors.Invalid):
            more["errors"] = [{"pointer": pointer, "detail": detail} for pointer, detail in refusal.problems]
        if isinstance(refusal, errors.TooManyAttempts | errors.Unavailable):
            headers["Retry-After"] = str(refusal.retry_after)
        if isinstance(refusal, errors.Unauthenticated):
            headers["WWW-Authenticate"] = "Bearer"
        if isinstance(refusal, errors.Unavailable):
            cause = refusal.__cause__
            log(
                "ERROR",
                "unavailable",
                error=f"{type(cause).__module__}.{type(cause).__qualname__}",
                sqlstate=getattr(cause, "sqlstate", None),
                request_id=self.id,
            )
        return self.problem(status, refusal.slug, refusal.title, refusal.detail, more, headers)

    def problem(
        self,
        status: int,
        slug: str,
        title: str,
        detail: str,
        more: Mapping[str, Any] = {},
        headers: Mapping[str, str] = {},
    ) -> Response:
        """An answer as RFC 9457 describes it."""
        body = {
            "type": f"/problems/{slug}",
            "title": title,
            "status": status,
            "detail": detail,
            "instance": _as_reference(self._stage() + self.path),
            "request_id": self.id,
            **more,
        }
        return {
            "statusCode": status,
            "headers": {
                **headers,
                "Content-Type": "application/problem+json",
                **self._headers_of_every_answer(),
            },
            "body": json.dumps(body),
        }

    def log(self, status: int) -> None:
        """The access log: who asked for what, in ids only."""
        resource_id = str((self._event.get("pathParameters") or {}).get("id"))
        log(
            "INFO",
            f"{self.method} {self.resource}",
            status=status,
            duration_ms=round((time.perf_counter() - self._started) * 1000, 1),
            user_id=self._caller.get("user_id"),
            account_id=self._session.account_id if self._session else None,
            listed=self._listed,
            resource_id=resource_id if re.fullmatch("[0-9]{1,19}", resource_id) else None,
            request_id=self.id,
        )

    def _headers_of_every_answer(self) -> Headers:
        origin = settings().cors_allowed_origin
        return {
            "X-Request-Id": self.id,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": EXPOSED_HEADERS,
            **({} if origin == "*" else {"Vary": "Origin"}),
        }

    def _has_seen(self, etag: str) -> bool:
        """If-None-Match, by weak comparison (RFC 9110, 13.1.2)."""
        value = self._headers.get("if-none-match", "").strip()
        return value == "*" or etag in re.findall(ETAG.replace("(?:W/)?", ""), value)

    def _stage(self) -> str:
        """What the client's path has in front of ours: `/prod` at an address of API Gateway's own."""
        full = self._context.get("path") or self.path
        return str(full).removesuffix(self.path) if full.endswith(self.path) else ""

    def _next_page(self, cursor: str) -> str:
        return f"{self._stage()}{self.path}?{urlencode(self._query() | {'cursor': cursor})}"


def _as_reference(path: str) -> str:
    """As RFC 9457 wants `instance`, whether or not the path came with its characters escaped."""
    return quote(re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", path), safe="/%", errors="replace")


def _problems(error: ValidationError, prefix: str = "") -> list[tuple[str, str]]:
    """Where by JSON Pointer, and what in words; never what was sent."""
    return [
        (prefix + "".join(map(_step, found["loc"])), in_words(found))
        for found in error.errors(include_url=False, include_input=False)
    ]


def _step(name: object) -> str:
    """Of a JSON Pointer (RFC 6901)."""
    return "/" + str(name).encode(errors="replace").decode().replace("~", "~0").replace("/", "~1")


def in_words(found: ErrorDetails) -> str:
    """What is wrong with a value, without the value."""
    if found["type"] == "string_pattern_mismatch":
        return PATTERN_IN_WORDS.get(found["ctx"]["pattern"], found["msg"])
    return TYPE_IN_WORDS.get(found["type"], found["msg"])


def _unpaired_surrogates(content: bytes) -> list[tuple[str, str]]:
    """Text with half a surrogate pair is well-formed JSON, but no text; what else pydantic cannot read is malformed."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    found = []
    if isinstance(body, dict):
        for name, value in body.items():
            try:
                json.dumps({name: value}, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                found.append((_step(name), "Input should be text without unpaired surrogates"))
    if not found:
        raise errors.MalformedBody("The body has to be a JSON object.")
    return found
