"""AWS's runtime interface emulator with awslambdaric under it: what a Lambda container image would run."""

import http.client
import json
import subprocess
import sys
import threading
import time

import psutil

from local.database.postgres import free_port
from local.environments.function import (
    Function,
    InvocationFailed,
    WriteLine,
    forward_lines,
    kill_with_children,
    start_process,
)
from local.settings import emulator

START_SECONDS = 10
# The emulator enforces a function's time-out itself; this side gives up so much later.
GRACE_SECONDS = 5

_ports_given: set[int] = set()
_giving_ports = threading.Lock()


class EmulatedEnvironment:
    def __init__(self, function: Function, write_line: WriteLine) -> None:
        self._function = function
        self._runtime: psutil.Process | None = None
        port, runtime_port = _new_port(), _new_port()
        command = [str(emulator()), "--log-level", "error"]
        command += ["--runtime-interface-emulator-address", f"127.0.0.1:{port}"]
        command += ["--runtime-api-address", f"127.0.0.1:{runtime_port}"]
        command += [sys.executable, "-m", "awslambdaric", function.handler]
        self._process = start_process(command, function, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        forward_lines(self._process.stdout, function, write_line)
        timeout = function.timeout + GRACE_SECONDS
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        self._connect()

    def invoke(self, event: bytes) -> bytes:
        try:
            self._connection.request("POST", "/2015-03-31/functions/function/invocations", event)
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise InvocationFailed(f"the emulator ended: {error!r}") from error
        if response.status != 200 or answer.startswith(b"Task timed out after "):
            raise InvocationFailed(_error_message(answer))
        if self._runtime is None:
            self._runtime = next(iter(psutil.Process(self._process.pid).children()), None)
        return answer

    def has_ended(self) -> bool:
        """The emulator outlives the runtime, and says so only with the next event."""
        try:
            return self._runtime is None or self._runtime.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    def stop(self) -> None:
        kill_with_children(self._process)

    def close(self) -> None:
        self.stop()
        self._connection.close()

    def _connect(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                self._connection.connect()
            except OSError:
                time.sleep(0.005)
            else:
                return
        self.stop()
        raise InvocationFailed(f"the emulator of {self._function.name} did not start")


def _new_port() -> int:
    """Never the same twice: a free port is another's until its emulator listens."""
    with _giving_ports:
        while (port := free_port()) in _ports_given:
            pass
        _ports_given.add(port)
        return port


def _error_message(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["errorMessage"])
    except (ValueError, KeyError, TypeError):
        return answer.decode(errors="replace")[:500]
