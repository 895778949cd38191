"""The log: JSON lines of Powertools' Logger on standard output, which Lambda takes to CloudWatch.

Nothing that is logged may be somebody's name, address, token or words: ids and counts only.
"""

import traceback
from logging import LogRecord
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter


class _Formatter(LambdaPowertoolsFormatter):
    """Of an exception only its type and its place: its text may hold a value of somebody's."""

    def _extract_log_exception(self, log_record: LogRecord) -> tuple[Any, Any, Any]:
        kind, error, place = log_record.exc_info or (None, None, None)
        if kind is None or error is None:
            return None, None, None
        # Not every error has an SQLSTATE.
        name = " ".join(filter(None, (f"{kind.__module__}.{kind.__qualname__}", getattr(error, "sqlstate", None))))
        return "".join(traceback.format_tb(place)), name, None


logger = Logger(logger_formatter=_Formatter(use_rfc3339=True, utc=True, serialize_stacktrace=False))
