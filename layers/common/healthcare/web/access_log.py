"""The access log: who asked for what and saw which patients, in ids only.

Its lines are like the logger's. Made by `inject_lambda_context` and `logger.info`, they would be a quarter of a get's
CPU time.
"""

from logging import INFO, StreamHandler
from typing import Any, TextIO, cast

from pydantic_core import to_json

from healthcare.platform.logs import Formatter, logger

_handler = cast(StreamHandler[TextIO], logger.registered_handler)
_formatter = cast(Formatter, logger.registered_formatter)


def begin(context: Any) -> None:
    """Sets the keys that every line of this request has, and none of the request before it.

    `account_id` is for a route to set, once it knows whose account the request is about.
    """
    _formatter.append_keys(
        cold_start="cold_start" not in _formatter.log_format,
        function_name=context.function_name,
        function_memory_size=context.memory_limit_in_mb,
        function_arn=context.invoked_function_arn,
        function_request_id=context.aws_request_id,
        account_id=None,
    )


def write(message: str, **fields: object) -> None:
    if logger.log_level <= INFO:
        _handler.stream.write(to_json(_formatter.line("INFO", "access_log", message, fields)).decode() + "\n")
        _handler.flush()
