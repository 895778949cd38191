"""Before anything is measured: the peers do the same work, with the same answers and the same refusals."""

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from tests.benchmarks.peers import EXPRESS, FASTAPI, FLOOR, OURS, Peer, Program
from tests.benchmarks.warm import Warm
from tests.benchmarks.world import Event, Events, World

ROUTES = ("get", "list", "create", "update", "register", "login", "authorize")

BAD_PATIENTS: list[dict[str, object]] = [
    {"name": " "},
    {"name": "x" * 201},
    {"name": "a\0b"},
    {"name": 5},
    {"gendr": "female"},
    {"gender": "woman"},
    {"date_of_birth": "2999-01-01"},
    {"date_of_birth": "1799-12-31"},
    {"date_of_birth": "1990-02-30"},
    {"phone": "none"},
    {"email": "maria"},
    {"address": "x" * 501},
]


def check(peers: list[Peer], events: Mapping[str, Events], world: World) -> None:
    shapes: dict[str, dict[str, Any]] = {}
    for peer in peers:
        with ExitStack() as stack:
            warm = {program.name: stack.enter_context(Warm(program, world)) for program in _programs(peer)}
            own = events[peer.name]
            foreign = next(others for name, others in events.items() if name != peer.name).make("get")

            def ask(route: str, event: Event, status: str | None = None, peer: Peer = peer, warm: Any = warm) -> Any:
                program = peer.program(route)
                assert program
                return warm[program.name].call(route, [event], status).answer

            shapes[peer.name] = {route: _shape(ask(route, own.make(route))) for route in ROUTES if peer.answers(route)}
            if peer.name != FLOOR:
                _check_refusals(ask, own, foreign)
    for name in (FASTAPI, EXPRESS):
        if shapes[name] != shapes[OURS]:
            sys.exit(f"{name} answers with {shapes[name]}, not {shapes[OURS]}")


def _programs(peer: Peer) -> set[Program]:
    return {program for route in ROUTES if (program := peer.program(route))}


def _shape(answer: Any) -> Any:
    return _names(json.loads(answer["body"]) if "body" in answer else answer)


def _names(value: Any) -> Any:
    """Of fields, and how many items a list has."""
    match value:
        case dict():
            return {name: _names(field) for name, field in sorted(value.items())}
        case [first, *_]:
            return [len(value), _names(first)]
        case _:
            return None


def _check_refusals(ask: Callable[..., Any], own: Events, foreign: Event) -> None:
    caller = own.make("get")["requestContext"]["authorizer"]
    foreign["requestContext"]["authorizer"] = caller
    ask("get", foreign, "404")
    expired = own.make("list")
    expired["requestContext"]["authorizer"]["exp"] = "1"
    ask("list", expired, "401")
    ask("login", own.make("login", password="wrong"), "401")
    ask("login", own.make("login", email="nobody@example.com"), "401")
    for body in BAD_PATIENTS:
        ask("create", own.make("create", **body), "422")
    token = own.make("authorize")
    forged = token | {"authorizationToken": f"{token['authorizationToken'][:-4]}AAAA"}
    assert ask("authorize", forged)["policyDocument"]["Statement"][0]["Effect"] == "Deny"
