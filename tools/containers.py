"""For `sam local start-api`, which runs functions in containers: `python -m tools.containers`, beside `make run`.

Writes a template in which functions find the database of the local run. An environment file for SAM CLI could not do
that: it takes only variables that the template has, which are not all that PostgreSQL's client needs here.
"""

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samcli.yamlhelper import yaml_dump, yaml_parse

from local.aws.moto import endpoint_of
from local.database.database import DATABASE, port_of
from local.settings import DATA_KEYS_SECRET, DUMMY_ACCOUNT, TOKEN_KEYS_SECRET, CannotStart, state_folder
from tools.build import build, python_of_lambda, wheels_for

# Containers share the network of a Linux machine; Docker elsewhere has a name for the machine that it runs on.
SHARES_NETWORK = sys.platform == "linux"
HOST = "127.0.0.1" if SHARES_NETWORK else "host.docker.internal"


def main() -> int:
    machine = "aarch64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    try:
        folder = state_folder(os.environ)
        variables = variables_of(folder)
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    target = folder / "containers"
    build(target, wheels_for(machine), python_of_lambda())
    file = target / "template.yaml"
    template = yaml_parse(file.read_text("utf-8"))
    connect(template, machine, variables)
    file.write_text(yaml_dump(template), "utf-8")
    network = " --docker-network host" if SHARES_NETWORK else ""
    print(f".venv/bin/sam local start-api --template {file}{network}")
    return 0


def variables_of(folder: Path) -> dict[str, str]:
    """What all functions need; whoever logs in finds the password by PGUSER."""
    return {
        **DUMMY_ACCOUNT,
        "AWS_ENDPOINT_URL": endpoint_of(folder).replace("127.0.0.1", HOST),
        "TOKEN_KEYS_SECRET_ID": TOKEN_KEYS_SECRET,
        "DATA_KEYS_SECRET_ID": DATA_KEYS_SECRET,
        "PGHOST": HOST,
        "PGPORT": port_of(folder),
        "PGDATABASE": DATABASE,
        "PGSSLMODE": "disable",
        "PGSSLROOTCERT": "",
        "DATABASE_AUTH": "password",
        **{f"PGPASSWORD {path.name.removeprefix('password-')}": path.read_text() for path in folder.glob("password-*")},
    }


def connect(template: dict[str, Any], machine: str, variables: Mapping[str, str]) -> None:
    architecture = {"aarch64": "arm64"}.get(machine, machine)
    shared = {name: value for name, value in variables.items() if not name.startswith("PG")}
    of_database = {name: value for name, value in variables.items() if name.startswith("PG") and " " not in name}
    template["Globals"]["Function"]["Architectures"] = [architecture]
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            given = resource["Properties"]["Environment"]["Variables"]
            given |= shared
            if "PGUSER" in given:
                given |= {**of_database, "PGPASSWORD": variables[f"PGPASSWORD {given['PGUSER']}"]}


if __name__ == "__main__":
    sys.exit(main())
