"""JSON lines on standard output, which Lambda takes to CloudWatch.

Powertools' logger writes the like, but takes a third of a small request's processor time to do it.
"""

import json
import sys
from datetime import UTC, datetime
from os import environ

_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}


def log(level: str, message: str, **fields: object) -> None:
    """What is None is left out. Nothing may be somebody's name, address, token or words."""
    if _LEVELS[level] < _LEVELS.get(environ.get("LOG_LEVEL", "INFO"), 20):
        return
    line = {
        "level": level,
        "message": message,
        "service": environ.get("SERVICE_NAME"),
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
        **fields,
    }
    # One piece, so that nothing comes between.
    sys.stdout.write(json.dumps({name: value for name, value in line.items() if value is not None}) + "\n")
    sys.stdout.flush()
