"""The API as its clients meet it: a linter, clients made from openapi.json, the request collection and a browser.

`make test-clients` installs what this needs and runs it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from tests.e2e.local_run import PROJECT, running
from tests.integration.test_sample_events import ODD
from tools.openapi.events import events

HERE = Path(__file__).parent
NODE_MODULES = HERE / "node_modules" / ".bin"
PYTHON = Path(os.environ["CLIENTS"], "bin").absolute()
OPENAPI = PROJECT / "functions" / "docs" / "openapi.json"
GENERATED = HERE / "generated"


def run(*command: str | Path, cwd: Path = HERE, may_fail: bool = False, **environ: str) -> str:
    """What it prints, once it has succeeded."""
    quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", "NO_COLOR": "1"}
    with TemporaryFile("w+") as output:  # httpyac ends before a pipe has taken all that it prints
        ran = subprocess.run(
            command, cwd=cwd, env=os.environ | quiet | environ, stdout=output, stderr=subprocess.STDOUT, timeout=120
        )
        output.seek(0)
        printed = output.read()
    assert may_fail or ran.returncode == 0, printed
    return printed


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(tmp_path_factory.mktemp("local")) as local_run:
        yield local_run.base_url


@pytest.fixture(scope="module")
def scripts() -> Path:
    """The TypeScript of this folder, checked against types made from openapi.json."""
    # A field of a body that has a default need not be sent.
    made = GENERATED / "api.ts"
    run(NODE_MODULES / "openapi-typescript", OPENAPI, "--default-non-nullable=false", "--output", made)
    run(NODE_MODULES / "tsc", "--project", HERE)
    return GENERATED / "js"


@pytest.fixture(scope="module")
def python_client() -> Path:
    package = GENERATED / "python" / "healthcare_client"
    run(
        PYTHON / "openapi-python-client",
        *("generate", "--path", OPENAPI, "--meta", "none", "--output-path", package),
        *("--overwrite", "--fail-on-warning"),
        PATH=f"{PYTHON}:{os.environ['PATH']}",  # where its ruff is
    )
    return package.parent


def test_the_linters_find_nothing_in_openapi_json() -> None:
    run(NODE_MODULES / "spectral", "lint", "--fail-severity=hint", "--ruleset", HERE / "spectral.yaml", OPENAPI)
    assert "is valid" in run(NODE_MODULES / "redocly", "lint", "--config", HERE / "redocly.yaml", OPENAPI)


def test_a_typescript_client_that_is_made_from_openapi_json_does_what_an_app_does(scripts: Path, base_url: str) -> None:
    assert "pass 3" in run("node", "--test", scripts / "journey.js", API=base_url)


def test_a_python_client_that_is_made_from_openapi_json_does_what_an_app_does(
    python_client: Path, base_url: str
) -> None:
    run(
        *(sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={os.devnull}"),
        *("--python-executable", PYTHON / "python", HERE / "journey.py"),
        MYPYPATH=str(python_client),
    )
    run(PYTHON / "python", "-W", "error", HERE / "journey.py", base_url, PYTHONPATH=str(python_client))


def test_every_request_of_the_collection_succeeds_but_for_those_that_need_somebody_else(
    base_url: str, tmp_path: Path
) -> None:
    collection = (PROJECT / "docs" / "requests.http").read_text("utf-8")
    assert "@host = http://127.0.0.1:3000\n" in collection
    (tmp_path / "requests.http").write_text(collection.replace("http://127.0.0.1:3000", base_url), "utf-8")
    printed = run(NODE_MODULES / "httpyac", "send", "requests.http", "--all", "--json", cwd=tmp_path, may_fail=True)
    requests = json.loads(printed)["requests"]
    assert len(requests) == collection.count("\n### ")
    # One without an answer lacks a variable that nothing has set.
    statuses = {request["name"]: request.get("response", {}).get("statusCode", 404) for request in requests}
    by_name = dict(events())
    paths = json.loads(OPENAPI.read_text("utf-8"))["paths"]
    odd = {paths[by_name[name]["resource"]][by_name[name]["httpMethod"].lower()]["summary"] for name in ODD}
    failed = {name: status for name, status in statuses.items() if not 200 <= status < 300}
    assert failed.keys() <= odd, failed
    assert max(failed.values()) < 500, failed


def test_the_docs_page_works_in_a_browser(scripts: Path, base_url: str) -> None:
    run("node", "--test", scripts / "page.js", API=base_url)
