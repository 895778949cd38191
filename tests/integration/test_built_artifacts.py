"""What `make build` makes, unpacked and laid out as Lambda does, answers requests with nothing else on the path."""

import importlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from samcli.lib.package.utils import make_zip
from samcli.yamlhelper import yaml_parse

from local.aws.moto import Moto
from tests.conftest import SECRET, Database
from tools.build import ARM, build, python_of_lambda, size, wheels_for
from tools.openapi.declared import TIME

# What Lambda's Python has of its own.
RUNTIME = ("boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3")

# Imports the handler, answers the events of standard input, and says at the end what it was made of.
LAMBDA = """
import importlib, json, os, stat, sys
from types import SimpleNamespace
opened = []
sys.addaudithook(lambda event, arguments: event == "open" and opened.append(str(arguments[0])))
handler = importlib.import_module("app").lambda_handler
def is_socket(number):
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        return False
sockets = sum(map(is_socket, range(3, 256)))
context = SimpleNamespace(function_name="f", memory_limit_in_mb=1, invoked_function_arn="f", aws_request_id="1")
answers = [handler(json.loads(line), context) for line in sys.stdin]
files = {file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
files = sorted(files | {file for file in opened if "/opt/python/" in file and not file.endswith(".pyc")})
print(json.dumps({"answers": answers, "files": files, "sockets": sockets}), file=sys.stderr)
"""


