"""What a cold start loads. A module that a request may never use is not loaded before one needs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

FUNCTIONS = sorted(path.parent for path in Path("functions").glob("*/app.py"))

# Slow to import, and needed by none of them: AWS's SDK, an HTTP client, what of Powertools is neither log nor metrics.
# cryptography is in the development environment only; PyJWT would take it from there.
NEVER = {
    "aws_lambda_powertools.event_handler",
    "aws_xray_sdk",
    "boto3",
    "botocore.session",
    "email_validator",
    "healthcare.database.migrate",
    "httpx",
    "icalendar",
    "nacl",
    "requests",
    "samcli",
    "urllib3",
}
# The authorizer runs before every other function: it gets along without a database and without models.
NEVER_FOR = {
    "authorizer": {"psycopg", "pydantic", "bcrypt", "healthcare.database.connection", "healthcare.web.api"},
    "docs": {"psycopg", "pydantic", "bcrypt", "healthcare.platform.settings", "jwt"},
    **{
        name: {"bcrypt", "jwt", "healthcare.accounts.users"}
        for name in ("appointments", "audit", "doctors", "health", "mappings", "patients")
    },
}
SDK = {"boto3", "botocore.session", "urllib3"}
OPERATORS = {"migrate": {"healthcare.database.migrate"}, "rotate_keys": SDK, "sender": SDK, "traffic_hook": SDK}

PROGRAM = """
import json, sys
sys.modules["cryptography"] = None
before = set(sys.modules)
import app
print(json.dumps(sorted(set(sys.modules) - before)))
"""


@pytest.mark.parametrize("folder", FUNCTIONS, ids=lambda folder: folder.name)
def test_a_cold_start_loads_nothing_that_it_may_not_need(folder: Path) -> None:
    paths = ":".join(str(path.resolve()) for path in (folder, Path("layers/common")))
    python = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={"PYTHONPATH": paths}, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(python.stdout))
    assert "app" in loaded
    unwanted = (NEVER | NEVER_FOR.get(folder.name, set())) - OPERATORS.get(folder.name, set())
    assert loaded & unwanted == set()
