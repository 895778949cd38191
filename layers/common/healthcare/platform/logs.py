"""The log: JSON lines of Powertools' Logger on standard output, which Lambda takes to CloudWatch.

Nothing that is logged may be somebody's name, address, token or words: ids and counts only.
"""

import logging
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from json import JSONEncoder
from logging import LogRecord, makeLogRecord
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

# No line shows these, so logging need not look them up; the last one would ask for an asyncio loop.
for kind in ("Threads", "Processes", "Multiprocessing", "AsyncioTasks"):
    setattr(logging, f"log{kind}", False)

_OF_EVERY_RECORD = frozenset(makeLogRecord({}).__dict__)


class Formatter(LambdaPowertoolsFormatter):
    """Of an exception only its type and its place: its text may hold a value of somebody's."""

    def format(self, record: LogRecord) -> str:
        exception, exception_name, _ = self._extract_log_exception(record)
        fields = {key: value for key, value in record.__dict__.items() if key not in _OF_EVERY_RECORD}
        fields |= {"exception": exception, "exception_name": exception_name}
        location = f"{record.funcName}:{record.lineno}"
        return _encode(self.line(record.levelname, location, record.getMessage(), fields))

    def line(self, level: str, location: str, message: str, fields: Mapping[str, object]) -> dict[str, object]:
        """The keys that Powertools' own formatter writes, in a third of its time."""
        line = {
            **self.log_format,
            "level": level,
            "location": location,
            "message": message,
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            **fields,
            "xray_trace_id": self._get_latest_trace_id(),
        }
        return {key: value for key, value in line.items() if value is not None}

    def _extract_log_exception(self, log_record: LogRecord) -> tuple[Any, Any, Any]:
        kind, error, place = log_record.exc_info or (None, None, None)
        if kind is None or error is None:
            return None, None, None
        # Not every error has an SQLSTATE.
        name = " ".join(filter(None, (f"{kind.__module__}.{kind.__qualname__}", getattr(error, "sqlstate", None))))
        return "".join(traceback.format_tb(place)), name, None


_encode = JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=str).encode

logger = Logger(logger_formatter=Formatter())
