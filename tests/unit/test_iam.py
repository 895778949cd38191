from urllib.parse import parse_qs

import boto3
import pytest

from healthcare.iam import database_token


def test_the_database_token_is_the_one_that_boto3_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "proxy.example.eu-west-1.rds.amazonaws.com")
    monkeypatch.setenv("PGPORT", "5432")
    monkeypatch.setenv("PGUSER", "healthcare_api")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    client = boto3.session.Session().client("rds", region_name="eu-west-1")

    def boto3_token() -> str:
        return str(client.generate_db_auth_token("proxy.example.eu-west-1.rds.amazonaws.com", 5432, "healthcare_api"))

    # They carry the second in which they were signed: the clock may tick between two, but not between each two.
    before, ours, after = _parts(boto3_token()), _parts(database_token()), _parts(boto3_token())
    assert ours in (before, after)


def _parts(token: str) -> tuple[str, dict[str, list[str]]]:
    address, _, query = token.partition("/?")
    return address, parse_qs(query, strict_parsing=True)
