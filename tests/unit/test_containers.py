"""The template that `make containers` writes for `sam local start-api`."""

from pathlib import Path

import pytest
from samcli.yamlhelper import yaml_parse

from healthcare.database.migrate import ROLES
from local.settings import CannotStart
from tools.containers import HOST, connect, variables_of


def test_functions_in_containers_find_database_and_aws_of_the_local_run(tmp_path: Path) -> None:
    (tmp_path / "aws-endpoint").write_text("http://127.0.0.1:4321")
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "port").write_text("54321")
    template = yaml_parse(Path("template.yaml").read_text("utf-8"))
    functions = [each for each in template["Resources"].values() if each["Type"] == "AWS::Serverless::Function"]
    for role in ("healthcare_owner", *ROLES):
        (tmp_path / f"password-{role}").write_text(f"of {role}")
    connect(template, "x86_64", variables_of(tmp_path))
    variables = [function["Properties"]["Environment"]["Variables"] for function in functions]
    assert {each["AWS_ENDPOINT_URL"] for each in variables} == {f"http://{HOST}:4321"}
    with_database = [each for each in variables if "PGUSER" in each]
    assert {each["PGUSER"] for each in with_database} >= {"healthcare_owner", "healthcare_auth", "healthcare_api"}
    for each in with_database:
        assert (each["PGHOST"], each["PGPORT"], each["PGDATABASE"]) == (HOST, "54321", "healthcare")
        assert each["PGPASSWORD"] == f"of {each['PGUSER']}"
        assert each["DATABASE_AUTH"] == "password"


def test_without_a_run_it_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="start `make run`"):
        variables_of(tmp_path)
