"""The routes of a function: typed arguments in, a model or a refusal out.

API Gateway has matched the path already and says which route it was (`resource`), so a route is found by a look-up.
A handler's parameters are filled by their names:

- `db`: the database as the caller sees it; on a route with `open=True`, as somebody who is not signed in;
- `body`: the JSON body, as the pydantic model of its annotation;
- `query`: the query string, as the pydantic model of its annotation;
- `if_match`: the versions in If-Match, None when it was not sent or is `*`;
- `source_ip`: the client's address;
- `user_agent`: what its program calls itself, as far as it can be shown;
- any other: the path parameter of that name.
"""

import inspect
import re
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple, get_type_hints

from pydantic import BaseModel, TypeAdapter

from healthcare.database.connection import ConnectionLost, Database
from healthcare.errors import InternalError, NotFound, Refusal, Unavailable
from healthcare.fields import Input, Output
from healthcare.platform.logs import logger
from healthcare.platform.metrics import count
from healthcare.web import access_log, answers, idempotency
from healthcare.web.answers import JsonAnswers, Response
from healthcare.web.request import Request

Handler = Callable[..., Output | None]

# What everybody does for themselves: these routes take no Acting-For.
_IN_PERSON = (
    "/api/auth/",
    "/api/invitations",
    "/api/delegates",
    "/api/owners",
    "/api/practice/patients",
    "/api/webhooks",
)


class Route(NamedTuple):
    method: str
    path: str
    handler: Handler
    status: int
    open: bool
    location: str | None
    refusals: tuple[type[Refusal], ...]
    discloses: bool
    shows_secret: bool
    body: type[BaseModel] | None
    query: type[BaseModel]
    parameters: frozenset[str]
    path_types: Mapping[str, TypeAdapter[Any]]

    @property
    def takes_key(self) -> bool:
        """Whether it takes an Idempotency-Key: it creates something for somebody who is signed in.

        An answer that shows a secret is not kept to be given again.
        """
        return self.status == 201 and not self.open and not self.shows_secret

    @property
    def takes_acting_for(self) -> bool:
        return not self.open and not self.path.startswith(_IN_PERSON)

    @property
    def if_match(self) -> bool:
        return "if_match" in self.parameters


class Api:
    def __init__(self, answers: JsonAnswers | None = None) -> None:
        """`answers` says how bodies and problems are written."""
        self.routes: dict[tuple[str, str], Route] = {}
        self.answers = answers or JsonAnswers()

    def route(
        self,
        method: str,
        path: str,
        *,
        status: int = 200,
        open: bool = False,
        location: str | None = None,
        refusals: Sequence[type[Refusal]] = (),
        discloses: bool = False,
        shows_secret: bool = False,
    ) -> Callable[[Handler], Handler]:
        """`location` is a template of the answer's fields. `refusals` are those that the parameters do not imply.

        `discloses` marks a GET that records who read; a delegate who may only read may make that write. An answer that
        `shows_secret` is not kept for an Idempotency-Key.
        """

        def register(handler: Handler) -> Handler:
            types = get_type_hints(handler, include_extras=True)
            self.routes[method, path] = Route(
                method,
                path,
                handler,
                status,
                open,
                location,
                tuple(refusals),
                discloses,
                shows_secret,
                body=types.get("body"),
                query=types.get("query", Input),
                parameters=frozenset(inspect.signature(handler).parameters),
                path_types={name: TypeAdapter(types[name]) for name in re.findall(r"{(\w+)}", path)},
            )
            return handler

        return register

    def handle(self, event: Mapping[str, Any], context: Any) -> Response:
        """Answers a proxy event of a REST API. Nothing that a client sends makes it raise."""
        started = time.perf_counter()
        access_log.begin(context)
        request = Request(event)
        patients: list[int] = []
        try:
            response = self._answer(request)
            patients = response.pop("patients")
            response = answers.finish(response, request)
        except Refusal as refusal:
            if isinstance(refusal, Unavailable):
                logger.error("unavailable", exc_info=refusal.__cause__, request_id=request.id)
            response = self.answers.refusal(refusal, request)
        except Exception:
            logger.exception("unexpected error", request_id=request.id)
            response = self.answers.refusal(InternalError(), request)
        status = response["statusCode"]
        if status >= 400:
            count("ServerErrors" if status >= 500 else "Refusals")
        access_log.write(
            f"{request.method} {request.resource}",
            status=status,
            duration_ms=round((time.perf_counter() - started) * 1000, 1),
            user_id=request.user_id,
            acting_for=request.acting_for,
            resource_id=request.resource_id(),
            patients=patients or None,
            request_id=request.id,
        )
        return response

    def _answer(self, request: Request) -> Response:
        route = self.routes.get((request.method, request.resource))
        if route is None:
            raise NotFound
        if not route.takes_acting_for:
            request.refuse_acting_for()
        db = Database(None, "anonymous", request.id) if route.open else request.database(discloses=route.discloses)
        arguments = request.arguments(route.path_types, route.query, route.body, route.parameters)
        if "db" in route.parameters:
            arguments["db"] = db

        def respond() -> Response:
            return self.answers.success(route.handler(**arguments), route.status, route.location, request)

        key = request.idempotency_key() if route.takes_key else None
        if key is not None:
            body = arguments["body"].model_dump_json() if route.body else ""
            fingerprint = sha256(f"{route.method} {request.path}\n{body}".encode()).digest()
            return _repeated(lambda: idempotency.once(db, key, fingerprint, respond))
        return _repeated(respond) if route.method == "GET" else respond()


def _repeated(answer: Callable[[], Response]) -> Response:
    """Tries once more after a lost connection, for what does no harm when it is done twice."""
    try:
        return answer()
    except ConnectionLost:
        return answer()
