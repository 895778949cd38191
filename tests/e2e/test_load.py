"""The load test in small, so that it works when somebody needs it."""

import subprocess
import sys

from tests.e2e.local_run import PROJECT


def test_a_few_users_get_no_wrong_answer() -> None:
    command = [sys.executable, "-m", "tests.benchmarks.load", "--users", "4", "--seconds", "4"]
    load = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert load.returncode == 0, load.stdout + load.stderr
    assert "wrong answers: 0, of which leaks: 0" in load.stdout
    assert "errors: 0 refused for the moment, 0 failed" in load.stdout
