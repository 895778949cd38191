"""The process that stands in for AWS."""

import subprocess
import sys
from functools import cached_property
from pathlib import Path
from typing import Self

from local.settings import PROJECT, CannotStart

ENDPOINT = "aws-endpoint"


class Moto:
    """Runs inside a `with` block, with its state in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "log" / "moto.log"

    def __enter__(self) -> Self:
        self._log.parent.mkdir(exist_ok=True)
        self._process = self._start(port=0)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    @cached_property
    def endpoint(self) -> str:
        """Known once it listens."""
        endpoint = self._first_line()
        (self._folder / ENDPOINT).write_text(endpoint)
        return endpoint

    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def restart(self) -> None:
        """On the same port, where the functions look for it."""
        port = int(self.endpoint.rpartition(":")[2])
        self.__exit__()
        self._process = self._start(port)
        self._first_line()

    def _start(self, port: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "local.aws.server", str(self._folder), str(port)]
        with self._log.open("a") as log:
            return subprocess.Popen(
                command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
            )

    def _first_line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise CannotStart(f"moto, which stands in for AWS, did not start; {self._log} says why.")
        return line


def endpoint_of(folder: Path) -> str:
    """Of the run that is up with its state in `folder`."""
    try:
        return (folder / ENDPOINT).read_text()
    except OSError:
        raise CannotStart(f"There is no local run in {folder} yet: start `make run`, in another terminal.") from None
