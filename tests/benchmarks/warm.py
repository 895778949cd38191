"""Warm requests: wall and CPU time at the handler, round trips to PostgreSQL, and memory."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from local.settings import PROJECT
from tests.benchmarks.peers import Program
from tests.benchmarks.world import Event, World

EXPECTED = {"create": "201", "register": "201", "authorize": "None"}


class Took(NamedTuple):
    """Seconds for each of the requests of a batch."""

    wall: float
    cpu: float
    answer: Any


class Warm:
    """One environment of a function, in a process that nothing else is measured in."""

    def __init__(self, program: Program, world: World, port: int | None = None) -> None:
        self._process = subprocess.Popen(
            program.command(runtime=False),
            cwd=program.folder,
            env=program.environment(world, port),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, route: str, events: list[Event]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([json.dumps(event) for event in events]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"The process that answers `{route}` ended.")
        report: dict[str, Any] = json.loads(line)
        return report

    def call(self, route: str, events: list[Event], expected: str | None = None) -> Took:
        report = self.ask(route, events)
        if list(report["statuses"]) != [expected or EXPECTED.get(route, "200")]:
            sys.exit(f"`{route}` was answered by {report['statuses']}: {report['answer']}")
        return Took(report["wall"] / len(events), report["cpu"] / len(events), report["answer"])

    def peak_memory(self) -> int:
        """In bytes. Not from getrusage, which counts the process that this one was forked from as well."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


class Proxy:
    """Between a function and PostgreSQL."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.port = int(self._read())

    def round_trips(self) -> int:
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._read())

    def _read(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()


@contextmanager
def proxy(target: int, delay: float) -> Iterator[Proxy]:
    command = [sys.executable, "-m", "tests.benchmarks.proxy", str(target), str(delay)]
    with subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Proxy(process)
        finally:
            process.kill()
