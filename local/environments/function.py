"""A Lambda function of the template, and what all kinds of its execution environments have in common."""

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import psutil

# What Python itself needs; everything else that a function knows comes from the template.
INHERITED = ("PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH")


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


class InvocationFailed(Exception):
    """The function gave no answer: it raised, took too long, could not be imported, or its process ended."""


class Environment(Protocol):
    """A process that serves one request at a time."""

    def invoke(self, event: bytes) -> bytes:
        """Raises InvocationFailed."""

    def has_ended(self) -> bool:
        """True if the process died while idle."""

    def stop(self) -> None:
        """Ends the process. A request that it serves fails."""

    def close(self) -> None:
        """Stops, and gives back what the environment holds. Not during a request."""


WriteLine = Callable[[str, str], None]


def start_process(command: list[str], function: Function, *, stdin: int, stderr: int) -> subprocess.Popen[bytes]:
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


def forward_lines(stream: IO[bytes] | None, function: Function, write_line: WriteLine) -> None:
    assert stream is not None

    def forward() -> None:
        with stream:
            for line in stream:
                write_line(function.title, line.decode(errors="replace").rstrip("\n"))

    threading.Thread(target=forward, name=f"logs of {function.title}", daemon=True).start()


def kill_with_children(process: subprocess.Popen[bytes]) -> None:
    """The emulator puts the runtime into a process group of its own, so killing it alone is not enough."""
    # Suspended first, so that it neither starts another runtime nor logs that one has ended.
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
