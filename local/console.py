"""What a person sees: lines of the run itself, and the functions' JSON logs made readable."""

import json
import os
import re
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

COLOURS = {"ERROR": "31", "CRITICAL": "31", "WARNING": "33", "DEBUG": "2"}
# Fields of Powertools' Logger that are shown in a place of their own, are the same in every line, or mean something in
# AWS only.
NOT_SHOWN = {
    "cold_start",
    "correlation_id",
    "exception",
    "exception_name",
    "function_arn",
    "function_memory_size",
    "function_name",
    "function_request_id",
    "level",
    "location",
    "message",
    "service",
    "stack_trace",
    "timestamp",
    "xray_trace_id",
}
# The emulator's lines around each request, empty ones, and a warning of the runtime that runtimes get updated.
NOISE_LINES = re.compile(
    r"(START|END|REPORT) RequestId: |\d\d \w{3} \d{4} [\d:,]+ \[\w+\] \(rapid\) |\s*$|.*\tLAMBDA_WARNING: "
)
# Escape sequences of a request must not reach the terminal.
VISIBLE = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


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
        with self._lock:
            self._print_log(source, level, message)

    def function_line(self, source: str, line: str) -> None:
        """One line that a function wrote: unchanged into its log file, readable onto the console."""
        if NOISE_LINES.match(line):
            return
        with self._lock:
            self._append(source, line)
            try:
                fields = json.loads(line)
            except ValueError:
                fields = None
            if not isinstance(fields, dict):
                # awslambdaric keeps the lines of one message together with carriage returns.
                self._print("\n".join(f"    {part}" for part in line.split("\r")))
            elif "_aws" not in fields:  # metrics, in the embedded metric format
                exception = "".join(f"\n    {part}" for part in str(fields.get("exception", "")).splitlines())
                service, level = str(fields.get("service", source)), str(fields.get("level", "INFO"))
                self._print_log(service, level, _message(fields) + exception)

    def _print_log(self, source: str, level: str, message: str) -> None:
        self._print(f"{time.strftime('%H:%M:%S')} {source:<10} {level:<7} {message}", COLOURS.get(level))

    def _print(self, text: str, colour: str | None = None) -> None:
        text = text.translate(VISIBLE)
        if colour and self._colours:
            text = f"\x1b[{colour}m{text}\x1b[0m"
        # When the reader has gone, as in `make run | head`, the run goes on.
        with suppress(OSError, ValueError):
            print(text, file=self._output, flush=True)

    def _append(self, source: str, line: str) -> None:
        if self._folder is None:
            return
        if source not in self._files:
            self._files[source] = (self._folder / f"{source}.log").open("a", buffering=1, errors="replace")
        self._files[source].write(line + "\n")


def _message(fields: dict[str, Any]) -> str:
    message = fields.get("message", "")
    parts = [message if isinstance(message, str) else json.dumps(message)]
    for name, value in fields.items():
        if name not in NOT_SHOWN:
            parts.append(f"{name}={value if isinstance(value, str) else json.dumps(value)}")
    return " ".join(filter(None, parts))
