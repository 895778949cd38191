"""The log: JSON lines of Powertools' Logger on standard output, which Lambda takes to CloudWatch.

Nothing that is logged may be somebody's name, address, token or words: ids and counts only.
"""

import logging
import traceback
from json import JSONEncoder
from logging import LogRecord, makeLogRecord
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

# What no line shows need not be found out for each; the last one asks asyncio for a loop that is not there.
for kind in ("Threads", "Processes", "Multiprocessing", "AsyncioTasks"):
    setattr(logging, f"log{kind}", False)

_OF_EVERY_RECORD = frozenset(makeLogRecord({}).__dict__)


class _Formatter(LambdaPowertoolsFormatter):
    """Of an exception only its type and its place: its text may hold a value of somebody's."""

    def format(self, record: LogRecord) -> str:
        """The same keys as by default, in a third of the time: a get's CPU is 0.2 ms."""
        exception, exception_name, _ = self._extract_log_exception(record)
        line = {
            **self.log_format,
            "level": record.levelname,
            "location": f"{record.funcName}:{record.lineno}",
            "message": record.getMessage(),
            "timestamp": self.formatTime(record),
            **{key: value for key, value in record.__dict__.items() if key not in _OF_EVERY_RECORD},
            "exception": exception,
            "exception_name": exception_name,
            "xray_trace_id": self._get_latest_trace_id(),
        }
        return self.json_serializer({key: value for key, value in line.items() if value is not None})

    def _extract_log_exception(self, log_record: LogRecord) -> tuple[Any, Any, Any]:
        kind, error, place = log_record.exc_info or (None, None, None)
        if kind is None or error is None:
            return None, None, None
        # Not every error has an SQLSTATE.
        name = " ".join(filter(None, (f"{kind.__module__}.{kind.__qualname__}", getattr(error, "sqlstate", None))))
        return "".join(traceback.format_tb(place)), name, None


_serialize = JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=str).encode

logger = Logger(logger_formatter=_Formatter(json_serializer=_serialize, use_rfc3339=True, utc=True))
