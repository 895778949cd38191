"""Lambda execution environments without containers: one process each, several of them per function."""

import http.client
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar, Protocol

import psutil

from local.database.postgres import free_port
from local.settings import emulator

MOST_ENVIRONMENTS = 10
# A cold start takes a core for half a second: when many requests come at once, most of them are better served by
# waiting for an environment that is nearly there. One that is still not there by then no longer counts.
MOST_STARTING = 2
STARTING_SECONDS = 2
IDLE_SECONDS = 300
# What Python itself needs; all else a function knows comes from the template.
INHERITED = ("PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH")
LARGEST_EVENT = 6 * 1024 * 1024
START_SECONDS = 10
# How much later than the emulator, which enforces a function's time-out itself, this side gives up.
GRACE_SECONDS = 5


class InvocationFailed(Exception):
    """The function gave no answer: it raised, it could not be imported, or its process ended."""


class TimedOut(InvocationFailed):
    pass


class EventTooLarge(Exception):
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    name: str
    handler: str
    folder: Path
    layers: tuple[Path, ...]
    timeout: int
    variables: Mapping[str, str]

    @property
    def title(self) -> str:
        return self.name.removesuffix("Function").lower()


WriteLine = Callable[[str, str], None]


class Environment(Protocol):
    def invoke(self, event: bytes) -> bytes: ...

    def has_ended(self) -> bool:
        """While nobody invoked it, so that it is no good for the next event."""

    def kill(self) -> None:
        """Also while it is invoked, which then fails."""

    def stop(self) -> None:
        """Not while it is invoked."""


