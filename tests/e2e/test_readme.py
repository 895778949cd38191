"""The README's tour, run as it stands, in a shell, against a run of its own."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.local_run import LocalRun, running
from tests.gateway import routes

README = Path("README.md").read_text()
WHOLE_TOUR = README.partition("## A tour with curl")[2].partition("\n## ")[0]
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", WHOLE_TOUR, re.DOTALL)


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRun]:
    with running(tmp_path_factory.mktemp("tour")) as run:
        yield run


def test_every_command_of_the_tour_answers_what_it_says(own_run: LocalRun) -> None:
    first = ("sh", "export API=http://127.0.0.1:3000\n")
    assert BLOCKS[0] == first, "the one line that differs here: the port"
    script = [f"export API={own_run.base_url}"]
    expected = []
    for number, (language, text) in enumerate(BLOCKS[1:]):
        script.append(text if language == "sh" else f"echo; echo '--- {number}'")
        if language == "json":
            expected.append(json.loads(text))
    shell = subprocess.run(["sh", "-eu"], input="\n".join(script), capture_output=True, text=True, timeout=60)
    assert shell.returncode == 0, shell.stderr
    answers = [json.loads(part) for part in re.split(r"^--- \d+$", shell.stdout, flags=re.MULTILINE) if part.strip()]
    assert len(answers) == len(expected) > 10
    for answer, said in zip(answers, expected, strict=True):
        assert _blurred(answer, said) == said


def _blurred(answer: Any, said: Any) -> Any:
    """The answer, with what the README leaves open as the README leaves it."""
    if said == "..." and answer:
        return said
    if isinstance(answer, dict) and isinstance(said, dict):
        return {name: _blurred(value, said.get(name)) for name, value in answer.items()}
    if isinstance(answer, list) and isinstance(said, list) and len(answer) == len(said):
        return [_blurred(value, of_it) for value, of_it in zip(answer, said, strict=True)]
    return answer


def test_every_route_has_a_place_in_the_readme() -> None:
    table = README.partition("## Routes")[2].partition("\n## ")[0]
    shown = re.findall(r"`(/[^`]+)`", table)
    for method, path, folder, _ in routes():
        assert any(path == of or path.startswith(of + "/") for of in shown), (method, path, folder)


def test_every_setting_is_documented() -> None:
    from healthcare.platform.settings import Settings

    table = Path("docs/configuration.md").read_text()
    undocumented = [name.upper() for name in Settings._fields if f"`{name.upper()}`" not in table]
    assert undocumented == []
