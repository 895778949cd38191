"""Writes functions/docs/openapi.json and problems.json from what the functions declare: `make openapi`.

A new route, model or kind of problem appears by itself; what is written here for single ones only says it better.
"""

import importlib.util
import inspect
import json
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema
from samcli.yamlhelper import yaml_parse

from local.settings import PROJECT

sys.path.append(str(PROJECT / "layers" / "common"))

from healthcare.database.connection import Session
from healthcare.errors import (
    BodyTooLarge,
    IdempotencyKeyReused,
    Invalid,
    MalformedBody,
    NotFound,
    Refusal,
    Stale,
    TooManyAttempts,
    Unauthenticated,
    UnsupportedMediaType,
)
from healthcare.fields import Page, PageQuery, encode_cursor
from healthcare.web.api import STATUS, Api, Request, Route
from tools.openapi.wording import (
    AUTHENTICATION,
    DETAILS,
    DETAILS_OF_OPERATION,
    EXAMPLES,
    EXPLANATIONS,
    INFO,
    WHOSE_ID,
    Explanation,
)

Json = dict[str, Any]

OPENAPI = PROJECT / "functions" / "docs" / "openapi.json"
PROBLEMS = PROJECT / "functions" / "docs" / "problems.json"

# What the gateway answers in place of a function, whatever the route.
OF_EVERY_ROUTE = ("bad-request", "refused", "too-many-requests", "internal-error", "unavailable", "timeout")

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
        "status": {"type": "integer", "description": "The HTTP status."},
        "detail": {"type": "string", "description": "What went wrong with this request."},
        "instance": {"type": "string", "format": "uri-reference", "description": "The path of the request."},
        "request_id": {"type": "string", "description": "Names the request in the logs."},
        "errors": {
            "type": "array",
            "description": "Of `/problems/validation` only: each value that is not valid.",
            "items": {"$ref": "#/components/schemas/InvalidValue"},
        },
    },
}

INVALID_VALUE: Json = {
    "type": "object",
    "required": ["pointer", "detail"],
    "properties": {
        "pointer": {
            "type": "string",
            "description": "A JSON Pointer into the body, or `query/limit`, `path/id`, `header/if-match`.",
        },
        "detail": {"type": "string", "description": "What is wrong with the value."},
    },
}

PARAMETERS: Mapping[str, Json] = {
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
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Makes it safe to send the request again: the same key within 24 hours creates nothing new.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    },
}

