"""What editors and hooks are told to run exists."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from samcli.yamlhelper import yaml_parse


def test_the_editor_starts_modules_that_exist() -> None:
    configurations = json.loads(Path(".vscode/launch.json").read_text())["configurations"]
    assert len(configurations) > 1
    for configuration in configurations:
        assert find_spec(configuration["module"]), configuration
        assert configuration["python"] == "${workspaceFolder}/.venv/bin/python"


@pytest.mark.parametrize("name", ["settings", "extensions"])
def test_the_editors_other_files_are_read(name: str) -> None:
    assert json.loads(Path(f".vscode/{name}.json").read_text())


def test_hooks_run_tools_that_are_pinned_and_folders_that_exist() -> None:
    (repository,) = yaml_parse(Path(".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    requirements = Path("requirements-dev.txt").read_text()
    for hook in repository["hooks"]:
        program, *arguments = hook["entry"].split()
        if hook["language"] == "system":
            assert f"\n{program.removeprefix('.venv/bin/')}==" in requirements, hook
        assert all("==" in dependency for dependency in hook.get("additional_dependencies", [])), hook
        assert all(Path(argument).exists() for argument in arguments if "/" in argument), hook


def test_contributors_are_told_of_commands_and_files_that_exist() -> None:
    text = Path("CONTRIBUTING.md").read_text()
    targets = re.findall(r"^([a-z]+):", Path("Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`make (\w+)`", text)) <= set(targets)
    for name in re.findall(r"(?:functions|layers|local|tests|docs|events)/[\w./-]+", text):
        assert Path(name).exists(), name
    for name in re.findall(r"-k (\w+)", text):
        assert any(name in path.read_text() for path in Path("tests").rglob("*.py")), name
