"""The work of `python -m local`: brings the parts up, serves, and takes them down. Ends when standard input does."""

import errno
import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from local.console import Console
from local.environments.pool import EmulatedEnvironment, Environment, Function, Pool, ProcessEnvironment
from local.gateway.server import Server
from local.settings import DUMMY_ACCOUNT, PROJECT, TOKEN_KEYS_SECRET, CannotStart, Settings, read
from local.watch import Watch

if TYPE_CHECKING:
    from local.database.database import Database
    from local.gateway.api_gateway import RouteLine

TEMPLATE = PROJECT / "template.yaml"
HEALTH_SECONDS = 15
T = TypeVar("T")


def main() -> int:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    threading.Thread(target=_stop_at_end_of_input, args=(stop,), daemon=True).start()
    console = Console()
    try:
        with closing(console), ExitStack() as stack:
            database = serve(read(os.environ), console, stack, stop)
            while not stop.wait(1):
                _keep_up(database, console)
            console.say("Stopping …")
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def serve(settings: Settings, console: Console, stack: ExitStack, stop: threading.Event) -> "Database":
    """Returns when the API answers, or early when it shall stop. The slow parts start side by side."""
    server = stack.enter_context(_claimed_port(settings.port))
    console.keep_logs_in(settings.folder / "log")
    secrets_manager = stack.enter_context(secrets_manager_of(settings.folder))
    database_starts = stack.enter_context(_in_background(_database(settings, console)))

    # SAM CLI and moto read these, and a person's own profile or region must not change what they do.
    os.environ.pop("AWS_PROFILE", None)
    os.environ.update(DUMMY_ACCOUNT, SAM_CLI_TELEMETRY="0")
    from local.gateway.api_gateway import serve_template

    database = database_starts.result()
    endpoint = first_line(secrets_manager)
    if stop.is_set():
        return database
    start = partial(_start_environment, settings, database, endpoint, console)
    gateway, pools = serve_template(TEMPLATE, partial(Pool, start=start), console, settings.port)
    for pool in pools.values():
        stack.callback(pool.stop)
    server.application, server.refuse = gateway.application, gateway.refuse
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stack.callback(server.shutdown)
    threading.Thread(target=_watch, args=(list(pools.values()), console, stop), daemon=True).start()
    if _is_healthy(settings.port, stop):
        _say_ready(settings, console, sorted(gateway.route_lines()))
    return database


def _keep_up(database: "Database", console: Console) -> None:
    if database.server is not None and database.server.has_ended():
        console.say("PostgreSQL has ended by itself. Starting it again …")
        database.server.restart()
        console.say("PostgreSQL runs again, with everything that was committed.")


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
def secrets_manager_of(folder: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "local.aws.secrets_manager", str(folder / "token-keys.json")]
    with (folder / "log" / "secrets_manager.log").open("a") as log:
        process = subprocess.Popen(
            command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise CannotStart("moto's Secrets Manager did not start; secrets_manager.log in the log folder says why.")
    return line


@contextmanager
def _database(settings: Settings, console: Console) -> Iterator["Database"]:
    from local.database.database import forget_given, is_given, ready_database

    given = dict(os.environ)
    forget_given(os.environ)
    if is_given(given):
        console.say("Connecting to the database that the environment names …")
    elif (settings.folder / "postgres").exists():
        console.say("Starting PostgreSQL …")
    else:
        console.say("Making the files of the embedded PostgreSQL and starting it …")
    with ready_database(settings.folder, given) as database:
        if database.note:
            console.say(database.note)
        if database.applied:
            console.say(f"Applied the migrations that were new: {', '.join(database.applied)}")
        yield database


@contextmanager
def _in_background(context: AbstractContextManager[T]) -> Iterator[Future[T]]:
    with ThreadPoolExecutor(1) as executor:
        entered = executor.submit(context.__enter__)
        try:
            yield entered
        finally:
            if entered.exception() is None:
                context.__exit__(None, None, None)


def _start_environment(
    settings: Settings, database: "Database", endpoint: str, console: Console, function: Function
) -> Environment:
    environment = EmulatedEnvironment if settings.runtime == "emulator" else ProcessEnvironment
    return environment(replace(function, variables=variables_of(function, database, endpoint)), console.function_line)


def variables_of(function: Function, database: "Database", endpoint: str) -> dict[str, str]:
    """The template's, changed to what stands here for the database and for AWS."""
    variables = dict(function.variables) | DUMMY_ACCOUNT | {"AWS_ENDPOINT_URL": endpoint}
    if "PGUSER" in variables:
        login = database.login(variables["PGUSER"])
        # All of the template's go: a certificate without TLS, for one, libpq takes for a mistake.
        variables = {name: value for name, value in variables.items() if not name.startswith("PG")}
        variables |= {**database.variables, "PGUSER": login, "DATABASE_AUTH": "password"}
    if "TOKEN_KEYS_SECRET_ID" in variables:
        variables["TOKEN_KEYS_SECRET_ID"] = TOKEN_KEYS_SECRET
    return variables


def _watch(pools: list[Pool], console: Console, stop: threading.Event) -> None:
    def changed(paths: set[Path]) -> None:
        for path in sorted(paths):
            if path == TEMPLATE or path.suffix == ".sql":
                console.say(f"{path.relative_to(PROJECT)} has changed: restart to apply it.")
        reloaded = [pool for pool in pools if any(_is_code_of(pool.function, path) for path in paths)]
        for pool in reloaded:
            pool.replace()
        if reloaded:
            console.say(f"Code has changed: reloading {', '.join(sorted(pool.function.title for pool in reloaded))}")

    Watch([PROJECT / "functions", PROJECT / "layers", TEMPLATE], changed).run(stop)


def _is_code_of(function: Function, path: Path) -> bool:
    return path.suffix != ".sql" and any(path.is_relative_to(folder) for folder in (function.folder, *function.layers))


def _is_healthy(port: int, stop: threading.Event) -> bool:
    """The first request goes all the way: server, routes, a function, the database."""
    deadline = time.monotonic() + HEALTH_SECONDS
    while not stop.is_set():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HEALTH_SECONDS)
        connection.request("GET", "/health")
        status = connection.getresponse().status
        connection.close()
        if status == 200:
            return True
        if time.monotonic() > deadline or status not in (502, 503, 504):
            raise CannotStart(f"The API was started, but GET /health answers {status}; the lines above say why.")
        stop.wait(1)
    return False


def _say_ready(settings: Settings, console: Console, routes: "list[RouteLine]") -> None:
    address = f"http://127.0.0.1:{settings.port}"
    port = "" if settings.port == 3000 else f" PORT={settings.port}"
    state = settings.folder.relative_to(PROJECT) if settings.folder.is_relative_to(PROJECT) else settings.folder
    console.say()
    console.say(f"The API runs at {address}")
    console.say()
    for route in routes:
        console.say(f"  {route.method:<7} {route.path:<32} {'open' if route.is_open else 'token'}")
    console.say()
    console.say(f"  Try it out   {address}/docs")
    console.say(f"  Fill it      `make demo{port}`, in another terminal")
    console.say(f"  State, logs  {state}")
    console.say("  Ctrl-C stops it and keeps the state; `make clean` removes the state.")
    console.say()


def _stop_at_end_of_input(stop: threading.Event) -> None:
    # Not sys.stdin, whose lock the interpreter wants at its end.
    while os.read(0, 1024):
        pass
    stop.set()


if __name__ == "__main__":
    sys.exit(main())
