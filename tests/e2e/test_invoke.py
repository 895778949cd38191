"""`python -m tools.invoke`: a function with an event, under a debugger if you like."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import PASSWORD, Person
from tests.e2e.local_run import PROJECT, LocalRun, inherited

EVENTS = PROJECT / "events"


def invoke(folder: Path, *arguments: str, python: tuple[str, ...] = ("-m", "tools.invoke")) -> tuple[int, str, str]:
    process = subprocess.run(
        [sys.executable, *python, *arguments],
        cwd=PROJECT,
        env=inherited() | {"LOCAL_DIR": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return process.returncode, process.stdout, process.stderr


def answer(run: LocalRun, file: Path, event: dict[str, Any]) -> Any:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(event))
    status, output, errors = invoke(run.folder, str(file))
    assert status == 0, errors
    log, _, answer = output.partition("\n{\n")
    assert json.loads(log.splitlines()[-1])["status"] < 300
    return json.loads("{" + answer)


def test_it_works_on_the_data_of_the_run(local_run: LocalRun, sign_up: Callable[[], Person], tmp_path: Path) -> None:
    person = sign_up()
    event = json.loads((EVENTS / "patients" / "create.json").read_text("utf-8"))
    event["requestContext"]["authorizer"]["user_id"] = str(person.id)
    created = answer(local_run, tmp_path / "patients" / "create.json", event)
    assert created["statusCode"] == 201
    assert person.client.get("/api/patients").json()["items"] == [json.loads(created["body"])]


def test_its_tokens_are_good_for_the_run(local_run: LocalRun, sign_up: Callable[[], Person], tmp_path: Path) -> None:
    person = sign_up()
    event = json.loads((EVENTS / "auth" / "log_in.json").read_text("utf-8"))
    event["body"] = json.dumps({"email": person.email, "password": PASSWORD})
    login = answer(local_run, tmp_path / "auth" / "log_in.json", event)
    person.client.headers["Authorization"] = f"Bearer {json.loads(login['body'])['access_token']}"
    assert person.client.get("/api/auth/me").status_code == 200


def test_a_debugger_stops_in_the_handler(local_run: LocalRun) -> None:
    line = 1 + (PROJECT / "functions/health/app.py").read_text().splitlines().index("api = Api()")
    commands = ("-m", "pdb", "-c", f"break functions/health/app.py:{line}", "-c", "continue")
    _, output, _ = invoke(local_run.folder, "events/health/read.json", python=(*commands, "-m", "tools.invoke"))
    assert f"functions/health/app.py({line})<module>()" in output


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Name an event: `python -m tools.invoke events/patients/list.json`."),
        (
            ("events/none.json",),
            "events/none.json is no event: [Errno 2] No such file or directory: 'events/none.json'",
        ),
        (("template.yaml",), "template.yaml is no event: Expecting value: line 1 column 1 (char 0)"),
        ((".vscode/launch.json",), "There is no function .vscode: an event lies in a folder of its function's name."),
        (
            ("events/health/read.json",),
            "There is no database in {folder} yet: start `make run`, in another terminal.",
        ),
    ],
)
def test_what_is_missing_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    assert invoke(tmp_path, *arguments) == (1, "", sentence.format(folder=tmp_path) + "\n")
