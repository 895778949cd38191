"""What the template and the functions declare: functions, routes, refusals, samples."""

import importlib.util
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, RootModel, TypeAdapter
from pydantic.fields import FieldInfo
from samcli.yamlhelper import yaml_parse

from healthcare.fields import Input, Page
from healthcare.web.api import Api, Route
from local.settings import PROJECT

Json = dict[str, Any]

TIME = "2026-03-02T09:30:00Z"


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


@cache
def load(folder: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"functions.{folder}", PROJECT / "functions" / folder / "app.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


@cache
def routes() -> tuple[tuple[str, Route], ...]:
    """Each route with its function's folder; those of `docs`, which has no models, are described by hand."""
    apis: dict[str, Api] = {folder: load(folder).api for folder, _, _ in gateway_functions() if folder != "docs"}
    return tuple((folder, route) for folder, api in apis.items() for route in api.routes.values())


def answer_of(route: Route) -> type[BaseModel] | None:
    model = get_type_hints(route.handler)["return"]
    return model if isinstance(model, type) and issubclass(model, BaseModel) else None


def sample(model: type[BaseModel]) -> Json:
    """A body or an answer, as JSON, put together from the examples that stand on the fields of the model.

    A field of an answer that has none shows that of the same field of the bodies in its module, or its parents'.
    """
    extra = model.model_config.get("json_schema_extra")
    if isinstance(extra, dict) and "examples" in extra:
        examples: Any = extra["examples"]
        return dict(examples[0])
    if issubclass(model, RootModel):
        return sample(get_args(model.model_fields["root"].annotation)[0])
    if issubclass(model, Page):
        (item,) = get_args(model.model_fields["items"].annotation)
        return {"items": [sample(item)], "next_cursor": None}
    modules = [sys.modules[parent.__module__] for parent in reversed(model.__mro__)]
    bodies = [kind for module in modules for kind in vars(module).values() if _is_body(kind)]
    shown: dict[str, FieldInfo] = {}
    for body in bodies:
        shown |= {name: field for name, field in body.model_fields.items() if field.examples}
    return {
        field.alias or name: _value(field, shown.get(name))
        for name, field in model.model_fields.items()
        if not field.exclude and (field.is_required() or field.examples or not issubclass(model, Input))
    }


def _is_body(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Input)


def _value(field: FieldInfo, shown: FieldInfo | None) -> object:
    for source in (field, shown):
        if source and source.examples:
            return source.examples[0]
    kinds = [field.annotation, *get_args(field.annotation)]
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return [sample(kind)] if get_origin(field.annotation) is list else sample(kind)
    return _plain(TypeAdapter(field.annotation).json_schema(mode="serialization"))


def _plain(schema: Json) -> object:
    """Some value of a schema without an example."""
    schema = schema.get("anyOf", [schema])[0]
    if "enum" in schema or "const" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    if "format" in schema:
        return {"date": TIME[:10], "date-time": TIME}.get(schema["format"], 1)
    return {"integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}.get(schema.get("type", ""), "text")
