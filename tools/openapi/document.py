"""functions/docs/openapi.json and problems.json, from what the functions declare."""

import inspect
import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from healthcare.errors import (
    BodyTooLarge,
    IdempotencyKeyReused,
    InternalError,
    Invalid,
    MalformedBody,
    NotDelegated,
    NotFound,
    ReadOnly,
    Refusal,
    Stale,
    TooManyAttempts,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from healthcare.fields import MAX_ID, Page, PageQuery, Text, encode_cursor
from healthcare.web.api import Route
from local.settings import PROJECT
from tools.openapi.declared import Json, answer_of, gateway_functions, routes, sample
from tools.openapi.problems import BadRequest, Refused, TimedOut, described, kinds, pages

OPENAPI = PROJECT / "functions" / "docs" / "openapi.json"
PROBLEMS = PROJECT / "functions" / "docs" / "problems.json"
INTRODUCTION = Path(__file__).with_name("introduction.md")
REQUEST_ID = "6a2e0c9e-8f4b-4b8e-9d1c-0d6f3c5b7a21"
AUTHENTICATION = (
    "The `access_token` that `POST /api/auth/login` answers with. Paste it without the word `Bearer`. "
    "A JWT as RFC8725 advises."
)
SUCCESS = {200: "OK", 201: "Created", 202: "Accepted", 204: "Done; there is no body"}

# What the gateway may answer in place of a function, whatever the route.
OF_EVERY_ROUTE: Sequence[type[Refusal]] = (BadRequest, Refused, TooManyAttempts, InternalError, Unavailable, TimedOut)

TEXT_FILE = 10_000
TEXT = 1000  # code points that no text of an answer exceeds unless its model says otherwise
Part = TypeVar("Part")  # of a schema: one itself, a list of them, or a plain value
PROBLEM: Json = {
    "type": "object",
    "description": "What went wrong, as RFC 9457 describes it.",
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "description": "The kind of problem, for programs; a page that explains it, for people.",
        },
        "title": {"type": "string", "description": "The kind of problem in words."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "The HTTP status."},
        "detail": {"type": "string", "description": "What went wrong with this request."},
        "instance": {
            "type": "string",
            "format": "uri-reference",
            "maxLength": 16384,
            "description": "The path of the request.",
        },
        "request_id": {"type": "string", "description": "Names the request in the logs."},
        "errors": {
            "type": "array",
            "maxItems": 100,
            "description": "Of `/problems/validation` only: each value that is not valid.",
            "items": {"$ref": "#/components/schemas/InvalidValue"},
        },
        "appointments": {
            "type": "array",
            "maxItems": 100,
            "description": "Of `/problems/bookings-in-the-way` only: the ids of the appointments.",
            "items": {"type": "integer", "minimum": 1},
        },
        "mfa_token": {
            "type": "string",
            "description": "Of `/problems/mfa-required` only: for `POST /api/auth/mfa`, within five minutes.",
        },
    },
}
INVALID_VALUE: Json = {
    "type": "object",
    "required": ["pointer", "detail"],
    "properties": {
        "pointer": {
            "type": "string",
            "maxLength": 102400,
            "description": "A JSON Pointer into the body, or `query/limit`, `path/id`, `header/if-match`.",
        },
        "detail": {"type": "string", "description": "What is wrong with the value."},
    },
}
PARAMETERS: Json = {
    "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "description": 'Only if the resource still has this `ETag`, such as `"3"`. Several may be given; `*` is any.',
        "schema": {"type": "string", "pattern": r'^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$'},
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "The `ETag` that you have already; 304 if it is still the newest.",
        "schema": {"type": "string"},
    },
    "ActingFor": {
        "name": "Acting-For",
        "in": "header",
        "description": "Whom you act for: the `user_id` of one of `GET /api/owners`. Everything is as if they asked.",
        "schema": {"type": "string", "pattern": "^[1-9][0-9]{0,18}$"},
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Makes it safe to send the request again: the same key within 24 hours creates nothing new.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    },
}
HEADERS: Json = {
    "X-Request-Id": {"description": "Names the request in the logs.", "required": True, "schema": {"type": "string"}},
    "Access-Control-Allow-Origin": {
        "description": "The origin whose pages may call the API; `*` is any.",
        "required": True,
        "schema": {"type": "string"},
    },
    "ETag": {
        "description": "The version of the resource, for `If-Match` and `If-None-Match`.",
        "required": True,
        "schema": {"type": "string"},
        "example": '"3"',
    },
    "Location": {
        "description": "Where the new resource is.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Link": {
        "description": "The next page, unless this is the last one.",
        "schema": {"type": "string"},
        "example": f'</api/patients?limit=20&cursor={encode_cursor(20)}>; rel="next"',
    },
    "Retry-After": {
        "description": "Seconds to wait before the next try.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
        "example": 1,
    },
    "WWW-Authenticate": {
        "description": "How to authenticate.",
        "required": True,
        "schema": {"type": "string", "const": "Bearer"},
    },
}


# Schemas ------------------------------------------------------------------------------------------------------------


class _Schemas(GenerateJsonSchema):
    """pydantic's, without titles, examples and null as a default, and with limits where it has none."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        return self.mode == "serialization" or super().field_is_required(field, total)

    def default_schema(self, schema: Any) -> Json:
        if self.mode == "serialization" or schema.get("default", ...) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def nullable_schema(self, schema: Any) -> Json:
        inner = self.generate_inner(schema["schema"])
        if "$ref" in inner or not isinstance(inner.get("type"), str):
            return {"anyOf": [inner, {"type": "null"}]}
        more = {"enum": [*inner["enum"], None]} if "enum" in inner else {}
        return {**inner, "type": [inner["type"], "null"], **more}

    def generate_inner(self, schema: Any) -> Json:
        return with_limits(super().generate_inner(schema))


def with_limits(schema: Part) -> Part:
    """Bounds for what has none, so that a client can check what it gets; deep inside, too."""
    if isinstance(schema, list):
        for inner in schema:
            with_limits(inner)
    if not isinstance(schema, dict):
        return schema
    for name, inner in schema.items():
        if name not in ("example", "examples", "enum", "required"):
            with_limits(inner)
    if isinstance(schema.get("title"), str):
        del schema["title"]
    if isinstance(schema.get("examples"), list):
        del schema["examples"]
    if isinstance(schema.get("ge"), str):
        del schema["ge"]  # pydantic's, of a date; JSON Schema does not compare dates
    match schema:
        case {"type": "integer" | ["integer", "null"]}:
            if "exclusiveMinimum" not in schema:
                schema.setdefault("minimum", 0)
            schema.setdefault("maximum", MAX_ID)
            schema.setdefault("format", "int32" if schema["maximum"] < 2**31 else "int64")
        case {"type": "string" | ["string", "null"]} if not {"enum", "const"} & schema.keys():
            schema.setdefault("maxLength", TEXT)
        case {"type": "array"}:
            schema.setdefault("maxItems", 100)
    return schema


def _model_schemas() -> Json:
    models: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {}
    for _, route in routes():
        if route.body:
            models[route.body, "validation"] = None
        if (answer := answer_of(route)) and not issubclass(answer, Text):
            models[answer, "serialization"] = None
    _, schemas = models_json_schema(
        list(models), schema_generator=_Schemas, ref_template="#/components/schemas/{model}"
    )
    # Page[Patient] is Page_Patient_ to pydantic.
    definitions: Json = json.loads(re.sub(r'Page_(\w+?)_(?=")', r"\1Page", json.dumps(schemas["$defs"])))
    return definitions


def _name(model: type[BaseModel]) -> str:
    return re.sub(r"Page\[(\w+)\]", r"\1Page", model.__name__)


# Operations ---------------------------------------------------------------------------------------------------------


def _operation(function: str, route: Route, responses: Json) -> Json:
    """One route. The problems that it may answer are added to the shared `responses`."""
    summary, _, description = inspect.cleandoc(route.handler.__doc__ or "").partition("\n\n")
    answer = answer_of(route)
    has_etag = answer is not None and "version" in answer.model_fields
    operation: Json = {
        "tags": [function],
        "operationId": re.sub(r"_(\w)", lambda match: match[1].upper(), route.handler.__name__),
        "summary": summary,
    }
    if description:
        operation["description"] = description
    if route.open:
        operation["security"] = []
    if parameters := [*_parameters(route, has_etag)]:
        operation["parameters"] = parameters
    if route.body:
        content = {"schema": {"$ref": f"#/components/schemas/{_name(route.body)}"}, "example": sample(route.body)}
        media_types = ["application/json", *(["application/merge-patch+json"] if route.method == "PATCH" else [])]
        operation["requestBody"] = {"required": True, "content": dict.fromkeys(media_types, content)}
    answers = {str(route.status): _success(route, answer, has_etag)}
    if has_etag and route.method == "GET":
        description = "Unchanged since the version in `If-None-Match`"
        answers["304"] = {"description": description, "headers": _headers("ETag")}
    operation["responses"] = dict(sorted((answers | _problems([*_refusals(route)], responses)).items()))
    return operation


def _parameters(route: Route, has_etag: bool) -> Iterator[Json]:
    for name, type_ in route.path_types.items():
        schema = type_.json_schema(schema_generator=_Schemas)
        description = f"The {named_by(route, name)}'s id."
        yield {"name": name, "in": "path", "required": True, "description": description, "schema": schema, "example": 1}
    shared = [*_query_parameters(PageQuery)]
    for parameter in _query_parameters(route.query):
        is_shared = parameter in shared
        yield {"$ref": f"#/components/parameters/{parameter['name'].capitalize()}"} if is_shared else parameter
    headers = {
        "ActingFor": route.takes_acting_for,
        "IdempotencyKey": route.takes_key,
        "IfMatch": route.if_match,
        "IfNoneMatch": has_etag and route.method == "GET",
    }
    yield from ({"$ref": f"#/components/parameters/{name}"} for name, is_read in headers.items() if is_read)


def named_by(route: Route, parameter: str) -> str:
    """What the id in a path is of: that of `/api/patients/{id}` is a patient's."""
    missing = [kind.__name__.removesuffix("NotFound") for kind in route.refusals if kind.slug == NotFound.slug]
    if parameter == "id" and missing and len(route.path_types) == 1:
        return missing[0].lower()
    part = route.path.partition(f"/{{{parameter}}}")[0].rpartition("/")[2]
    return part.removesuffix("s")


def _query_parameters(model: type[BaseModel]) -> Iterator[Json]:
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    for name, schema in model.model_json_schema(schema_generator=_Schemas).get("properties", {}).items():
        if isinstance(schema.get("type"), list):
            schema["type"] = schema["type"][0]  # a query has no null
            if "enum" in schema:
                schema["enum"].remove(None)
        required = {"required": True} if fields[name].is_required() else {}
        example = {"example": examples[0]} if (examples := fields[name].examples) else {}
        description = schema.pop("description", "")
        yield {"name": name, "in": "query", "description": description, **required, "schema": schema, **example}


def _success(route: Route, answer: type[BaseModel] | None, has_etag: bool) -> Json:
    headers = {
        "ETag": has_etag,
        "Location": route.location is not None,
        "Link": answer is not None and issubclass(answer, Page),
    }
    response: Json = {
        "description": SUCCESS[route.status],
        "headers": _headers(*(name for name, is_sent in headers.items() if is_sent)),
    }
    if answer and issubclass(answer, Text):
        schema = {"type": "string", "maxLength": TEXT_FILE}
        response["content"] = {answer.media_type: {"schema": schema, "example": sample(answer)["text"]}}
    elif answer:
        schema = {"$ref": f"#/components/schemas/{_name(answer)}"}
        response["content"] = {"application/json": {"schema": schema, "example": sample(answer)}}
    return response


def _refusals(route: Route) -> Iterator[type[Refusal]]:
    """What the route declares, and what its parameters imply."""
    takes_body = route.body is not None
    declared = {kind.slug for kind in route.refusals}
    yield from route.refusals
    implied: list[tuple[type[Refusal], bool]] = [
        (MalformedBody, takes_body),
        (BodyTooLarge, takes_body),
        (UnsupportedMediaType, takes_body),
        (Unauthenticated, not route.open),
        (NotDelegated, route.takes_acting_for),
        (ReadOnly, route.takes_acting_for and route.method != "GET"),
        (NotFound, bool(route.path_types) and NotFound.slug not in declared),
        (Stale, route.if_match),
        (Invalid, True),
        (IdempotencyKeyReused, route.takes_key),
    ]
    yield from (kind for kind, is_implied in implied if is_implied)


def _problems(found: Sequence[type[Refusal]], responses: Json) -> Json:
    """References by status to responses that many routes share."""
    by_status: dict[int, dict[str, type[Refusal]]] = {}
    for kind in (*found, *OF_EVERY_ROUTE):
        by_status.setdefault(described(kind)["status"], {})[kind.__name__] = kind
    references = {}
    for status, group in by_status.items():
        name = "Or".join(sorted(group))
        responses[name] = _problem_response(list(group.values()))
        references[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return references


def _problem_response(group: Sequence[type[Refusal]]) -> Json:
    again = ["Retry-After"]
    own = {401: ["WWW-Authenticate"], 429: again, 503: again, 504: again}.get(described(group[0])["status"], [])
    headers = _headers(*own)
    if not own and any("retry_after" in signature(kind).parameters for kind in group):
        headers["Retry-After"] = {**HEADERS["Retry-After"], "required": False}
    examples = {}
    for kind in group:
        value = described(kind) | {"instance": "/api/patients/1", "request_id": REQUEST_ID}
        if kind is Invalid:
            value["errors"] = [{"pointer": "/name", "detail": "Field required"}]
        examples[kind.__name__] = {"summary": value["detail"], "value": value}
    titles = {kind.slug: described(kind)["title"] for kind in group}
    return {
        "description": "; ".join(f"{title} (`/problems/{slug}`)" for slug, title in titles.items()),
        "headers": headers,
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}
        },
    }


