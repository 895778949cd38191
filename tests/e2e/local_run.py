"""Starts `python -m local` as a person does, and looks at what it leaves behind."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import httpx
import psutil

from local.database.postgres import free_port
from tests.e2e import leaks

PROJECT = Path(__file__).parents[2]
START_SECONDS = 60


KEPT_BACK = ("PG", "DATABASE_", "AWS_", "APP_URL")


def inherited() -> dict[str, str]:
    """The environment without what other tests say about their database and their AWS."""
    return {name: value for name, value in os.environ.items() if not name.startswith(KEPT_BACK)}


class LocalRun:
    def __init__(self, folder: Path, *, project: Path = PROJECT, port: int | None = None, **environ: str) -> None:
        self.folder = folder
        self.project = project
        self.port = port or free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self.lines: list[str] = []
        self.environ = inherited() | {"LOCAL_DIR": str(folder), "PORT": str(self.port), "BCRYPT_COST": "4"} | environ

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when it says that it is up, or has ended."""
        self.process = self._popen("local")
        self._printed: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        deadline = time.monotonic() + START_SECONDS
        while (line := self._printed.get(timeout=deadline - time.monotonic())) is not None:
            if "Ctrl-C stops it" in line:
                return

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self.lines.append(line.rstrip("\n"))
                leaks.session.logs.append(self.lines[-1])
                self._printed.put(line)
        self._printed.put(None)

    def stop(self, number: int = signal.SIGINT) -> int:
        """Sends a signal unless it has ended, and returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        status = self.process.wait(30)
        self._reader.join(30)
        leaks.session.keep_logs_of(self.folder)
        return status

    def clean(self) -> None:
        process = self._popen("tools.clean")
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0, output

    def processes(self) -> list[psutil.Process]:
        """All that it has started, those that have left its process group or session too."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"{self.base_url}{path}", timeout=30)

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def _popen(self, module: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=self.project,
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@contextmanager
def running(folder: Path, **environ: str) -> Iterator[LocalRun]:
    """One that is up, and is cleaned away afterwards."""
    with LocalRun(folder, **environ) as run:
        assert run.process.poll() is None, run.output
        yield run
    run.clean()


def still_running(processes: list[psutil.Process], seconds: float = 5) -> list[psutil.Process]:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
