"""The template that `make containers` writes for `sam local start-api`."""

from pathlib import Path

import pytest
from samcli.yamlhelper import yaml_parse

from local.settings import CannotStart
from tools.containers import HOST, connect, variables_of


def test_functions_in_containers_find_database_and_aws_of_the_local_run(tmp_path: Path) -> None:
    (tmp_path / "aws-endpoint").write_text("http://127.0.0.1:4321")
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "port").write_text("54321")
    template = yaml_parse(Path("template.yaml").read_text("utf-8"))
    given = {
        name: resource["Properties"].get("Environment", {}).get("Variables", {}).copy()
        for name, resource in template["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
    }
    for role in {variables["PGUSER"] for variables in given.values() if "PGUSER" in variables}:
        (tmp_path / f"password-{role}").write_text(f"of {role}")
    connect(template, "x86_64", variables_of(tmp_path))
    for name, before in given.items():
        variables = template["Resources"][name]["Properties"]["Environment"]["Variables"]
        assert variables["AWS_ENDPOINT_URL"] == f"http://{HOST}:4321"
        assert ("PGPASSWORD" in variables) == ("PGUSER" in before)
        if "PGUSER" in variables:
            assert (variables["PGHOST"], variables["PGPORT"], variables["PGDATABASE"]) == (HOST, "54321", "healthcare")
            assert variables["PGPASSWORD"] == f"of {variables['PGUSER']}"
            assert variables["DATABASE_AUTH"] == "password"


def test_without_a_run_it_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="start `make run`"):
        variables_of(tmp_path)
