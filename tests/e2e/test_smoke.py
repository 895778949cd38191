"""`python -m tools.smoke`, which a deployment's pipeline runs against what it has deployed."""

import subprocess
import sys

from tests.e2e.local_run import PROJECT


def smoke(url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.smoke", url]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)


def test_an_api_that_works_passes(base_url: str) -> None:
    done = smoke(base_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["ok: rejects strangers", "ok: serves the docs", "ok: keeps a patient"]


def test_an_address_where_nothing_is_fails(base_url: str) -> None:
    done = smoke(f"{base_url}/v1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "failed: GET /v1/health gave 404, not 200\n"