HEADERS: Mapping[str, Json] = {
    "X-Request-Id": {"description": "Names the request in the logs.", "required": True, "schema": {"type": "string"}},
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

# What is declared ---------------------------------------------------------------------------------------------------


@cache
def template() -> Json:
    document: Json = yaml_parse((PROJECT / "template.yaml").read_text("utf-8"))
    return document


def gateway_functions() -> Iterator[tuple[str, str, Json]]:
    """The folder, the description and the events of each function that API Gateway calls, in the template's order."""
    for resource in template()["Resources"].values():
        properties = resource["Properties"]
        if resource["Type"] == "AWS::Serverless::Function" and "Events" in properties:
            yield Path(properties["CodeUri"]).name, properties["Description"], properties["Events"]


def load(folder: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"functions.{folder}", PROJECT / "functions" / folder / "app.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def routes() -> tuple[tuple[str, Route], ...]:
    """Each route with its function; those of `docs`, which has no models, are described by hand."""
    apis = {folder: load(folder).api for folder, _, _ in gateway_functions() if folder != "docs"}
    assert all(isinstance(api, Api) for api in apis.values())
    return tuple((folder, route) for folder, api in apis.items() for route in api.routes.values())


@dataclass(frozen=True, slots=True)
class Problem:
    slug: str
    title: str
    status: int
    explanation: Explanation
    detail: str
    errors: Sequence[Mapping[str, str]] = field(default=())


@cache
def problems() -> Mapping[str, Problem]:
    """Every kind that a function or the gateway may answer with, by slug, in the order of their statuses."""
    routes()  # a kind exists once its module is loaded
    found: dict[str, Problem] = {}
    gateway = {problem["type"].removeprefix("/problems/"): problem for problem in _gateway_problems()}
    for kind in _kinds(Refusal):
        explanation = next(EXPLANATIONS[slug] for slug in _slugs(kind) if slug in EXPLANATIONS)
        status = next(STATUS[parent] for parent in kind.__mro__ if parent in STATUS)
        detail = DETAILS.get(kind.slug) or gateway.get(kind.slug, {}).get("detail") or f"{kind.title}."
        found.setdefault(kind.slug, Problem(kind.slug, kind.title, status, explanation, detail))
    for slug, problem in gateway.items():
        title, status, detail = problem["title"], problem["status"], problem["detail"]
        found.setdefault(slug, Problem(slug, title, status, EXPLANATIONS[slug], detail))
    return dict(sorted(found.items(), key=lambda item: (item[1].status, item[0])))


def _kinds(parent: type[Refusal]) -> Iterator[type[Refusal]]:
    for kind in parent.__subclasses__():
        if kind.__module__.split(".")[0] in ("healthcare", "functions"):
            yield kind
            yield from _kinds(kind)


def _slugs(kind: type[Refusal]) -> Iterator[str]:
    return (parent.slug for parent in kind.__mro__ if issubclass(parent, Refusal) and parent is not Refusal)


def _gateway_problems() -> Iterator[Json]:
    for response in template()["Resources"]["Api"]["Properties"]["GatewayResponses"].values():
        yield json.loads(response["ResponseTemplates"]["application/json"])


# Schemas ------------------------------------------------------------------------------------------------------------


class _Schemas(GenerateJsonSchema):
    """pydantic's, without what says nothing: titles, and null as a default."""

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
        json_schema = super().generate_inner(schema)
        if json_schema.get("type") == "integer":
            json_schema["format"] = "int32" if json_schema.get("maximum", 2**63) < 2**31 else "int64"
        return json_schema

    def model_schema(self, schema: Any) -> Json:
        json_schema = super().model_schema(schema)
        json_schema.pop("title", None)
        return json_schema


def _answer(route: Route) -> type[BaseModel] | None:
    model = get_type_hints(route.handler)["return"]
    return model if issubclass(model, BaseModel) else None


def _model_schemas() -> Json:
    models: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {}
    for _, route in routes():
        if route.body:
            models[route.body, "validation"] = None
        if answer := _answer(route):
            models[answer, "serialization"] = None
    _, schemas = models_json_schema(
        list(models), schema_generator=_Schemas, ref_template="#/components/schemas/{model}"
    )
    # Page[Patient] is Page_Patient_ to pydantic.
    definitions: Json = json.loads(re.sub(r'Page_(\w+?)_(?=")', r"\1Page", json.dumps(schemas["$defs"])))
    return definitions


def _name(model: type[BaseModel]) -> str:
    return re.sub(r"Page\[(\w+)\]", r"\1Page", model.__name__)


def _example(model: type[BaseModel]) -> Json:
    if model.__name__ in EXAMPLES:
        return EXAMPLES[model.__name__]
    if issubclass(model, Page):
        (item,) = get_args(model.model_fields["items"].annotation)
        return {"items": [_example(item)], "next_cursor": None}
    mode: JsonSchemaMode = "validation" if model.model_config.get("extra") == "forbid" else "serialization"
    schema = model.model_json_schema(schema_generator=_Schemas, mode=mode)
    return {name: _sample(value) for name, value in schema["properties"].items()}


def _sample(schema: Json) -> object:
    """Some value of a field, for a model that has no example here."""
    if "examples" in schema:
        return schema["examples"][0]
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    if schema.get("format") in ("date", "date-time"):
        return {"date": "2026-03-02", "date-time": "2026-03-02T09:30:00Z"}[schema["format"]]
    type_ = schema.get("type", "null")
    return {"integer": 1, "number": 1, "boolean": True, "string": "text", "array": [], "object": {}}.get(
        type_ if isinstance(type_, str) else type_[0]
    )


# Operations ---------------------------------------------------------------------------------------------------------


class _Operation:
    """One route as OpenAPI describes it. `used` collects the shared responses that it refers to."""

    def __init__(self, function: str, route: Route, used: set[str]) -> None:
        self._function = function
        self._route = route
        self._used = used
        self.id = re.sub(r"_(\w)", lambda match: match[1].upper(), route.handler.__name__)

    def describe(self) -> Json:
        summary, _, description = inspect.cleandoc(self._route.handler.__doc__ or "").partition("\n\n")
        operation: Json = {"tags": [self._function], "operationId": self.id, "summary": summary}
        if description:
            operation["description"] = description
        if self._route.open:
            operation["security"] = []
        if parameters := self._parameters():
            operation["parameters"] = parameters
        if self._route.body:
            operation["requestBody"] = self._request_body(self._route.body)
        operation["responses"] = {str(self._route.status): self._success()}
        if self._has_etag and self._route.method == "GET":
            operation["responses"]["304"] = {
                "description": "Unchanged since the version in `If-None-Match`",
                "headers": _header_references("ETag"),
            }
        operation["responses"] |= _problem_responses(self._problems(), self._used, self._instance)
        operation["responses"] = dict(sorted(operation["responses"].items()))
        return operation

    @property
    def _has_etag(self) -> bool:
        answer = _answer(self._route)
        return answer is not None and "version" in answer.model_fields

    @property
    def _instance(self) -> str:
        return re.sub(r"{\w+}", "1", self._route.path)

    @property
    def _whose_id(self) -> str:
        return WHOSE_ID.get(self.id, self._function.removesuffix("s"))

    def _parameters(self) -> list[Json]:
        route, found = self._route, []
        for name, type_ in route.path_types.items():
            schema = type_.json_schema(schema_generator=_Schemas)
            description = f"The {self._whose_id}'s id."
            found.append(
                {
                    "name": name,
                    "in": "path",
                    "required": True,
                    "description": description,
                    "schema": schema,
                    "example": 1,
                }
            )
        if route.query:
            found += [
                {"$ref": f"#/components/parameters/{parameter['name'].capitalize()}"}
                if parameter["name"] in PageQuery.model_fields
                else parameter
                for parameter in _query_parameters(route.query)
            ]
        headers = {
            "IdempotencyKey": route.creates,
            "IfMatch": route.if_match,
            "IfNoneMatch": self._has_etag and route.method == "GET",
        }
        return found + [{"$ref": f"#/components/parameters/{name}"} for name, is_read in headers.items() if is_read]

    def _request_body(self, model: type[BaseModel]) -> Json:
        content = {"schema": {"$ref": f"#/components/schemas/{_name(model)}"}, "example": _example(model)}
        media_types = ["application/json", *(["application/merge-patch+json"] if self._route.method == "PATCH" else [])]
        return {"required": True, "content": dict.fromkeys(media_types, content)}

    def _success(self) -> Json:
        answer = _answer(self._route)
        headers = {
            "ETag": self._has_etag,
            "Location": self._route.location is not None,
            "Link": answer is not None and issubclass(answer, Page),
        }
        response: Json = {
            "description": {200: "OK", 201: "Created", 204: "Done; there is no body"}[self._route.status],
            "headers": _header_references(*(name for name, is_sent in headers.items() if is_sent)),
        }
        if answer:
            schema = {"$ref": f"#/components/schemas/{_name(answer)}"}
            response["content"] = {"application/json": {"schema": schema, "example": _example(answer)}}
        return response

    def _problems(self) -> Iterator[Problem]:
        route = self._route
        implied: list[tuple[type[Refusal], bool]] = [
            (MalformedBody, route.body is not None),
            (BodyTooLarge, route.body is not None),
            (UnsupportedMediaType, route.body is not None),
            (Unauthenticated, not route.open),
            (NotFound, bool(route.path_types)),
            (Stale, route.if_match),
            (Invalid, bool(route.body or route.query or route.path_types)),
            (IdempotencyKeyReused, route.creates),
        ]
        kinds = [kind for kind, is_implied in implied if is_implied]
        kinds += route.refusals
        for slug in dict.fromkeys([*(kind.slug for kind in kinds), *OF_EVERY_ROUTE]):
            problem = problems()[slug]
            if slug == Invalid.slug:
                problem = replace(problem, errors=self._errors())
            if slug == NotFound.slug:
                problem = replace(problem, detail=f"There is no {self._whose_id} with this id.")
            if (self.id, slug) in DETAILS_OF_OPERATION:
                problem = replace(problem, detail=DETAILS_OF_OPERATION[self.id, slug])
            yield problem
        if TooManyAttempts in route.refusals:
            detail = "There were too many failed logins; wait before the next one."
            yield replace(problems()[TooManyAttempts.slug], detail=detail)

    def _errors(self) -> list[Mapping[str, str]]:
        """What the API really says of values that are not valid."""
        tells_by_query = "limit" in self._route.query.model_fields or not (self._route.body or self._route.path_types)
        query = {"limit": "101"} if tells_by_query else {}
        event = {
            "httpMethod": self._route.method,
            "resource": self._route.path,
            "path": self._instance,
            "pathParameters": dict.fromkeys(self._route.path_types, "x"),
            "queryStringParameters": query,
            "multiValueQueryStringParameters": {name: [value] for name, value in query.items()},
            "body": json.dumps(_incomplete(self._route.body)) if self._route.body else None,
            "requestContext": {"requestId": ""},
        }
        try:
            Request(event).arguments(self._route, Session(None, "anonymous", ""))
        except Invalid as refusal:
            return [{"pointer": pointer, "detail": detail} for pointer, detail in refusal.problems]
        raise AssertionError(f"{self.id} takes anything")


def _incomplete(model: type[BaseModel]) -> Json:
    """Without its first required field; where none is required, with a misspelt one."""
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    body = dict(_example(model))
    if not required:
        return body | {"nmae": "Ada"}
    del body[required[0]]
    return body


def _query_parameters(model: type[BaseModel]) -> Iterator[Json]:
    for name, schema in model.model_json_schema(schema_generator=_Schemas)["properties"].items():
        if isinstance(schema.get("type"), list):
            schema["type"] = schema["type"][0]  # a query has no null
        yield {"name": name, "in": "query", "description": schema.pop("description", ""), "schema": schema}


def _header_references(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*names, "X-Request-Id")}


def _problem_responses(found: Iterator[Problem], used: set[str], instance: str) -> Json:
    """By status. A problem that is the same everywhere is referred to, so that the document stays readable."""
    by_status: dict[int, list[Problem]] = {}
    for problem in found:
        by_status.setdefault(problem.status, []).append(problem)
    responses: Json = {}
    for status, group in by_status.items():
        if group == [problems()[group[0].slug]]:
            used.add(group[0].slug)
            responses[str(status)] = {"$ref": f"#/components/responses/{_component(group[0].slug)}"}
        else:
            responses[str(status)] = _problem_response(group, instance)
    return responses


def _problem_response(group: Sequence[Problem], instance: str) -> Json:
    again = ["Retry-After"]
    headers = {401: ["WWW-Authenticate"], 429: again, 503: again, 504: again}.get(group[0].status, [])
    examples: Json = {}
    for problem in group:
        name = problem.slug if problem.slug not in examples else f"{problem.slug}-{len(examples) + 1}"
        value = {
            "type": f"/problems/{problem.slug}",
            "title": problem.title,
            "status": problem.status,
            "detail": problem.detail,
            "instance": instance,
            "request_id": "6a2e0c9e-8f4b-4b8e-9d1c-0d6f3c5b7a21",
            **({"errors": problem.errors} if problem.errors else {}),
        }
        examples[name] = {"summary": problem.detail, "value": value}
    kinds = {problem.slug: problem.title for problem in group}
    return {
        "description": "; ".join(f"{title} (`/problems/{slug}`)" for slug, title in kinds.items()),
        "headers": _header_references(*headers),
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}
        },
    }