class EmulatedEnvironment:
    """AWS's runtime interface emulator with awslambdaric under it: what a Lambda container image would run."""

    _ports_in_use: ClassVar[set[int]] = set()
    _choosing_ports = threading.Lock()

    def __init__(self, function: Function, write_line: WriteLine) -> None:
        self._function = function
        # The emulator outlives it, and says so only with the next event.
        self._runtime: psutil.Process | None = None
        self._ports: list[int] = []
        for _ in range(3):
            self._choose_ports()
            address, runtime_address = (f"127.0.0.1:{port}" for port in self._ports)
            command = [str(emulator()), "--log-level", "error"]
            command += ["--runtime-interface-emulator-address", address, "--runtime-api-address", runtime_address]
            command += [sys.executable, "-m", "awslambdaric", function.handler]
            self._process = _start(command, function, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
            assert self._process.stdout is not None
            _pump(self._process.stdout, function, write_line)
            self._connection = http.client.HTTPConnection(
                "127.0.0.1", self._ports[0], timeout=function.timeout + GRACE_SECONDS
            )
            if self._accepts_connections():
                return
            self.stop()
        raise InvocationFailed(f"the emulator of {function.name} did not start")

    def invoke(self, event: bytes) -> bytes:
        try:
            self._connection.request("POST", "/2015-03-31/functions/function/invocations", event)
            response = self._connection.getresponse()
            answer = response.read()
        except TimeoutError:
            raise TimedOut(f"no answer after {self._function.timeout} seconds") from None
        except (OSError, http.client.HTTPException) as error:
            raise InvocationFailed(f"the emulator ended: {error!r}") from error
        if answer.startswith(b"Task timed out after "):
            raise TimedOut(f"no answer after {self._function.timeout} seconds")
        if response.status != 200:
            raise InvocationFailed(_error_message(answer))
        if self._runtime is None:
            self._runtime = next(iter(psutil.Process(self._process.pid).children()), None)
        return answer

    def has_ended(self) -> bool:
        if self._process.poll() is not None:
            return True
        try:
            return self._runtime is None or self._runtime.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def kill(self) -> None:
        _kill_with_children(self._process)

    def stop(self) -> None:
        self.kill()
        self._connection.close()
        with self._choosing_ports:
            self._ports_in_use.difference_update(self._ports)

    def _choose_ports(self) -> None:
        with self._choosing_ports:
            self._ports = []
            while len(self._ports) < 2:
                port = free_port()
                if port not in self._ports_in_use:
                    self._ports.append(port)
                    self._ports_in_use.add(port)

    def _accepts_connections(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                self._connection.connect()
            except OSError:
                time.sleep(0.005)
            else:
                return True
        return False


class ProcessEnvironment:
    """Where the emulator can't run: a process that imports the handler and answers line by line."""

    def __init__(self, function: Function, write_line: WriteLine) -> None:
        self._function = function
        worker = Path(__file__).with_name("worker.py")
        # -P: the folder of the worker must not shadow what a handler imports.
        command = [sys.executable, "-P", str(worker), function.handler]
        self._process = _start(command, function, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self._process.stderr is not None
        _pump(self._process.stderr, function, write_line)

    def invoke(self, event: bytes) -> bytes:
        assert self._process.stdin is not None
        deadline = time.time() + self._function.timeout
        request = {"request_id": str(uuid.uuid4()), "deadline": deadline, "event": json.loads(event)}
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise InvocationFailed("its process ended") from error
        return self._read_line(deadline)

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def kill(self) -> None:
        _kill_with_children(self._process)

    def stop(self) -> None:
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def _read_line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        output = self._process.stdout.fileno()
        line = bytearray()
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([output], [], [], max(0, deadline - time.time()))
            if not readable:
                raise TimedOut(f"no answer after {self._function.timeout} seconds")
            chunk = os.read(output, 65536)
            if not chunk:
                raise InvocationFailed("its process ended")
            line += chunk
        return bytes(line)


class Pool:
    """The environments of one function: a request gets an idle one or a new one, or waits for its turn."""

    def __init__(self, function: Function, start: Callable[[Function], Environment]) -> None:
        self._function = function
        self._start = start
        self._idle: list[tuple[Environment, float]] = []
        self._busy: list[Environment] = []
        self._starting: list[float] = []
        self._count = 0
        self._generation = 0
        self._stopped = False
        self._changed = threading.Condition()

    @property
    def function(self) -> Function:
        return self._function

    def invoke(self, event: bytes) -> bytes:
        if len(event) > LARGEST_EVENT:
            raise EventTooLarge
        with self._environment() as environment:
            return environment.invoke(event)

    def replace(self) -> None:
        """Code has changed: idle environments end now, busy ones after their request."""
        with self._changed:
            self._generation += 1
        self._end_idle(before=float("inf"))

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
            busy = list(self._busy)
        for environment in busy:
            environment.kill()
        self.replace()

    @contextmanager
    def _environment(self) -> Iterator[Environment]:
        environment, generation, since = self._take()
        while environment is not None and environment.has_ended():
            self._end(environment)
            environment, generation, since = self._take()
        try:
            environment = environment or self._start(self._function)
            self._note_busy(environment)
            yield environment
        except BaseException:
            self._end(environment)
            raise
        else:
            self._give_back(environment, generation)
        finally:
            self._has_started(since)

    def _take(self) -> tuple[Environment | None, int, float]:
        """An idle one, or None when the caller may start one; the code it is of; since when."""
        with self._changed:
            while not self._stopped and not self._idle and not self._may_start():
                self._changed.wait(STARTING_SECONDS)
            if self._stopped:
                raise InvocationFailed("the local run is stopping")
            if self._idle:
                return self._idle.pop()[0], self._generation, 0
            self._count += 1
            since = time.monotonic()
            self._starting.append(since)
            return None, self._generation, since

    def _note_busy(self, environment: Environment) -> None:
        with self._changed:
            if self._stopped:
                raise InvocationFailed("the local run is stopping")
            self._busy.append(environment)

    def _has_started(self, since: float) -> None:
        with self._changed:
            if since in self._starting:
                self._starting.remove(since)
                self._changed.notify()

    def _may_start(self) -> bool:
        recent = time.monotonic() - STARTING_SECONDS
        starting = sum(since > recent for since in self._starting)
        return self._count < MOST_ENVIRONMENTS and starting < MOST_STARTING

    def _give_back(self, environment: Environment, generation: int) -> None:
        with self._changed:
            self._busy.remove(environment)
            is_current = generation == self._generation
            if is_current:
                self._idle.append((environment, time.monotonic()))
                self._changed.notify()
        if not is_current:
            self._end(environment)
        self._end_idle(before=time.monotonic() - IDLE_SECONDS)

    def _end(self, environment: Environment | None) -> None:
        if environment is not None:
            environment.stop()
        with self._changed:
            if environment in self._busy:
                self._busy.remove(environment)
            self._count -= 1
            self._changed.notify()

    def _end_idle(self, before: float) -> None:
        with self._changed:
            ending = [environment for environment, since in self._idle if since < before]
            self._idle = [(environment, since) for environment, since in self._idle if since >= before]
        for environment in ending:
            self._end(environment)


def _start(command: list[str], function: Function, *, stdin: int, stderr: int) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(str(folder) for folder in (function.folder, *function.layers))
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    defaults = {"LAMBDA_TASK_ROOT": str(function.folder), "TZ": ":UTC", "PYTHONUNBUFFERED": "1"}
    try:
        return subprocess.Popen(
            command,
            cwd=function.folder,
            env=inherited | defaults | dict(function.variables) | {"PYTHONPATH": path},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    except OSError as error:
        raise InvocationFailed(f"{command[0]} can't be run: {error.strerror}") from error


def _pump(stream: IO[bytes], function: Function, write_line: WriteLine) -> None:
    def pump() -> None:
        with stream:
            for line in stream:
                write_line(function.title, line.decode(errors="replace").rstrip("\n"))

    threading.Thread(target=pump, name=f"logs of {function.title}", daemon=True).start()


def _kill_with_children(process: subprocess.Popen[bytes]) -> None:
    """The emulator puts the runtime into a process group of its own, so killing it alone is not enough."""
    # Stopped, so that it neither starts another nor says that one ended.
    process.send_signal(signal.SIGSTOP)
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        children = []
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.kill()
    process.kill()
    process.wait()


def _error_message(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["errorMessage"])
    except (ValueError, KeyError, TypeError):
        return answer.decode(errors="replace")[:500]
