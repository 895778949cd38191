"""Where the emulator can't run: a process that imports the handler and answers line by line."""

import json
import os
import select
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

from local.environments.function import (
    Function,
    InvocationFailed,
    WriteLine,
    forward_lines,
    kill_with_children,
    start_process,
)


class ProcessEnvironment:
    def __init__(self, function: Function, write_line: WriteLine) -> None:
        self._function = function
        # -P: the folder of the worker must not shadow what a handler imports.
        command = [sys.executable, "-P", str(Path(__file__).with_name("worker.py")), function.handler]
        self._process = start_process(command, function, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        forward_lines(self._process.stderr, function, write_line)

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

    def stop(self) -> None:
        kill_with_children(self._process)

    def close(self) -> None:
        self.stop()
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
                raise InvocationFailed(f"Task timed out after {self._function.timeout} seconds")
            chunk = os.read(output, 65536)
            if not chunk:
                raise InvocationFailed("its process ended")
            line += chunk
        return bytes(line)
