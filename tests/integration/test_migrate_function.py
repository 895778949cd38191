"""functions/migrate as a deployment calls it: a custom resource that answers CloudFormation at an address."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import ModuleType
from typing import Any, ClassVar

import boto3
import psycopg
import pytest

from tests.conftest import Database
from tests.gateway import Environment

NEWER = "INSERT INTO schema_migrations (name, checksum) VALUES ('9001_newer', '')"


class CloudFormation(HTTPServer):
    """The address that CloudFormation wants its answer at."""

    answers: ClassVar[list[dict[str, Any]]]

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            CloudFormation.answers.append(json.loads(body) | {"content_type": self.headers["Content-Type"]})
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass


@pytest.fixture
def cloudformation() -> Iterator[CloudFormation]:
    CloudFormation.answers = []
    with CloudFormation(("127.0.0.1", 0), CloudFormation.Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def app(environments: dict[str, Environment], database: Database, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("PGUSER", "healthcare_owner")
    return environments["migrate"].app


def call(app: ModuleType, cloudformation: CloudFormation, kind: str) -> dict[str, Any]:
    event = {
        "RequestType": kind,
        "ResponseURL": f"http://127.0.0.1:{cloudformation.server_port}/answer?signature=x",
        "StackId": "stack",
        "RequestId": "request",
        "LogicalResourceId": "Migration",
        "ResourceProperties": {"Layer": "arn"},
    }
    assert app.lambda_handler(event, None) is None
    (answer,) = cloudformation.answers
    assert (answer["StackId"], answer["RequestId"], answer["LogicalResourceId"]) == ("stack", "request", "Migration")
    assert answer["PhysicalResourceId"] == "schema"
    assert not answer["content_type"]
    return answer


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_a_deployment_migrates_and_is_told(
    app: ModuleType, cloudformation: CloudFormation, database: Database, kind: str
) -> None:
    with database.connect("healthcare_owner") as owner:
        owner.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    assert call(app, cloudformation, kind)["Status"] == "SUCCESS"
    assert database.value("SELECT to_regclass('patients') IS NOT NULL")


def test_a_deployment_whose_migration_fails_is_told_so_and_not_with_whose_data(
    app: ModuleType, cloudformation: CloudFormation, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(conninfo: str) -> None:
        with psycopg.connect(conninfo) as connection:
            connection.execute("SELECT 'Ann Lee'::bigint")

    monkeypatch.setattr(app, "migrate", fail)
    answer = call(app, cloudformation, "Update")
    assert answer["Status"] == "FAILED"
    assert answer["Reason"] == "InvalidTextRepresentation: SQLSTATE 22P02"


def test_a_database_that_others_made_fails_the_deployment_in_words(
    app: ModuleType, cloudformation: CloudFormation, database: Database
) -> None:
    with database.connect() as connection:
        connection.execute("UPDATE schema_migrations SET checksum = 'other'")
    answer = call(app, cloudformation, "Update")
    assert answer["Status"] == "FAILED"
    assert "has been edited after it was applied" in answer["Reason"]


def test_the_code_of_before_goes_back_onto_a_newer_schema(
    app: ModuleType, cloudformation: CloudFormation, database: Database
) -> None:
    with database.connect() as connection:
        connection.execute(NEWER)
    assert call(app, cloudformation, "Update")["Status"] == "SUCCESS"


def test_a_schema_of_another_branch_fails_the_deployment(
    app: ModuleType, cloudformation: CloudFormation, database: Database
) -> None:
    with database.connect() as connection:
        connection.execute("DELETE FROM schema_migrations")
        connection.execute(NEWER)
    assert call(app, cloudformation, "Update")["Status"] == "FAILED"


def test_deleting_a_stack_leaves_the_database_to_its_own_deletion_policy(
    app: ModuleType, cloudformation: CloudFormation, database: Database
) -> None:
    assert call(app, cloudformation, "Delete")["Status"] == "SUCCESS"
    assert database.value("SELECT to_regclass('patients') IS NOT NULL")


def test_the_functions_roles_log_in_by_iam_where_the_server_knows_that(app: ModuleType, database: Database) -> None:
    with database.connect() as superuser:
        superuser.execute("CREATE ROLE rds_iam; GRANT rds_iam TO healthcare_owner WITH ADMIN OPTION")
        try:
            app.lambda_handler({}, None)
            granted = "SELECT pg_has_role(%s, 'rds_iam', 'member')"
            assert database.value(granted, "healthcare_auth")
            assert database.value(granted, "healthcare_api")
        finally:
            superuser.execute("DROP OWNED BY rds_iam; DROP ROLE rds_iam")


def test_the_owners_password_comes_from_the_secret_that_rds_keeps(
    app: ModuleType,
    environments: dict[str, Environment],
    passwords: dict[str, str],
    secrets_manager: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = environments["migrate"].modules["healthcare.platform.settings"].settings
    value = {"username": "healthcare_owner", "password": passwords["healthcare_owner"]}
    boto3.client("secretsmanager").create_secret(Name="owner", SecretString=json.dumps(value))
    monkeypatch.setenv("DATABASE_AUTH", "secret")
    monkeypatch.setenv("DATABASE_SECRET_ID", "owner")
    monkeypatch.setenv("PGPASSFILE", "/dev/null")
    settings.cache_clear()
    try:
        assert app.lambda_handler({}, None) == {"applied": []}
    finally:
        settings.cache_clear()
