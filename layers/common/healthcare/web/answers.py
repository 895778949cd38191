"""What a client gets: the status, the headers and the body of an answer."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from healthcare import errors
from healthcare.errors import Refusal
from healthcare.fields import Output, Page, Text
from healthcare.web.headers import common_headers
from healthcare.web.problems import problem
from healthcare.web.request import Request

# The one table from error to status. A subclass has its parent's.
STATUS: Mapping[type[Refusal], int] = {
    errors.MalformedBody: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Gone: 410,
    errors.Stale: 412,
    errors.BodyTooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.Invalid: 422,
    errors.IdempotencyKeyReused: 422,
    errors.TooManyAttempts: 429,
    errors.InternalError: 500,
    errors.Unavailable: 503,
}

Response = dict[str, Any]
"""What API Gateway takes: `statusCode`, `headers`, `body`."""


def status_of(kind: type[Refusal]) -> int:
    return next(STATUS[parent] for parent in kind.__mro__ if parent in STATUS)


class JsonAnswers:
    """JSON, and problem+json as RFC 9457 describes it."""

    media_type = "application/json"
    problem_media_type = "application/problem+json"

    def body(self, answer: Output) -> str:
        return answer.model_dump_json()

    def problem_body(self, problem: Mapping[str, Any]) -> str:
        return json.dumps(problem, separators=(",", ":"))

    def success(self, answer: Output | None, status: int, location: str | None, request: Request) -> Response:
        """The replayable part, with the ids of the patients that it shows; `finish` adds the headers of the request."""
        if answer is None:
            return {"statusCode": status, "headers": {}, "body": "", "patients": []}
        headers = {"Content-Type": answer.media_type if isinstance(answer, Text) else self.media_type}
        version = getattr(answer, "version", None)
        if version is not None:
            headers["ETag"] = f'"{version}"'
        if location:
            headers["Location"] = request.stage() + location.format_map(dict(answer))
        if isinstance(answer, Page) and answer.next_cursor:
            next_page = urlencode(request.query | {"cursor": answer.next_cursor})
            headers["Link"] = f'<{request.stage()}{request.path}?{next_page}>; rel="next"'
        body = answer.text if isinstance(answer, Text) else self.body(answer)
        return {"statusCode": status, "headers": headers, "body": body, "patients": answer.patients()}

    def refusal(self, refusal: Refusal, request: Request) -> Response:
        headers: dict[str, str] = {}
        if refusal.retry_after is not None:
            headers["Retry-After"] = str(refusal.retry_after)
        if isinstance(refusal, errors.Unauthenticated):
            headers["WWW-Authenticate"] = "Bearer"
        status = status_of(type(refusal))
        path = request.stage() + request.path
        body = problem(refusal.slug, refusal.title, status, refusal.detail, path, request.id, **refusal.more())
        headers |= {"Content-Type": self.problem_media_type, **common_headers(request.id)}
        return {"statusCode": status, "headers": headers, "body": self.problem_body(body)}


def finish(response: Response, request: Request) -> Response:
    etag = response["headers"].get("ETag")
    if request.method == "GET" and etag and request.has_seen(etag):
        del response["headers"]["Content-Type"]
        response |= {"statusCode": 304, "body": ""}
    response["headers"] |= common_headers(request.id)
    return response