def _headers(*names: str) -> Json:
    everywhere = ("X-Request-Id", "Access-Control-Allow-Origin")
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, *everywhere)}


def _documentation(responses: Json) -> Iterator[tuple[str, Json]]:
    """The operations of the function `docs`; the files of the page are the page's own business."""
    page = {"text/html": {"schema": {"type": "string", "maxLength": 1_000_000}}}
    slug = {
        "name": "slug",
        "in": "path",
        "required": True,
        "description": "The last part of a problem's `type`.",
        "schema": {"type": "string", "maxLength": 100, "pattern": "^[a-z-]+$"},
        "example": "validation",
    }
    document = {"application/json": {"schema": {"type": "object"}}}
    operations: list[tuple[str, str, str, list[Json], Json, list[type[Refusal]]]] = [
        ("/docs", "readDocumentation", "Read this page", [], page, []),
        ("/openapi.json", "readOpenApi", "Read this document, for programs", [], document, []),
        ("/problems/{slug}", "readProblem", "Read what a kind of problem means", [slug], page, [NotFound]),
    ]
    for path, id, summary, parameters, content, own in operations:
        yield (
            path,
            {
                "tags": ["docs"],
                "operationId": id,
                "summary": summary,
                "security": [],
                **({"parameters": parameters} if parameters else {}),
                "responses": {
                    "200": {"description": "OK", "headers": _headers(), "content": content},
                    **_problems(own, responses),
                },
            },
        )


