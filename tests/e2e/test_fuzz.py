"""Schemathesis against the running API, by its own openapi.json: all checks (schemathesis.toml).

In `make test` it does the same each time, without the phase of coverage, which sends thousands of boundary values. With
all phases, for as long as you like, with other data each time:

    FUZZ_SECONDS=600 python -m pytest tests/e2e/test_fuzz.py -s
"""

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.local_run import PROJECT, LocalRun

CONFIGURATION = Path("tests", "e2e", "schemathesis.toml")
HOW_MUCH = (
    ["--max-time", os.environ["FUZZ_SECONDS"]]
    if "FUZZ_SECONDS" in os.environ
    else ["--generation-deterministic", "--no-shrink", "--phases", "examples,fuzzing,stateful"]
)


@pytest.fixture
def own_run(tmp_path: Path) -> Iterator[LocalRun]:
    """An empty one, so that ids are the same each time; and nobody else waits for what its failed logins cost."""
    run = LocalRun(tmp_path / "state", ACCESS_TOKEN_LIFETIME="86400")
    with run:
        assert run.process.poll() is None, run.output
        yield run
    run.clean()


def _sign_up(run: LocalRun, account: dict[str, str]) -> dict[str, str]:
    """The tokens."""
    for path in ("register", "login"):
        body = account | ({"name": "Somebody"} if path == "register" else {})
        answer = httpx.post(f"{run.base_url}/api/auth/{path}", json=body, timeout=30)
        assert answer.is_success, answer.text
    tokens: dict[str, str] = answer.json()
    return tokens


def test_the_api_keeps_to_its_own_description_whatever_is_sent(own_run: LocalRun, tmp_path: Path) -> None:
    accounts = {name: {"email": f"{name}@example.org", "password": secrets.token_hex(16)} for name in ("ann", "bob")}
    tokens = {name: _sign_up(own_run, account) for name, account in accounts.items()}
    headers = {name: f"Bearer {own['access_token']}" for name, own in tokens.items()}
    auth = [
        {"name": name, "fixedHeaders": [{"name": "Authorization", "value": value}]} for name, value in headers.items()
    ]
    users = tmp_path / "users.json"
    users.write_text(json.dumps({"auth": auth}))
    made = {
        "base_url": own_run.base_url,
        "headers": {"Authorization": headers["ann"]},
        "headers_of_other": {"Authorization": headers["bob"]},
        "account": accounts["ann"],
        "refresh_token": tokens["bob"]["refresh_token"],
    }
    environ = {"PYTHONPATH": str(PROJECT), "FUZZ_USERS": str(users), "FUZZ_MADE": json.dumps(made)}
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION), "run", *HOW_MUCH]
    fuzzing = subprocess.run(
        [*command, "--no-color", f"{own_run.base_url}/openapi.json"],
        cwd=PROJECT,
        env=environ | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    print(fuzzing.stdout)
    assert fuzzing.returncode == 0, fuzzing.stdout + fuzzing.stderr
    # Those want a code or a password that nobody guesses; these, what a random id seldom is.
    assert _operations("Authentication failed", fuzzing.stdout) <= 6
    assert _operations("Missing test data", fuzzing.stdout) <= 3


def _operations(warning: str, printed: str) -> int:
    """How many operations were only ever refused so."""
    found = re.search(rf"{warning}: (\d+) operations?", printed)
    return int(found[1]) if found else 0