def _component(slug: str) -> str:
    return "".join(word.capitalize() for word in slug.split("-"))


def _documentation_operations(used: set[str]) -> Iterator[tuple[str, Json]]:
    """Of the function `docs`; the files of the page are the page's own business."""
    page = {"text/html": {"schema": {"type": "string"}}}
    slug = {
        "name": "slug",
        "in": "path",
        "required": True,
        "description": "The last part of a problem's `type`.",
        "schema": {"type": "string"},
        "example": "validation",
    }
    described: list[tuple[str, str, str, list[Json], Json, list[Problem]]] = [
        ("/docs", "readDocumentation", "Read this page", [], page, []),
        (
            "/openapi.json",
            "readOpenApi",
            "Read this document, for programs",
            [],
            {"application/json": {"schema": {"type": "object"}}},
            [],
        ),
        (
            "/problems/{slug}",
            "readProblem",
            "Read what a kind of problem means",
            [slug],
            page,
            [replace(problems()["not-found"], detail="There is no such kind of problem.")],
        ),
    ]
    for path, id, summary, parameters, content, own in described:
        found = iter([*own, *(problems()[slug] for slug in OF_EVERY_ROUTE)])
        yield (
            path,
            {
                "tags": ["docs"],
                "operationId": id,
                "summary": summary,
                "security": [],
                **({"parameters": parameters} if parameters else {}),
                "responses": {
                    "200": {"description": "OK", "headers": _header_references(), "content": content},
                    **_problem_responses(found, used, "/problems/unknown"),
                },
            },
        )


