"""What a client sent: a proxy event of a REST API, read and checked."""

import json
import re
import time
from base64 import b64decode
from collections.abc import Container, Mapping
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from healthcare.database.connection import Database
from healthcare.errors import BodyTooLarge, Invalid, MalformedBody, Unauthenticated, UnsupportedMediaType
from healthcare.fields import PATTERN_IN_WORDS, IdText, Input

BODY_LIMIT = 100 * 1024
PROBLEMS_SHOWN = 100
OPAQUE_TAG = r'"[\x21\x23-\x7e]*"'  # RFC 9110, 8.8.3; a comma may be part of it
ETAG = rf"(?:W/)?{OPAQUE_TAG}"

# Where pydantic's own words would puzzle the reader.
TYPE_IN_WORDS = {
    "extra_forbidden": "Unknown field",
    "date_from_datetime_parsing": "Input should be a date as YYYY-MM-DD",
}

_OWNER_ID: TypeAdapter[int] = TypeAdapter(IdText)

Problems = list[tuple[str, str]]
"""A pointer and a text each: JSON Pointer into the body, `query/x`, `path/x` or `header/x`."""


class Request:
    def __init__(self, event: Mapping[str, Any]) -> None:
        self._event = event
        self._context: Mapping[str, Any] = event["requestContext"]
        # A header that comes in several lines is one whose values are listed (RFC 9110, 5.3).
        lines = event.get("multiValueHeaders") or {
            name: [value] for name, value in (event.get("headers") or {}).items()
        }
        self._headers = {name.lower(): ", ".join(values) for name, values in lines.items()}
        self._caller: Mapping[str, Any] = self._context.get("authorizer") or {}
        self.id: str = self._context["requestId"]
        self.method: str = event["httpMethod"]
        self.resource: str = event["resource"]
        self.path: str = event["path"]
        self.query: dict[str, str] = dict(event.get("queryStringParameters") or {})
        self.user_id: str | None = self._caller.get("user_id")
        self.acting_for: int | None = None  # once it has been read

    def refuse_acting_for(self) -> None:
        if "acting-for" in self._headers:
            raise Invalid([("header/acting-for", "This route takes no Acting-For")])

    def database(self, *, discloses: bool) -> Database:
        """As the caller sees it, or the owner for whom the caller acts. Raises Unauthenticated and Invalid.

        API Gateway caches what the authorizer said, so a token's end is looked at for each request.
        """
        if "user_id" not in self._caller or time.time() >= int(self._caller["exp"]):
            raise Unauthenticated
        if "acting-for" in self._headers:
            try:
                self.acting_for = _OWNER_ID.validate_python(self._headers["acting-for"])
            except ValidationError as error:
                raise Invalid(problems_of(error, "header/acting-for")) from None
        return Database(
            int(self._caller["user_id"]),
            self._caller["role"],
            self.id,
            acting_for=self.acting_for,
            purpose="write" if self.method != "GET" else "disclose" if discloses else "read",
        )

    def arguments(
        self,
        path_types: Mapping[str, TypeAdapter[Any]],
        query: type[BaseModel],
        body: type[BaseModel] | None,
        names: Container[str],
    ) -> dict[str, Any]:
        """A handler's arguments. Raises Invalid with everything that is wrong at once, and what `_body` raises."""
        problems: Problems = []
        arguments: dict[str, Any] = {}
        parameters = self._event.get("pathParameters") or {}
        for name, type_ in path_types.items():
            try:
                arguments[name] = type_.validate_python(parameters[name])
            except ValidationError as error:
                problems += problems_of(error, f"path/{name}")
        given = self._event.get("multiValueQueryStringParameters") or {}
        problems += [(f"query/{name}", "Input should be given once") for name, all_ in given.items() if len(all_) > 1]
        try:
            validated = query.model_validate(self.query)
            if query is not Input:
                arguments["query"] = validated
        except ValidationError as error:
            problems += problems_of(error, "query")
        if "if_match" in names:
            arguments["if_match"] = self._if_match(problems)
        if body:
            content = self._body()
            try:
                arguments["body"] = body.model_validate_json(content)
            except ValidationError as error:
                problems += _body_problems(error, content)
        if problems:
            raise Invalid(problems[:PROBLEMS_SHOWN])
        if "source_ip" in names:
            arguments["source_ip"] = self._context["identity"]["sourceIp"]
        if "user_agent" in names:
            arguments["user_agent"] = "".join(filter(str.isprintable, self._headers.get("user-agent", "")))[:400]
        return arguments

    def idempotency_key(self) -> str | None:
        key = self._headers.get("idempotency-key")
        if key is not None and not re.fullmatch(r"[\x21-\x7e]{1,255}", key):
            raise Invalid([("header/idempotency-key", "Input should be 1 to 255 visible ASCII characters")])
        return key

    def has_seen(self, etag: str) -> bool:
        """If-None-Match, by weak comparison (RFC 9110, 13.1.2)."""
        value = self._headers.get("if-none-match", "").strip()
        return value == "*" or (etag in value and etag in re.findall(OPAQUE_TAG, value))

    def resource_id(self) -> int | None:
        """The last id in the path."""
        values = list((self._event.get("pathParameters") or {}).values())
        return int(values[-1]) if values and re.fullmatch("[0-9]{1,19}", values[-1], re.ASCII) else None

    def stage(self) -> str:
        """What the client's path has in front of ours: `/prod` at an address of API Gateway's own."""
        full = self._context.get("path") or self.path
        return str(full).removesuffix(self.path) if full.endswith(self.path) else ""

    def _body(self) -> bytes:
        """Raises BodyTooLarge and UnsupportedMediaType."""
        media_type = self._headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        accepted = ["application/json", *(["application/merge-patch+json"] if self.method == "PATCH" else [])]
        body = self._event.get("body") or ""
        content = b64decode(body) if self._event.get("isBase64Encoded") else body.encode(errors="surrogatepass")
        if len(content) > BODY_LIMIT:
            raise BodyTooLarge
        if media_type not in accepted:
            raise UnsupportedMediaType
        return content

    def _if_match(self, problems: Problems) -> list[int] | None:
        value = self._headers.get("if-match", "*").strip()
        if value == "*":
            return None
        if not re.fullmatch(rf"{ETAG}([ \t]*,[ \t]*{ETAG})*", value):
            problems.append(("header/if-match", "Input should be an ETag as an earlier answer gave it, in quotes"))
        # A weak tag never matches here (RFC 9110, 13.1.1), nor does one that this API did not make.
        return [int(tag[1:-1]) for tag in re.findall(ETAG, value) if re.fullmatch(r'"[1-9][0-9]{0,17}"', tag)]


def problems_of(error: ValidationError, prefix: str = "") -> Problems:
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


def _body_problems(error: ValidationError, content: bytes) -> Problems:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return _unreadable_values(content)
    if not first["loc"]:
        raise MalformedBody
    return problems_of(error)


def _unreadable_values(content: bytes) -> Problems:
    """Values that are JSON and still cannot be read: half a surrogate pair, a number of thousands of digits.

    Raises MalformedBody when there is none: then the body is no JSON.
    """
    endless = "\ud800 digits"  # no text that was sent can hold this and be reported otherwise
    try:
        body = json.loads(content, parse_int=lambda digits: 0 if len(digits) < 4300 else endless)
    except (ValueError, RecursionError):
        raise MalformedBody from None
    found = []
    for name, value in body.items() if isinstance(body, dict) else ():
        text = json.dumps({name: value}, ensure_ascii=False)
        if endless in text:
            found.append((_step(name), "Input should be a number of fewer digits"))
        elif re.search("[\ud800-\udfff]", text):
            found.append((_step(name), "Input should be text without unpaired surrogates"))
    if not found:
        raise MalformedBody
    return found
