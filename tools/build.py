"""Makes what `sam deploy` uploads, for Lambda's own processor and Python: `python -m tools.build`, in .aws-sam/build.

`sam build` makes the same but for four things. This needs neither a Python of Lambda's version nor Docker; it leaves
out what no function imports; it ships byte code; and it marks each build.

Without byte code, a cold start compiles every module anew, which takes longer than the rest of it. It is never
compared with its source, because SAM's zip archives lose the dates of files. Without the mark, a
changed parameter would make no new version of a function: SAM compares templates, and there it is only a reference.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from samcli.yamlhelper import yaml_dump, yaml_parse

from local.settings import PROJECT

BUILD = PROJECT / ".aws-sam" / "build"
CONSTRAINTS = PROJECT / "constraints.txt"
LAMBDA_PYTHON = "3.13"
# Lambda's processor; what pip calls the processors that wheels are for.
ARM = "aarch64"
# What no function imports; a test serves requests without it. Of the description of what is installed, pydantic would
# read each file at its import, to look for plug-ins.
UNUSED = (
    "bin",
    "*.dist-info",
    "cffi",  # PyNaCl uses its compiled part alone
    "icalendar/tests",
    "jmespath",
    "pycparser",
    "pydantic/v1",
    "aws_lambda_powertools/utilities/[!_j]*",
    "aws_lambda_powertools/event_handler/[!_o]*",
    "aws_lambda_powertools/event_handler/openapi/[!_s]*",
    "**/__pycache__",
    "**/*.pyi",
)

Json = dict[str, Any]


def main() -> None:
    python = python_of_lambda()
    build(BUILD, wheels_for(ARM), python)
    for folder in sorted(path for path in BUILD.iterdir() if path.is_dir()):
        print(f"{folder.name:<20} {size(folder) / 1e6:7.2f} MB unpacked")
    if python is None:
        print(
            f"There is no Python {LAMBDA_PYTHON} here to make byte code with. What was built works, but a cold start"
            " takes a quarter of a second longer; before a deployment that counts, install it and build again."
        )
    print(f"Built in {BUILD.relative_to(PROJECT)}. Next: .venv/bin/sam deploy --guided")


def wheels_for(machine: str) -> list[str]:
    """pip's options for Lambda's Python on Amazon Linux 2023."""
    return [
        "--only-binary=:all:",
        "--implementation=cp",
        f"--python-version={LAMBDA_PYTHON}",
        f"--platform=manylinux_2_28_{machine}",
        f"--platform=manylinux2014_{machine}",
    ]


def python_of_lambda() -> str | None:
    """One with which byte code can be made that Lambda's Python takes; its minor version has to be the same."""
    same = f"import sys; sys.exit('%d.%d' % sys.version_info[:2] != '{LAMBDA_PYTHON}')"
    for python in (sys.executable, f"python{LAMBDA_PYTHON}"):
        # A name on the PATH may be a shim for a version that is not there.
        if shutil.which(python) and subprocess.run([python, "-c", same], capture_output=True).returncode == 0:
            return python
    return None


def build(target: Path, platform: Sequence[str], python: str | None) -> None:
    """Everything that the template names, each in a folder called like the resource, and the template beside it."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    template = yaml_parse((PROJECT / "template.yaml").read_text("utf-8"))
    for name, resource in template["Resources"].items():
        properties = resource["Properties"]
        match resource["Type"]:
            case "AWS::Serverless::Function":
                _copy(PROJECT / properties["CodeUri"], target / name)
                _compile(target / name, "/var/task", python)
                properties["CodeUri"] = name
            case "AWS::Serverless::LayerVersion" if "BuildMethod" in resource.get("Metadata", {}):
                _install(PROJECT / properties["ContentUri"], target / name / "python", platform)
                _compile(target / name / "python", "/opt/python", python)
                properties["ContentUri"] = name
                del resource["Metadata"]
            case "AWS::Serverless::LayerVersion":
                _copy(PROJECT / properties["ContentUri"], target / name)
                properties["ContentUri"] = name
    mark(template, datetime.now(UTC))
    (target / "template.yaml").write_text(yaml_dump(template), "utf-8")


def mark(template: Json, time: datetime) -> None:
    template["Globals"]["Function"]["Environment"]["Variables"]["BUILD"] = f"{time:%Y-%m-%dT%H:%M:%SZ}"


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _install(source: Path, target: Path, platform: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += [f"--target={target}", f"--requirement={source / 'requirements.txt'}", f"--constraint={CONSTRAINTS}"]
    subprocess.run([*command, *platform], check=True, stdin=subprocess.DEVNULL)
    for pattern in UNUSED:
        for path in list(target.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    for package in source.iterdir():
        if package.is_dir() and package.name != "__pycache__":
            _copy(package, target / package.name)


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "py.typed"))


def _compile(folder: Path, place: str, python: str | None) -> None:
    """`place` is where Lambda has it, for tracebacks."""
    if python:
        command = [python, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        subprocess.run([*command, "-s", str(folder), "-p", place, str(folder)], check=True, env=environment)


if __name__ == "__main__":
    main()