@dataclass
class Lambda:
    """The folders that Lambda lays out, and the processes that it starts in them."""

    root: Path
    endpoint: str
    files: set[Path] = field(default_factory=set)
    sockets: dict[str, int] = field(default_factory=dict)  # that a function has open once it is imported

    def invoke(self, function: str, *events: Mapping[str, Any]) -> list[Any]:
        task = self.root / "var" / function
        path = [task, self.root / "opt" / "python", self.root / "runtime"]
        variables = {name: value for name, value in os.environ.items() if name.startswith(("AWS_", "PG"))}
        variables |= {"AWS_ENDPOINT_URL": self.endpoint, "PYTHONPATH": os.pathsep.join(map(str, path))}
        variables |= {"BCRYPT_COST": "4", "TOKEN_KEYS_SECRET_ID": SECRET, "POWERTOOLS_SERVICE_NAME": "tests"}
        variables["PGUSER"] = {"Auth": "healthcare_auth", "Migrate": "healthcare_owner"}.get(function, "healthcare_api")
        command = [sys.executable, "-S", "-P", "-c", LAMBDA]  # without site-packages and the working directory
        lines = "".join(json.dumps(event) + "\n" for event in events)
        ran = subprocess.run(command, cwd=task, env=variables, input=lines, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        report = json.loads(ran.stderr.splitlines()[-1])
        self.files |= {Path(file) for file in report["files"]}
        self.sockets[function] = report["sockets"]
        answers: list[Any] = report["answers"]
        return answers


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built for this machine, so that it runs here; through SAM's own zip archives."""
    target, root = tmp_path_factory.mktemp("build"), tmp_path_factory.mktemp("lambda")
    build(target, [], sys.executable)
    for folder in [path for path in target.iterdir() if path.is_dir()]:
        place = root / ("opt" if folder.name.endswith("Layer") else f"var/{folder.name.removesuffix('Function')}")
        with zipfile.ZipFile(make_zip(str(root / folder.name), str(folder))) as archive:
            archive.extractall(place)
    (root / "runtime").mkdir()
    for name in RUNTIME:
        file = importlib.import_module(name).__file__
        assert file
        source = Path(file).parent if file.endswith("__init__.py") else Path(file)
        (root / "runtime" / source.name).symlink_to(source)
    return root


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Moto(tmp_path_factory.mktemp("aws")) as moto:
        yield moto.endpoint


def event(name: str, **changes: object) -> dict[str, Any]:
    sent: dict[str, Any] = json.loads(Path(f"events/{name}.json").read_text("utf-8"))
    return sent | changes


def test_the_artifacts_serve_requests_connect_to_nothing_when_imported_and_hold_nothing_in_vain(
    unpacked: Path, endpoint: str, database: Database
) -> None:
    aws = Lambda(unpacked, endpoint)
    sent = [event(f"auth/{name}") for name in ("register", "log_in", "set_up_second_factor")]
    registered, tokens, set_up = aws.invoke("Auth", *sent)
    assert [answer["statusCode"] for answer in (registered, set_up)] == [201, 201]
    token = json.loads(tokens["body"])["access_token"]
    (policy,) = aws.invoke("Authorizer", event("authorizer/token", authorizationToken=f"Bearer {token}"))
    assert policy["policyDocument"]["Statement"][0]["Effect"] == "Allow"
    assert policy["context"]["user_id"] == "1"
    for function, names in {
        "Doctors": ["doctors/create", "doctors/read"],
        "Patients": ["patients/create", "patients/list", "patients/list_doctors"],
        "Mappings": ["mappings/create", "mappings/list"],
        "Audit": ["audit/list"],
        "Health": ["health/read"],
        "Docs": ["docs/read_page", "docs/read_asset", "docs/read_open_api", "docs/read_problem"],
    }.items():
        sent = [event(name) for name in names]
        if function == "Docs":
            sent.append(event("docs/read_asset", pathParameters={"file": "swagger-ui-bundle.min.js"}))
        answers = aws.invoke(function, *sent)
        assert all(answer["statusCode"] < 300 for answer in answers), answers
    _, slots = aws.invoke("Appointments", event("appointments/put_hours"), event("appointments/list_slots"))
    booking = event("appointments/create")
    booking["body"] = booking["body"].replace(TIME, json.loads(slots["body"])["items"][0]["starts_at"])
    answers = aws.invoke("Appointments", booking, event("appointments/read_calendar_file"))
    assert [answer["statusCode"] for answer in answers] == [201, 200], answers
    assert aws.invoke("Migrate", {}, event("migrate/verify_audit")) == [{"applied": []}, {"broken": []}]

    # Of what SnapStart keeps, a connection or a key would be wrong for all who start from it.
    for function in {path.name for path in (unpacked / "var").iterdir()} - aws.sockets.keys():
        assert aws.invoke(function) == []
    assert aws.sockets == dict.fromkeys((path.name for path in (unpacked / "var").iterdir()), 0)
    assert len(aws.sockets) == len(list(Path("functions").glob("*/app.py")))

    layer = unpacked / "opt" / "python"
    used = {file.relative_to(layer).parts[0] for file in aws.files if file.is_relative_to(layer)}
    shipped = {path.name for path in layer.iterdir() if path.name != "__pycache__" and path.suffix != ".libs"}
    assert shipped == used | {"tzdata"}  # which Python reads where the machine has no time zones
    roots = (unpacked, Path(sys.base_prefix), *(path.resolve() for path in (unpacked / "runtime").iterdir()))
    assert [file for file in aws.files if not any(file.is_relative_to(root) for root in roots)] == []


def test_the_byte_code_is_the_kind_that_is_not_compared_with_the_dates_of_files(unpacked: Path) -> None:
    sources = [path for root in ("opt/python", "var") for path in (unpacked / root).rglob("*.py")]
    assert len(sources) > 200
    for source in sources:
        compiled = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
        # PEP 552: the second word's lowest bit says that it goes by hash, the next that the hash is to be checked.
        assert int.from_bytes(compiled.read_bytes()[4:8], "little") == 0b01, source


def test_a_build_for_lambda_is_all_arm64_and_small(tmp_path: Path) -> None:
    build(tmp_path / "build", wheels_for(ARM), python_of_lambda())
    layer = tmp_path / "build" / "CommonLayer" / "python"
    libraries = [path for path in layer.rglob("*") if ".so" in path.suffixes]
    assert libraries
    assert {int.from_bytes(path.read_bytes()[18:20], "little") for path in libraries} == {183}  # ELF's e_machine
    assert any("cpython-313" in path.name for path in libraries)
    assert size(layer) < 35e6  # Lambda unpacks 250 MB at most; a cold start reads what it imports
    template = yaml_parse((tmp_path / "build" / "template.yaml").read_text("utf-8"))
    for name, resource in template["Resources"].items():
        if resource["Type"].startswith("AWS::Serverless::") and name != "Api":
            folder = resource["Properties"].get("CodeUri") or resource["Properties"]["ContentUri"]
            assert (tmp_path / "build" / folder).is_dir(), name
