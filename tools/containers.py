"""For `sam local start-api`, which runs functions in containers: `python -m tools.containers`, beside `make run`.

Writes a template in which functions find the database of the local run. An environment file for SAM CLI could not do
that: it takes only variables that the template has, which are not all that PostgreSQL's client needs here.
"""

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samcli.yamlhelper import yaml_dump, yaml_parse

from local.database.database import DATABASE
from local.settings import DUMMY_ACCOUNT, TOKEN_KEYS_SECRET, CannotStart, read
from tools.build import build, python_of_lambda, wheels_for

# Containers share the network of a Linux machine; Docker elsewhere has a name for the machine that it runs on.
SHARES_NETWORK = sys.platform == "linux"
HOST = "127.0.0.1" if SHARES_NETWORK else "host.docker.internal"


def main() -> int:
    try:
        folder = read(os.environ).folder
        if not (folder / "pgpass").exists():
            raise CannotStart(f"There is no local run in {folder}. Start it with `make run`, and leave it running.")
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    machine = "aarch64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    target = folder / "containers"
    build(target, wheels_for(machine), python_of_lambda())
    command = [sys.executable, "-m", "local.aws.secrets_manager", str(folder / "token-keys.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as secrets_manager:
        assert secrets_manager.stdout
        port = int(secrets_manager.stdout.readline().rpartition(":")[2])
        file = target / "template.yaml"
        template = yaml_parse(file.read_text("utf-8"))
        connect(template, machine, variables_of(folder, port))
        file.write_text(yaml_dump(template), "utf-8")
        network = " --docker-network host" if SHARES_NETWORK else ""
        print(f".venv/bin/sam local start-api --template {file}{network}\n\nCtrl-C stops what it needs.", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            secrets_manager.kill()
    return 0


def variables_of(folder: Path, secrets_manager: int) -> dict[str, str]:
    """What all functions need; whoever logs in finds the password by PGUSER."""
    return {
        **DUMMY_ACCOUNT,
        "AWS_ENDPOINT_URL": f"http://{HOST}:{secrets_manager}",
        "TOKEN_KEYS_SECRET_ID": TOKEN_KEYS_SECRET,
        "PGHOST": HOST,
        "PGPORT": (folder / "postgres" / "port").read_text().strip(),
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
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
