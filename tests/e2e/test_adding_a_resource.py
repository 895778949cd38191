"""docs/adding-a-resource.md, followed to the letter in a copy of the project."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.local_run import PROJECT, inherited

PAGE = Path("docs/adding-a-resource.md").read_text("utf-8")
BLOCK = r"```\w+\n(.*?)```\n"
STEP = re.compile(
    rf"^Make `(?P<make>[^`]+)`:\n{BLOCK}"
    rf"|^In `(?P<put>[^`]+)`, after\n{BLOCK}put\n{BLOCK}"
    rf"|^In `(?P<change>[^`]+)`, change\n{BLOCK}to\n{BLOCK}"
    rf"|^(?P<run>Run)\n{BLOCK}",
    re.MULTILINE | re.DOTALL,
)


def steps() -> Iterator[tuple[str, str, list[str]]]:
    """What to do, the file to do it to, and the blocks."""
    for match in STEP.finditer(PAGE):
        kind = next(name for name, value in match.groupdict().items() if value is not None)
        file, *blocks = (group for group in match.groups() if group is not None)
        yield kind, file, blocks


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy, whose virtual environment leads to this one."""
    ignored = shutil.ignore_patterns(".git", ".venv*", ".local", ".aws-sam", ".*_cache", ".hypothesis", "__pycache__")
    copy = shutil.copytree(PROJECT, tmp_path / "project", ignore=ignored)
    programs = copy / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "ruff", "mypy"):
        (programs / name).write_text(f'#!/bin/sh\nexec "{Path(sys.executable).with_name(name)}" "$@"\n')
        (programs / name).chmod(0o755)
    (copy / ".venv" / f"ready-{sys.version_info.major}.{sys.version_info.minor}").touch()
    return copy


def test_every_block_of_the_page_belongs_to_a_step() -> None:
    assert 2 * sum(len(blocks) for _, _, blocks in steps()) == len(re.findall("^```", PAGE, re.MULTILINE))


def test_a_resource_that_is_added_by_the_page_works(project: Path) -> None:
    migrations = project / "layers/common/healthcare/database/migrations"
    number = max(int(path.name[:4]) for path in migrations.glob("*.sql")) + 1
    for kind, file, blocks in steps():
        path = project / file.replace("NNNN", f"{number:04}")
        match kind, blocks:
            case "make", [text]:
                assert not path.exists()
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, "utf-8")
            case (("put" | "change"), [found, text]):
                before = "\n" + path.read_text("utf-8")
                assert before.count("\n" + found) == 1, (file, found)
                after = before.replace("\n" + found, "\n" + (found + text if kind == "put" else text))
                path.write_text(after[1:], "utf-8")
            case "run", [commands]:
                run(project, commands)


def run(project: Path, commands: str) -> None:
    environ = {name: value for name, value in inherited().items() if not name.startswith("PYTEST_")}
    environ["MAKEFLAGS"] = f"PYTHON={sys.executable}"
    shell = subprocess.run(
        ["sh", "-e"], input=commands, cwd=project, env=environ, capture_output=True, text=True, timeout=300
    )
    assert shell.returncode == 0, shell.stdout + shell.stderr