# The documents ------------------------------------------------------------------------------------------------------


def document() -> Json:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    used: set[str] = set()
    paths: Json = {}
    for function, route in routes():
        paths.setdefault(route.path, {})[route.method.lower()] = _Operation(function, route, used).describe()
    for path, operation in _documentation_operations(used):
        paths[path] = {"get": operation}
    page_parameters = {parameter["name"].capitalize(): parameter for parameter in _query_parameters(PageQuery)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Healthcare API",
            "version": project["version"],
            "summary": project["description"],
            "description": INFO.strip() + "\n\n" + "\n".join(_problem_list()),
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        # Relative to this document: the same at a stage of API Gateway's own address and at a domain of one's own.
        "servers": [{"url": ".", "description": "Where this document came from"}],
        "security": [{"bearer": []}],
        "tags": [{"name": folder, "description": description} for folder, description, _ in gateway_functions()],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": AUTHENTICATION,
                }
            },
            "parameters": {**page_parameters, **PARAMETERS},
            "headers": dict(HEADERS),
            "responses": {
                _component(slug): _problem_response([problem], "/api/patients/1")
                for slug, problem in problems().items()
                if slug in used
            },
            "schemas": {**_model_schemas(), "Problem": PROBLEM, "InvalidValue": INVALID_VALUE},
        },
    }


def _problem_list() -> Iterator[str]:
    for problem in problems().values():
        yield f"- {problem.status} [{problem.slug}](problems/{problem.slug}): {problem.title}"


def problem_pages() -> Json:
    return {
        slug: {"title": problem.title, "status": problem.status, **asdict(problem.explanation)}
        for slug, problem in problems().items()
    }


def files() -> dict[Path, str]:
    documents = {OPENAPI: document(), PROBLEMS: problem_pages()}
    return {path: json.dumps(content, indent=1, ensure_ascii=False) + "\n" for path, content in documents.items()}


def main() -> None:
    for path, text in files().items():
        path.write_text(text, "utf-8")
        print(f"wrote {path.relative_to(PROJECT)}")


if __name__ == "__main__":
    main()