# The documents ------------------------------------------------------------------------------------------------------


def document() -> Json:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    responses: Json = {}
    paths: Json = {}
    for function, route in routes():
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(function, route, responses)
    for path, operation in _documentation(responses):
        paths[path] = {"get": operation}
    page_parameters = {parameter["name"].capitalize(): parameter for parameter in _query_parameters(PageQuery)}
    list_of_problems = "\n".join(
        f"- {described(kind)['status']} [{slug}](problems/{slug}): {described(kind)['title']}"
        for slug, kind in kinds().items()
    )
    components = {
        "parameters": {**page_parameters, **PARAMETERS},
        "headers": HEADERS,
        "responses": dict(sorted(responses.items())),
        "schemas": {**_model_schemas(), "Problem": PROBLEM, "InvalidValue": INVALID_VALUE},
    }
    bearer = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": AUTHENTICATION}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Healthcare API",
            "version": project["version"],
            "summary": project["description"],
            "description": INTRODUCTION.read_text("utf-8") + "\n" + list_of_problems,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        # Relative to this document: the same at a stage of API Gateway's own address and at a domain of one's own.
        "servers": [{"url": ".", "description": "Where this document came from"}],
        "security": [{"bearer": []}],
        "tags": [{"name": folder, "description": description} for folder, description, _ in gateway_functions()],
        "paths": paths,
        "components": {"securitySchemes": {"bearer": bearer}, **with_limits(json.loads(json.dumps(components)))},
    }


def files() -> dict[Path, str]:
    documents = {OPENAPI: document(), PROBLEMS: pages()}
    return {path: json.dumps(content, indent=1, ensure_ascii=False) + "\n" for path, content in documents.items()}
