"""What a person sees: plain lines of the run itself, and the functions' logs made readable."""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TextIO

COLOURS = {"ERROR": "31", "CRITICAL": "31", "WARNING": "33", "DEBUG": "2"}
SHOWN_APART = {"level", "message", "service", "exception"}
# The same in every line, or of no use outside AWS.
NOISE = {
    "cold_start",
    "correlation_id",
    "exception_name",
    "function_arn",
    "function_memory_size",
    "function_name",
    "function_request_id",
    "listed",
    "location",
    "stack_trace",
    "timestamp",
    "xray_trace_id",
}
# The emulator's lines around each request, empty ones, and a warning of the runtime that runtimes get updated.
NOISE_LINES = re.compile(
    r"(START|END|REPORT) RequestId: |\d\d \w{3} \d{4} [\d:,]+ \[\w+\] \(rapid\) |\s*$|.*\tLAMBDA_WARNING: "
)


class Console:
    def __init__(self, output: TextIO = sys.stdout) -> None:
        self._output = output
        self._colours = output.isatty() and not os.environ.get("NO_COLOR")
        self._lock = threading.Lock()
        self._files: dict[str, TextIO] = {}
        self._folder: Path | None = None

    def keep_logs_in(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder = folder

    def close(self) -> None:
        with self._lock:
            for file in self._files.values():
                file.close()
            self._files, self._folder = {}, None

    def say(self, text: str = "") -> None:
        with self._lock:
            self._print(text)

    def log(self, source: str, level: str, message: str) -> None:
        self.say(self._line(source, level, message))

    def function_line(self, source: str, line: str) -> None:
        """One line that a function wrote, as it is into its log file and readable onto the console."""
        if NOISE_LINES.match(line):
            return
        with self._lock:
            self._append(source, line)
            self._print(self._readable(source, line))

    def _readable(self, source: str, line: str) -> str:
        try:
            fields = json.loads(line)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            # awslambdaric keeps the lines of one message together with carriage returns.
            return "\n".join(f"    {part}" for part in line.split("\r"))
        return self._line(
            str(fields.get("service", source)), str(fields.get("level", "INFO")), _message(fields), fields
        )

    def _line(self, source: str, level: str, message: str, fields: Mapping[str, object] | None = None) -> str:
        shown = [f"{time.strftime('%H:%M:%S')} {source:<10} {level:<7} {message}"]
        exception = (fields or {}).get("exception")
        if exception:
            shown += [f"    {part}" for part in str(exception).splitlines()]
        text = "\n".join(shown)
        colour = COLOURS.get(level)
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colours and colour else text

    def _append(self, source: str, line: str) -> None:
        if self._folder is None:
            return
        if source not in self._files:
            self._files[source] = (self._folder / f"{source}.log").open("a", buffering=1, errors="replace")
        self._files[source].write(line + "\n")

    def _print(self, text: str) -> None:
        # When the reader has gone, as in `make run | head`, the run goes on.
        with suppress(OSError, ValueError):
            print(text, file=self._output, flush=True)


def _message(fields: Mapping[str, object]) -> str:
    message = fields.get("message", "")
    parts = [] if message in (None, "") else [message if isinstance(message, str) else json.dumps(message)]
    parts += [
        f"{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in fields.items()
        if name not in SHOWN_APART | NOISE
    ]
    return " ".join(parts)
