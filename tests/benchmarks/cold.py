"""Cold starts: from the start of a function's process to its first answer, under AWS's runtime interface emulator."""

import http.client
import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

from local.database.postgres import free_port
from local.settings import emulator
from tests.benchmarks.peers import MADE, Program
from tests.benchmarks.world import Event, World

START_SECONDS = 10
DEAREST = 10


def cold_start(program: Program, world: World, event: Event) -> float:
    """In seconds. The emulator starts the process when the first event comes, so its own start does not count."""
    with _emulated(program, world) as connection:
        content = json.dumps(event)
        started = time.perf_counter()
        connection.request("POST", "/2015-03-31/functions/function/invocations", content)
        answer = json.loads(connection.getresponse().read())
        took = time.perf_counter() - started
    assert "errorMessage" not in answer, (program, answer)
    assert answer.get("statusCode", 200) < 300, (program, answer)
    return took


@contextmanager
def _emulated(program: Program, world: World) -> Iterator[http.client.HTTPConnection]:
    port = free_port()
    command = [str(emulator()), "--log-level", "error", "--runtime-interface-emulator-address", f"127.0.0.1:{port}"]
    command += ["--runtime-api-address", f"127.0.0.1:{free_port()}", *program.command(runtime=True)]
    process = subprocess.Popen(
        command,
        cwd=program.folder,
        env=program.environment(world),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        _wait_for(port)
        connection.connect()
        yield connection
    finally:
        connection.close()
        # The emulator puts the function into a process group of its own.
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()
        process.kill()
        process.wait()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.002)
    raise TimeoutError("the emulator did not start")


def imports(program: Program, world: World) -> tuple[float, list[tuple[str, float]]]:
    """Seconds that importing the handler alone takes, and the dearest packages by their own time."""
    module = program.handler.partition(".")[0]
    ran = subprocess.run(
        [str(MADE / "runtime" / "bin" / "python"), "-X", "importtime", "-c", f"import {module}"],
        cwd=program.folder,
        env=program.environment(world),
        capture_output=True,
        text=True,
        check=True,
    )
    own: dict[str, float] = {}
    total = 0.0
    started = False
    for self_time, cumulative, name in _import_lines(ran.stderr):
        # What Python imports for itself comes first, up to `site`.
        if started:
            package = name.strip().partition(".")[0]
            own[package] = own.get(package, 0) + self_time / 1e6
            if name == f" {module}":
                total = cumulative / 1e6
        started = started or name.strip() == "site"
    return total, sorted(own.items(), key=lambda item: -item[1])[:DEAREST]


def _import_lines(text: str) -> Iterator[tuple[int, int, Any]]:
    for line in text.splitlines():
        columns = line.removeprefix("import time:").split("|")
        if len(columns) == 3 and columns[0].strip().isdigit():
            yield int(columns[0]), int(columns[1]), columns[2]
