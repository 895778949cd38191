"""The work of `python -m local`: brings the parts up, serves, and takes them down. Ends when standard input does."""

import errno
import http.client
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from local.aws.moto import Moto
from local.console import Console
from local.environments.emulator import EmulatedEnvironment
from local.environments.function import Environment, Function, InvocationFailed
from local.environments.pool import Pool
from local.environments.process import ProcessEnvironment
from local.gateway.server import Server
from local.settings import DUMMY_ACCOUNT, NAMES_IN_AWS, PROJECT, TEMPLATE, CannotStart, Settings, isolate, read
from local.watch import reload_edited

if TYPE_CHECKING:
    from local.database.database import Database
    from local.gateway.api_gateway import Gateway

HEALTH_SECONDS = 15
# What a deployment's scheduler invokes every minute, and after how many seconds it is invoked here.
SCHEDULED = {"SenderFunction": 2}


class Part(Protocol):
    """A process that everything else needs."""

    def has_ended(self) -> bool: ...

    def restart(self) -> None: ...


def main() -> int:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=_stop_at_end_of_input, args=(stop,), daemon=True).start()
    console = Console()
    try:
        with closing(console), ExitStack() as stack:
            parts = serve(read(os.environ), console, stack, stop)
            while not stop.wait(1):
                _restart_ended(parts, console)
            console.say("Stopping …")
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def serve(settings: Settings, console: Console, stack: ExitStack, stop: threading.Event) -> Mapping[str, Part]:
    """Returns when the API answers, or early when it shall stop."""
    server = stack.enter_context(_claimed_port(settings.port))
    console.keep_logs_in(settings.folder / "log")
    given = dict(os.environ)
    isolate(os.environ)
    # SAM CLI takes a second to import, meanwhile the database starts.
    threading.Thread(target=import_module, args=("local.gateway.api_gateway",), daemon=True).start()
    moto = stack.enter_context(Moto(settings.folder))
    database = stack.enter_context(_database(settings.folder, given, console))
    parts: dict[str, Part] = {"moto, which stands in for AWS,": moto}
    if database.server:
        parts["PostgreSQL"] = database.server
    from local.aws.functions import serve_functions
    from local.gateway.api_gateway import Gateway
    from local.gateway.template import Template
    from local.pages import pages

    def start(function: Function) -> Environment:
        environment = EmulatedEnvironment if settings.runtime == "emulator" else ProcessEnvironment
        here = {
            "AWS_ENDPOINT_URL_LAMBDA": functions,
            "APP_URL": given.get("APP_URL") or f"http://127.0.0.1:{settings.port}",
            "WEBHOOKS_TO_LOOPBACK": "allowed",
        }
        variables = variables_of(function, database, moto.endpoint) | here
        return environment(replace(function, variables=variables), console.function_line)

    template = Template(TEMPLATE)
    pools = {name: Pool(function, start) for name, function in template.functions.items()}
    functions = stack.enter_context(serve_functions(lambda name, event: pools[name.partition(".")[0]].invoke(event)))
    gateway = Gateway(template, pools, pages(moto), console, settings.port)
    moto.endpoint  # noqa: B018 - waits for it
    if stop.is_set():
        return parts
    for pool in pools.values():
        stack.callback(pool.stop)
    server.application, server.refuse = gateway.application, gateway.refuse
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stack.callback(server.shutdown)
    threading.Thread(target=reload_edited, args=(pools.values(), console, stop), daemon=True).start()
    if _is_healthy(settings.port, stop):
        _say_ready(settings, console, gateway)
        for name in SCHEDULED.keys() & pools.keys():
            scheduled = (pools[name], SCHEDULED[name], console, stop)
            threading.Thread(target=_invoke_on_schedule, args=scheduled, daemon=True).start()
    return parts


def variables_of(function: Function, database: "Database", endpoint: str) -> dict[str, str]:
    """The template's, changed to what stands here for the database and for AWS."""
    role = function.variables.get("PGUSER")
    variables = {name: NAMES_IN_AWS.get(name, value) for name, value in function.variables.items()}
    # All of the template's go: libpq takes a certificate without TLS for a mistake.
    variables = {name: value for name, value in variables.items() if not name.startswith("PG")}
    variables |= DUMMY_ACCOUNT | {"AWS_ENDPOINT_URL": endpoint}
    if role:
        variables |= {**database.variables, "PGUSER": database.login(role), "DATABASE_AUTH": "password"}
    return variables


@contextmanager
def _claimed_port(port: int) -> Iterator[Server]:
    try:
        server = Server(port)
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"can't be used: {error.strerror}"
        raise CannotStart(f"Port {port} {reason}. PORT= names another, as in `make run PORT=3001`.") from None
    with server:
        yield server


@contextmanager
def _database(folder: Path, environ: Mapping[str, str], console: Console) -> Iterator["Database"]:
    from local.database.database import is_given, ready_database

    if is_given(environ):
        console.say("Connecting to the database that the environment names …")
    elif (folder / "postgres").exists():
        console.say("Starting PostgreSQL …")
    else:
        console.say("Making the files of the embedded PostgreSQL and starting it …")
    with ready_database(folder, environ) as database:
        if database.server and database.server.elsewhere:
            console.say(f"Running as root: the database lies in {database.server.elsewhere}.")
        if database.applied:
            console.say(f"Applied the migrations that were new: {', '.join(database.applied)}")
        yield database


def _restart_ended(parts: Mapping[str, Part], console: Console) -> None:
    for name, part in parts.items():
        if part.has_ended():
            console.say(f"{name} has ended by itself. Starting it again …")
            part.restart()
            console.say(f"{name} runs again.")


def _invoke_on_schedule(pool: Pool, seconds: float, console: Console, stop: threading.Event) -> None:
    while not stop.wait(seconds):
        try:
            pool.invoke(b"{}")
        except InvocationFailed as error:
            if not stop.is_set():
                console.log("scheduler", "ERROR", f"{pool.function.name} failed: {error}")


def _is_healthy(port: int, stop: threading.Event) -> bool:
    """The first request goes all the way: server, routes, a function, the database."""
    deadline = time.monotonic() + HEALTH_SECONDS
    while not stop.is_set():
        with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
            connection.request("GET", "/health")
            status = connection.getresponse().status
        if status == 200:
            return True
        if time.monotonic() > deadline or status < 500:
            raise CannotStart(f"The API was started, but GET /health answers {status}; the lines above say why.")
        stop.wait(1)
    return False


def _say_ready(settings: Settings, console: Console, gateway: "Gateway") -> None:
    address = f"http://127.0.0.1:{settings.port}"
    port = "" if settings.port == 3000 else f" PORT={settings.port}"
    state = settings.folder.relative_to(PROJECT) if settings.folder.is_relative_to(PROJECT) else settings.folder
    routes = gateway.routes()
    width = max(len(path) for path, _, _ in routes)
    lines = [f"  {method:<7} {path:<{width}} {'open' if is_open else 'token'}" for path, method, is_open in routes]
    console.say(
        "\n".join(
            [
                f"\nThe API runs at {address}\n",
                *lines,
                f"\n  Try it out   {address}/docs",
                f"  Mails        {address}/inbox",
                f"  Fill it      `make demo{port}`, in another terminal",
                f"  State, logs  {state}",
                "  Ctrl-C stops it and keeps the state; `make clean` removes the state.\n",
            ]
        )
    )


def _stop_at_end_of_input(stop: threading.Event) -> None:
    # Not sys.stdin, whose lock the interpreter needs when it exits.
    while os.read(0, 1024):
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
