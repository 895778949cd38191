"""template.yaml as CloudFormation gets it: after SAM's transform, with what each resource refers to."""

import copy
import json
import os
import re
import ssl
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import pytest
from samcli.cli.types import CfnParameterOverridesType
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from healthcare.database import connection
from healthcare.platform import metrics
from local.gateway.template import Template
from tools.build import mark
from tools.openapi.declared import load, routes

Json = dict[str, Any]

SOURCE = Path("template.yaml")
CHECKOV = Path(".checkov.yaml")
GATEWAY_SECONDS = 29
# What a role may do beside logging, tracing and being in the network; and whom it logs in to PostgreSQL as.
READ_VIDEO_SERVER = ("secretsmanager:GetSecretValue", "VideoServer")
READ_KEYS = ("secretsmanager:GetSecretValue", "TokenKeys")
READ_DATA_KEYS = ("secretsmanager:GetSecretValue", "DataKeys")
DECRYPT = ("kms:Decrypt", "Key")
DOCUMENTS = {
    *(
        (f"s3:{action}", "Documents")
        for action in (
            "PutObject",
            "PutObjectTagging",
            "GetObject",
            "GetObjectVersion",
            "GetObjectVersionTagging",
            "PutObjectVersionTagging",
            "ListBucket",
        )
    ),
    ("kms:GenerateDataKey", "Key"),
    DECRYPT,
}
RIGHTS: Mapping[str, set[tuple[str, str]]] = {
    "ApiRole": {("rds-db:connect", "healthcare_api")},
    "AppointmentsRole": {("rds-db:connect", "healthcare_api"), READ_VIDEO_SERVER, DECRYPT},
    "PracticeRole": {("rds-db:connect", "healthcare_doctor"), READ_VIDEO_SERVER, *DOCUMENTS},
    "DocumentsRole": {("rds-db:connect", "healthcare_api"), ("s3:DeleteObject", "Documents"), *DOCUMENTS},
    "OutboxRole": {("rds-db:connect", "healthcare_sender"), READ_KEYS, READ_DATA_KEYS, DECRYPT},
    "WebhooksRole": {("rds-db:connect", "healthcare_api"), READ_DATA_KEYS, DECRYPT},
    "SenderRole": {
        ("lambda:InvokeFunction", "OutboxFunctionAliaslive"),
        ("ses:SendEmail", "MailEvents"),
        ("ses:SendRawEmail", "MailEvents"),
    },
    "AuthRole": {
        ("rds-db:connect", "healthcare_auth"),
        READ_DATA_KEYS,
        READ_KEYS,
        DECRYPT,
    },
    "AuthorizerRole": {READ_KEYS, DECRYPT},
    "DocsRole": set(),
    "MigrateRole": {("secretsmanager:GetSecretValue", "Database"), DECRYPT},
    "TrafficHookRole": {
        ("codedeploy:ListDeploymentTargets", "ServerlessDeploymentApplication"),
        ("codedeploy:BatchGetDeploymentTargets", "ServerlessDeploymentApplication"),
        ("codedeploy:PutLifecycleEventHookExecutionStatus", "ServerlessDeploymentApplication"),
        ("lambda:InvokeFunction", "AWS::StackName"),
    },
    "RotateKeysRole": {
        READ_DATA_KEYS,
        ("secretsmanager:DescribeSecret", "DataKeys"),
        ("secretsmanager:PutSecretValue", "DataKeys"),
        ("secretsmanager:UpdateSecretVersionStage", "DataKeys"),
        ("secretsmanager:DescribeSecret", "TokenKeys"),
        ("secretsmanager:PutSecretValue", "TokenKeys"),
        ("secretsmanager:UpdateSecretVersionStage", "TokenKeys"),
        ("kms:GenerateDataKey", "Key"),
        READ_KEYS,
        DECRYPT,
    },
}


@cache
def source() -> Json:
    template: Json = yaml_parse(SOURCE.read_text("utf-8"))
    return template


def settings(environment: str, config: Path = Path("samconfig.toml")) -> Json:
    """The parameters that `sam deploy --config-env` gives."""
    with config.open("rb") as file:
        given = tomllib.load(file)[environment]["deploy"]["parameters"].get("parameter_overrides", [])
    parameters: Json = CfnParameterOverridesType().convert(given, None, None) if given else {}
    return parameters


def transformed(
    uploads: Mapping[str, str] = MappingProxyType({}),
    parameters: Mapping[str, Any] = MappingProxyType({}),
    built: datetime | None = None,
) -> Json:
    """`uploads` says what a resource's code or layer was uploaded as; what is not in it is always the same."""
    template = copy.deepcopy(source())
    if built:
        mark(template, built)
    for name, resource in template["Resources"].items():
        upload = f"s3://bucket/{uploads.get(name, name)}"
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = upload
        if resource["Type"] == "AWS::Serverless::LayerVersion":
            resource["Properties"]["ContentUri"] = upload
    given = {name: parameter["Default"] for name, parameter in template["Parameters"].items()} | dict(parameters)
    result: Json = Translator({}, Parser()).translate(template, given)
    return result


@cache
def template() -> Json:
    return transformed()


class Deployment:
    """What `sam deploy --config-env` would make, with conditions decided and parameters put in."""

    def __init__(self, environment: str, **more: Any) -> None:
        defaults = {name: parameter["Default"] for name, parameter in source()["Parameters"].items()}
        self.parameters: Json = defaults | settings(environment) | more
        self._template = transformed(parameters=self.parameters)
        self.resources: dict[str, Json] = {
            name: self._resolved({key: part for key, part in resource.items() if key != "Condition"})
            for name, resource in self._template["Resources"].items()
            if self._holds({"Condition": resource["Condition"]} if "Condition" in resource else True)
        }

    def properties(self, name: str) -> Json:
        found: Json = self.resources[name]["Properties"]
        return found

    def refusals(self) -> set[str]:
        """What the template's rules have against these parameters."""
        return {
            assertion["AssertDescription"]
            for rule in self._template["Rules"].values()
            if self._holds(rule.get("RuleCondition", True))
            for assertion in rule["Assertions"]
            if not self._holds(assertion["Assert"])
        }

    def template(self) -> Json:
        parameters = {
            name: {"Type": parameter["Type"], "Default": self.parameters[name]}
            for name, parameter in self._template["Parameters"].items()
            if name in set(references(self.resources))
        }
        outputs = {
            name: self._resolved({key: part for key, part in output.items() if key != "Condition"})
            for name, output in self._template["Outputs"].items()
            if self._holds({"Condition": output["Condition"]} if "Condition" in output else True)
        }
        kept = {key: self._template[key] for key in ("AWSTemplateFormatVersion", "Mappings")}
        return kept | {"Parameters": parameters, "Resources": self.resources, "Outputs": outputs}

    def _holds(self, condition: Any) -> bool:
        match condition:
            case bool():
                return condition
            case {"Condition": name}:
                return self._holds(self._template["Conditions"][name])
            case {"Fn::Equals": [one, other]}:
                return str(self._resolved(one)) == str(self._resolved(other))
            case {"Fn::Not": [inner]}:
                return not self._holds(inner)
            case {"Fn::And": parts}:
                return all(map(self._holds, parts))
        raise AssertionError(condition)

    def _resolved(self, value: Any) -> Any:
        match value:
            case {"Fn::If": [name, yes, no]}:
                return self._resolved(yes if self._holds({"Condition": name}) else no)
            case {"Ref": name} if name in self.parameters:
                return self.parameters[name]
            case dict():
                resolved = {key: self._resolved(part) for key, part in value.items()}
                return {key: part for key, part in resolved.items() if part != {"Ref": "AWS::NoValue"}}
            case list():
                return [part for part in map(self._resolved, value) if part != {"Ref": "AWS::NoValue"}]
        return value


ENVIRONMENTS = ("default", "sandbox", "rehearsal", "production")


@cache
def deployment(environment: str) -> Deployment:
    return Deployment(environment, **({"AlarmEmail": "alarms@example.org"} if environment == "production" else {}))


@cache
def functions() -> dict[str, Json]:
    return {name: found["Properties"] for name, found in resources("AWS::Lambda::Function").items()}


def variables(function: str) -> Json:
    found: Json = functions()[function]["Environment"]["Variables"]
    return found


def of_the_api() -> set[str]:
    """Functions that API Gateway calls, for a route or to ask who somebody is."""
    return {
        name
        for name, found in source()["Resources"].items()
        if found["Type"] == "AWS::Serverless::Function" and "Events" in found["Properties"]
    } | {"AuthorizerFunction"}


def with_database() -> set[str]:
    return {name for name in functions() if "PGUSER" in variables(name)}


def resources(kind: str) -> dict[str, Json]:
    return {name: found for name, found in template()["Resources"].items() if found["Type"] == kind}


def properties(name: str) -> Json:
    found: Json = template()["Resources"][name]["Properties"]
    return found


def everything(value: object) -> Iterator[Any]:
    yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from everything(inner)


def references(value: object) -> Iterator[str]:
    """The names of what a value refers to, by whichever intrinsic function."""
    for inner in everything(value):
        match inner:
            case {"Ref": str(name)}:
                yield name
            case {"Fn::GetAtt": [str(name), *_]}:
                yield name
            case {"Fn::Sub": str(text)}:
                yield from _names_in(text)
            case {"Fn::Sub": [str(text), dict(given)]}:
                yield from set(_names_in(text)) - given.keys()


def _names_in(text: str) -> list[str]:
    return [name.partition(".")[0] for name in re.findall(r"\${([\w:.]+)}", text)]


# The API ------------------------------------------------------------------------------------------------------------


def operations() -> dict[tuple[str, str], Json]:
    return {
        (method.upper(), path): operation
        for path, methods in properties("Api")["Body"]["paths"].items()
        for method, operation in methods.items()
        if method != "options"
    }


def declared() -> dict[tuple[str, str], bool]:
    """The routes that the handlers declare, and whether they are open."""
    found = {(route.method, route.path): route.open for _, route in routes()}
    return found | {("GET", path): True for path in load("docs").ROUTES}


def test_each_route_of_the_handlers_is_deployed_and_no_other() -> None:
    assert operations().keys() == declared().keys()


def test_every_route_but_the_open_ones_asks_the_authorizer() -> None:
    for route, is_open in declared().items():
        assert operations()[route]["security"] == [{"NONE": []} if is_open else {"JwtAuthorizer": []}], route


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of SAM CLI's own
def test_sam_cli_finds_the_authorizer_of_the_same_routes() -> None:
    """A reference that it does not understand makes it serve every route to everybody, in silence."""
    found = {(route.method, route.path): route.is_open for route in route_lines()}
    assert found == declared()


def route_lines() -> Iterator[Any]:
    for route in Template(SOURCE.absolute()).api.routes:
        for method in route.methods:
            if method != "OPTIONS":
                yield type("Line", (), {"method": method, "path": route.path, "is_open": not route.authorizer_object})


def test_the_gateway_goes_through_the_alias_that_a_deployment_moves() -> None:
    for route, operation in operations().items():
        uri = operation["x-amazon-apigateway-integration"]["uri"]["Fn::Sub"]
        assert re.search(r"functions/\${\w+Function\.Alias}/|functions/\${\w+FunctionAliaslive}/", uri), route
    scheme = properties("Api")["Body"]["components"]["securitySchemes"]["JwtAuthorizer"]
    uri = scheme["x-amazon-apigateway-authorizer"]["authorizerUri"]["Fn::Sub"]
    assert uri[1]["__FunctionArn__"] == {"Fn::Sub": "${AuthorizerFunction.Arn}:live"}
    assert properties("AuthorizerPermission")["FunctionName"] == {"Ref": "AuthorizerFunctionAliaslive"}


def test_routes_that_compare_or_hash_a_password_have_a_stricter_limit_than_the_rest() -> None:
    (stage,) = resources("AWS::ApiGateway::Stage").values()
    rates = {
        (setting["HttpMethod"], setting["ResourcePath"].replace("~1", "/").replace("//", "/")): setting
        for setting in stage["Properties"]["MethodSettings"]
    }
    assert rates.pop(("*", "/*"))["ThrottlingRateLimit"] == {"Ref": "RequestsPerSecond"}
    slow = {
        (route.method, route.path)
        for _, route in routes()
        if route.body is not None and any("password" in name for name in route.body.model_fields)
    }
    assert slow == rates.keys()
    assert {setting["ThrottlingRateLimit"]["Ref"] for setting in rates.values()} == {"AuthRequestsPerSecond"}
    defaults = {name: parameter["Default"] for name, parameter in source()["Parameters"].items()}
    assert defaults["AuthRequestsPerSecond"] < defaults["RequestsPerSecond"]


def test_the_access_log_is_json_without_people_in_it() -> None:
    (stage,) = resources("AWS::ApiGateway::Stage").values()
    setting = stage["Properties"]["AccessLogSetting"]
    line = json.loads(setting["Format"])
    assert {"request_id", "route", "status", "latency_ms", "user_id"} <= line.keys()
    for personal in ("identity", "path}", "$context.path", "requestOverride", "domainName"):
        assert personal not in setting["Format"]
    assert stage["Properties"]["TracingEnabled"] is True


def test_an_import_with_warnings_is_an_import() -> None:
    """API Gateway warns about what SAM makes of headers and `servers`, and would refuse it."""
    assert not properties("Api").get("FailOnWarnings")


def test_the_gateway_answers_everything_as_a_problem_that_a_page_may_read() -> None:
    responses = dict(properties("Api")["Body"]["x-amazon-apigateway-gateway-responses"])
    assert {
        "DEFAULT_4XX",
        "DEFAULT_5XX",
        "UNAUTHORIZED",
        "ACCESS_DENIED",
        "THROTTLED",
        "WAF_FILTERED",
    } <= responses.keys()
    # What an unknown address gets, also with a token, which API Gateway then takes for a signature of AWS's.
    for kind in ("MISSING_AUTHENTICATION_TOKEN", "INVALID_SIGNATURE", "EXPIRED_TOKEN"):
        assert responses[kind]["statusCode"] == "404", kind
    for response in responses.values():
        headers = response["responseParameters"]
        assert headers["gatewayresponse.header.Content-Type"] == "'application/problem+json'"
        assert "gatewayresponse.header.Access-Control-Allow-Origin" in headers
        may_try_again = response["statusCode"] in ("429", "503", "504")
        assert ("gatewayresponse.header.Retry-After" in headers) == may_try_again


# Functions and what they may do -------------------------------------------------------------------------------------


def rights(role: str) -> set[tuple[str, str]]:
    """Action and what it is allowed on: the name of a resource, a user of PostgreSQL, or `*`."""
    documents = [policy["PolicyDocument"] for policy in properties(role).get("Policies", [])]
    documents += [properties(policy["Ref"])["PolicyDocument"] for policy in properties(role)["ManagedPolicyArns"]]
    found = set()
    for statement in (statement for document in documents for statement in document["Statement"]):
        if statement["Effect"] == "Allow":
            assert "*" not in str(statement["Action"]), statement
            for action in listed(statement["Action"]):
                if action == "rds-db:connect":
                    found.add((action, statement["Resource"]["Fn::Sub"][0].rpartition("/")[2]))
                else:
                    names = set(references(statement["Resource"])) - {"AWS::Partition", "AWS::Region", "AWS::AccountId"}
                    found |= {(action, name) for name in names} or {(action, "*")}
    return found


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


LOGGING = {("logs:CreateLogStream", "FunctionLogs"), ("logs:PutLogEvents", "FunctionLogs")}
TRACING = {("xray:PutTraceSegments", "*"), ("xray:PutTelemetryRecords", "*")}


@pytest.mark.parametrize("role", RIGHTS)
def test_a_role_may_do_what_its_functions_need_and_no_more(role: str) -> None:
    network = {right for right in rights(role) if right[0].startswith("ec2:")}
    assert rights(role) - network == RIGHTS[role] | LOGGING | TRACING
    (statement,) = properties(role)["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "lambda.amazonaws.com"}


def test_every_role_of_a_function_is_looked_at() -> None:
    used = {function["Role"]["Fn::GetAtt"][0] for function in functions().values()}
    assert used <= RIGHTS.keys()


def test_the_right_to_be_in_the_network_is_lambdas_and_not_the_codes() -> None:
    allowed, denied = properties("NetworkPolicy")["PolicyDocument"]["Statement"]
    assert (allowed["Effect"], denied["Effect"]) == ("Allow", "Deny")
    assert allowed["Action"] == denied["Action"]
    assert denied["Condition"] == {"Null": {"lambda:SourceFunctionArn": "false"}}


def test_a_function_has_the_role_of_whom_it_logs_in_as() -> None:
    for name, function in functions().items():
        role = function["Role"]["Fn::GetAtt"][0]
        users = {user for action, user in rights(role) if action == "rds-db:connect"}
        # The owner has a password, in a secret.
        user = variables(name).get("PGUSER")
        assert users == ({user} if user and user != "healthcare_owner" else set()), name
        in_network = any(action.startswith("ec2:") for action, _ in rights(role))
        inside = function["VpcConfig"] != {"Ref": "AWS::NoValue"}
        assert in_network == inside == (user is not None), name


def test_every_function_runs_alike_and_says_which_one_it_is() -> None:
    for name, function in functions().items():
        assert function["LoggingConfig"] == {"LogFormat": "Text", "LogGroup": {"Ref": "FunctionLogs"}}, name
        assert function["Runtime"] == "python3.13"
        assert function["Architectures"] == ["arm64"]
        assert function["TracingConfig"] == {"Mode": "Active"}
        folder = Path(source()["Resources"][name]["Properties"]["CodeUri"]).name
        assert variables(name)["POWERTOOLS_SERVICE_NAME"] == folder
        assert variables(name)["POWERTOOLS_METRICS_NAMESPACE"] == {"Fn::Sub": "Healthcare/${AWS::StackName}"}
    for name in of_the_api():
        assert functions()[name]["Timeout"] < GATEWAY_SECONDS, name


def test_new_code_of_a_function_comes_gradually_and_goes_back_when_clients_see_5xx() -> None:
    for name in of_the_api():
        alias = template()["Resources"][f"{name}Aliaslive"]
        group = alias["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]["DeploymentGroupName"]["Ref"]
        assert properties(group)["AlarmConfiguration"]["Alarms"] == [{"Name": {"Ref": "ApiFails"}}], name
        assert "DEPLOYMENT_STOP_ON_ALARM" in properties(group)["AutoRollbackConfiguration"]["Events"]
    # It can't refer to the API, which comes after the functions; the names have to be the same.
    dimensions = {entry["Name"]: entry["Value"] for entry in properties("ApiFails")["Dimensions"]}
    assert dimensions == {"ApiName": {"Ref": "AWS::StackName"}, "Stage": "v1"}
    (stage,) = resources("AWS::ApiGateway::Stage").values()
    assert stage["Properties"]["StageName"] == "v1"
    assert properties("Api")["Body"]["info"]["title"] == {"Ref": "AWS::StackName"}


def test_a_new_layer_makes_new_versions_and_runs_the_migrations() -> None:
    before, after = (transformed({"CommonLayer": upload})["Resources"] for upload in ("one", "two"))
    kept = [name for name in before if "FunctionVersion" in name and name in after]
    assert kept == []
    assert before["Migration"]["Properties"]["Layer"] != after["Migration"]["Properties"]["Layer"]


def test_nothing_but_code_that_has_changed_makes_a_new_version() -> None:
    changed = transformed({"AuditFunction": "new"})["Resources"].keys() - template()["Resources"].keys()
    assert {re.sub("Version.*", "", name) for name in changed} - {"AuditFunction"} <= set(deployments(changed))


CHANGES = {
    "CorsAllowedOrigin": "https://app.example.com",
    "LogLevel": "DEBUG",
    "BcryptCost": 13,
    "TokenIssuer": "somebody-else",
    "AccessTokenLifetime": 600,
    "SnapStart": "On",
    "DatabaseName": "other",
    "DomainName": "api.example.com",
}


def test_a_changed_parameter_alone_would_change_no_version() -> None:
    """Why `make build` marks each build: SAM compares references, not values."""
    names = transformed(parameters=CHANGES)["Resources"].keys()
    assert versions(names) == versions(template()["Resources"])


def test_a_build_takes_changed_parameters_to_every_function_and_to_the_api() -> None:
    before = transformed(built=datetime(2026, 1, 1, tzinfo=UTC))["Resources"]
    time.sleep(1.1)  # SAM names a deployment by the second
    after = transformed(parameters=CHANGES, built=datetime(2026, 1, 2, tzinfo=UTC))["Resources"]
    assert len(versions(before)) == len(versions(after)) == len(functions())
    assert not versions(before) & versions(after)
    assert len(deployments(before)) == len(deployments(after)) == 1
    assert deployments(before) != deployments(after)
    stage = next(found for found in after.values() if found["Type"] == "AWS::ApiGateway::Stage")
    assert [stage["Properties"]["DeploymentId"]["Ref"]] == deployments(after)


def versions(names: Iterable[str]) -> set[str]:
    return {name for name in names if re.search("FunctionVersion[0-9a-f]", name)}


def deployments(names: Iterable[str]) -> list[str]:
    """They are new whenever the template is translated."""
    return [name for name in names if name.startswith("ApiDeployment")]


def test_functions_with_a_database_get_new_code_only_after_the_migrations() -> None:
    for name in with_database() - {"MigrateFunction"}:
        assert "Migration" in listed(template()["Resources"][name]["DependsOn"]), name
    assert properties("Migration")["ServiceTimeout"] > functions()["MigrateFunction"]["Timeout"]


def test_a_migration_is_not_tried_again_while_its_deployment_is_rolled_back() -> None:
    (config,) = resources("AWS::Lambda::EventInvokeConfig").values()
    assert config["Properties"]["FunctionName"] == {"Ref": "MigrateFunction"}
    assert config["Properties"]["MaximumRetryAttempts"] == 0
    # What the setting is of has to be what CloudFormation invokes.
    assert config["Properties"]["Qualifier"] == "live"
    assert properties("Migration")["ServiceToken"] == {"Ref": "MigrateFunctionAliaslive"}


def test_functions_verify_whom_they_connect_to_by_a_file_of_the_layer() -> None:
    proxy = {"PGHOST": {"Fn::GetAtt": ["Proxy", "Endpoint"]}, "PGSSLROOTCERT": "/opt/proxy.pem"}
    cluster = {"PGHOST": {"Fn::GetAtt": ["Database", "Endpoint.Address"]}, "PGSSLROOTCERT": "/opt/cluster.pem"}
    for name in with_database():
        assert variables(name)["PGSSLMODE"] == "verify-full"
        if name == "MigrateFunction":
            assert variables(name).items() >= cluster.items()
            assert variables(name)["DATABASE_AUTH"] == "secret"
        else:
            for variable, through_proxy in proxy.items():
                assert variables(name)[variable] == {"Fn::If": ["HasProxy", through_proxy, cluster[variable]]}
            assert variables(name)["DATABASE_AUTH"] == "iam"
    for path in ("proxy.pem", "cluster.pem"):
        # `system` would mean a folder of the machine that psycopg's OpenSSL was built on.
        assert Path("layers/certificates", path).is_file()


@pytest.mark.parametrize("file", ["proxy.pem", "cluster.pem"])
def test_the_certificates_are_roots_that_last(file: str) -> None:
    path = Path("layers/certificates", file)
    roots = ssl.create_default_context(cafile=str(path)).get_ca_certs()
    assert len(roots) == path.read_text("ascii").count("BEGIN CERTIFICATE") > 0
    for root in roots:
        assert root["subject"] == root["issuer"]
        assert ssl.cert_time_to_seconds(str(root["notAfter"])) > time.time() + 365 * 24 * 3600


# Network and database -----------------------------------------------------------------------------------------------


def test_the_network_has_no_way_out() -> None:
    kinds = {found["Type"] for found in template()["Resources"].values()}
    assert not kinds & {"AWS::EC2::InternetGateway", "AWS::EC2::NatGateway", "AWS::EC2::Route"}


def test_subnets_are_in_two_zones_by_id_in_every_region_whose_roots_functions_trust() -> None:
    zones = source()["Mappings"]["Zones"]
    for name, subnet in resources("AWS::EC2::Subnet").items():
        which = name.removeprefix("PrivateSubnet")
        assert subnet["Properties"]["AvailabilityZoneId"] == {"Fn::FindInMap": ["Zones", {"Ref": "AWS::Region"}, which]}
    for region, pair in zones.items():
        # https://docs.aws.amazon.com/global-infrastructure/latest/regions/aws-availability-zones.html
        area, direction, number = region.split("-")
        short = {"central": "c", "southeast": "se", "northeast": "ne"}.get(direction, direction[0])
        assert all(re.fullmatch(f"{area}{short}{number}-az[1-9]", zone) for zone in pair.values()), region
        assert pair["A"] != pair["B"]
    # Where RDS Proxy is not.
    assert not {"use1-az3", "usw1-az2"} & {zone for pair in zones.values() for zone in pair.values()}
    roots = ssl.create_default_context(cafile="layers/certificates/cluster.pem").get_ca_certs()
    names = [value for root in roots for ((kind, value),) in root["subject"] if kind == "commonName"]
    assert zones.keys() == {name.split(" ")[2] for name in names}


def connections(proxy: bool) -> set[tuple[str, str, int]]:
    """From one security group to another, and the port, with the proxy or without it."""

    def chosen(value: Any) -> Any:
        return value["Fn::If"][1 if proxy else 2] if "Fn::If" in value else value

    return {
        (chosen(rule["SourceSecurityGroupId"])["Fn::GetAtt"][0], name, rule["FromPort"])
        for name, group in resources("AWS::EC2::SecurityGroup").items()
        for rule in group["Properties"].get("SecurityGroupIngress", [])
        if proxy or group.get("Condition") != "HasProxy"
    }


def test_security_groups_open_function_to_proxy_to_cluster_and_nothing_else() -> None:
    always = {
        ("MigrateSecurityGroup", "DatabaseSecurityGroup", 5432),
        ("FunctionsSecurityGroup", "SecretsSecurityGroup", 443),
    }
    assert connections(proxy=True) == always | {
        ("FunctionsSecurityGroup", "ProxySecurityGroup", 5432),
        ("ProxySecurityGroup", "DatabaseSecurityGroup", 5432),
    }
    assert connections(proxy=False) == always | {("FunctionsSecurityGroup", "DatabaseSecurityGroup", 5432)}
    out = {
        (name, rule.get("FromPort"), json.dumps(rule["CidrIp"]))
        for name, group in resources("AWS::EC2::SecurityGroup").items()
        for rule in group["Properties"]["SecurityGroupEgress"]
    }
    nowhere, network = '"127.0.0.1/32"', '{"Ref": "VpcCidr"}'
    assert out == {
        ("FunctionsSecurityGroup", 5432, network),
        ("FunctionsSecurityGroup", 443, '"0.0.0.0/0"'),  # of which only endpoints have a route
        ("ProxySecurityGroup", 5432, network),
        ("MigrateSecurityGroup", None, nowhere),
        ("DatabaseSecurityGroup", None, nowhere),
        ("SecretsSecurityGroup", None, nowhere),
    }
    assert not resources("AWS::EC2::SecurityGroupIngress")


def test_the_database_is_encrypted_backed_up_and_open_to_tls_with_iam_only() -> None:
    cluster, proxy = properties("Database"), properties("Proxy")
    assert cluster["StorageEncrypted"] is True
    assert cluster["KmsKeyId"] == {"Fn::GetAtt": ["Key", "Arn"]}
    assert cluster["EnableIAMDatabaseAuthentication"] is True
    assert cluster["ManageMasterUserPassword"] is True
    assert "MasterUserPassword" not in cluster
    assert cluster["DeletionProtection"] == {"Fn::If": ["IsProduction", True, False]}
    assert cluster["BackupRetentionPeriod"] == {"Ref": "BackupRetentionDays"}
    assert properties("DatabaseSettings")["Parameters"]["rds.force_ssl"] == "1"
    assert (proxy["RequireTLS"], proxy["DefaultAuthScheme"]) == (True, "IAM_AUTH")
    assert "Auth" not in proxy


def test_the_proxy_may_log_in_as_whom_functions_log_in_as() -> None:
    role = properties("ProxyRole")
    ((allowed,),) = (policy["PolicyDocument"]["Statement"] for policy in role["Policies"])
    users = {resource["Fn::Sub"].rpartition("/")[2] for resource in allowed["Resource"]}
    assert users == {user for granted in RIGHTS.values() for action, user in granted if action == "rds-db:connect"}
    # "RDS Proxy doesn't support any global condition context keys": with one, it could not assume the role.
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust == {"Effect": "Allow", "Principal": {"Service": "rds.amazonaws.com"}, "Action": "sts:AssumeRole"}


def test_the_logs_of_the_database_hold_no_statement() -> None:
    """Values stand in the statements, because they are sent as one message."""
    settings = properties("DatabaseSettings")["Parameters"]
    assert settings["log_statement"] == "none"
    assert settings["log_min_duration_statement"] == "-1"
    assert settings["log_min_error_statement"] == "panic"
    assert settings["log_error_verbosity"] == "terse"
    assert properties("Proxy")["DebugLogging"] is False


# All resources ------------------------------------------------------------------------------------------------------


def test_every_log_is_encrypted_and_ends() -> None:
    groups = resources("AWS::Logs::LogGroup")
    assert len(groups) >= 5
    for name, group in groups.items():
        assert group["Properties"]["KmsKeyId"] == {"Fn::GetAtt": ["Key", "Arn"]}, name
        assert group["Properties"]["RetentionInDays"], name


def test_what_holds_data_says_what_becomes_of_it() -> None:
    kept = {"AWS::KMS::Key": "RetainExceptOnCreate", "AWS::RDS::DBCluster": "Snapshot"}
    stateful = {*kept, "AWS::RDS::DBInstance", "AWS::SecretsManager::Secret", "AWS::Logs::LogGroup"}
    for name, resource in template()["Resources"].items():
        if resource["Type"] in stateful:
            policy = resource["DeletionPolicy"]
            assert policy.removesuffix("ExceptOnCreate") == resource["UpdateReplacePolicy"], name
            assert policy == kept.get(resource["Type"], policy), name
    # Who read what outlives the stack.
    for name in ("AccessLogs", "FunctionLogs"):
        assert template()["Resources"][name]["DeletionPolicy"] == "RetainExceptOnCreate"


def test_a_first_deployment_that_fails_leaves_nothing_but_versions_behind() -> None:
    kept = [resource for resource in template()["Resources"].values() if resource.get("DeletionPolicy") == "Retain"]
    left = {resource["Type"] for resource in kept}
    assert left == {"AWS::Lambda::LayerVersion", "AWS::Lambda::Version"}


def test_secrets_and_messages_are_encrypted_with_the_key_of_the_stack() -> None:
    assert properties("TokenKeys")["KmsKeyId"] == {"Ref": "Key"}
    assert properties("Database")["MasterUserSecret"]["KmsKeyId"] == {"Ref": "Key"}
    assert properties("Alarms")["KmsMasterKeyId"] == {"Ref": "Key"}
    assert properties("Key")["EnableKeyRotation"] is True


def test_no_resource_depends_on_itself_by_way_of_others() -> None:
    names = template()["Resources"].keys()
    graph = {
        name: {other for other in (*references(resource), *listed(resource.get("DependsOn", []))) if other in names}
        for name, resource in template()["Resources"].items()
    }
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert order.index("ApiGatewayAccount") < order.index("Apiv1Stage")
    assert order.index("ProxyTarget") < order.index("Migration") < order.index("AuthFunction") < order.index("Api")


def test_everything_that_is_referred_to_exists() -> None:
    known = template()["Resources"].keys() | template()["Parameters"].keys()
    unknown = {name for name in references(template()["Resources"]) if not name.startswith("AWS::")} - known
    assert unknown == set()


def test_every_parameter_is_described_constrained_grouped_and_used() -> None:
    parameters = source()["Parameters"]
    for name, parameter in parameters.items():
        assert parameter["Description"].endswith("."), name
        assert {"AllowedValues", "AllowedPattern", "MinValue"} & parameter.keys(), name
        assert ("MinValue" in parameter) == ("MaxValue" in parameter), name
        assert "Default" in parameter, name
        if "AllowedPattern" in parameter:
            assert re.fullmatch(parameter["AllowedPattern"], parameter["Default"]), name
    groups = source()["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert sorted(name for group in groups for name in group["Parameters"]) == sorted(parameters)
    rest = {name: part for name, part in source().items() if name not in ("Parameters", "Metadata")}
    assert parameters.keys() <= set(references(rest))


def test_every_condition_is_used() -> None:
    text = json.dumps({name: part for name, part in template().items() if name != "Conditions"})
    others = json.dumps(template()["Conditions"])
    for name in source()["Conditions"]:
        assert f'"{name}"' in text or f'{{"Condition": "{name}"}}' in others, name


def test_every_rule_of_a_check_that_is_left_out_has_its_reason() -> None:
    for name, resource in source()["Resources"].items():
        metadata = resource.get("Metadata", {})
        assert "cfn-lint" not in metadata, name
        for skipped in metadata.get("checkov", {}).get("skip", []):
            assert len(skipped["comment"]) > 20, name
    for line in CHECKOV.read_text("utf-8").partition("skip-check:\n")[2].splitlines():
        assert re.fullmatch(r"  - CKV\w+ # .{20,}", line), line


# What to watch ------------------------------------------------------------------------------------------------------


def test_every_alarm_goes_somewhere_and_is_explained() -> None:
    operations = Path("docs/operations.md").read_text("utf-8")
    for name, alarm in resources("AWS::CloudWatch::Alarm").items():
        assert alarm["Properties"]["AlarmActions"] == [{"Ref": "Alarms"}], name
        assert len(alarm["Properties"]["AlarmDescription"]) > 20, name
        assert f"**{name}**" in operations, name


def test_alarms_and_dashboard_look_at_metrics_that_the_code_counts() -> None:
    counted = set(get_args(metrics.Metric))
    namespace = {"Fn::Sub": "Healthcare/${AWS::StackName}"}
    watched = {
        (
            found["MetricName"],
            *(dimension["Value"] for dimension in found["Dimensions"] if dimension["Name"] == "service"),
        )
        for found in everything(list(resources("AWS::CloudWatch::Alarm").values()))
        if isinstance(found, dict) and found.get("Namespace") == namespace
    }
    assert watched >= {("FailedLogins", "auth"), ("UnavailableKeys", "authorizer"), ("MigrationFailures", "migrate")}
    body = re.sub(r"\${[\w:.]+}", "x", properties("Dashboard")["DashboardBody"]["Fn::Sub"])
    shown = [metric for widget in json.loads(body)["widgets"] for metric in widget["properties"]["metrics"]]
    expressions = [metric[0]["expression"] for metric in shown if isinstance(metric[0], dict)]
    searched = {re.search(r'"Healthcare/x",service} MetricName="(\w+)"', text) for text in expressions}
    named = {metric[1] for metric in shown if isinstance(metric[0], str) and metric[1] in ("Logins", "FailedLogins")}
    names = {metric for metric, _ in watched} | {match[1] for match in searched if match} | named
    assert {"Logins", "FailedLogins", "Refusals", "ServerErrors"} <= names <= counted
    assert {service for _, service in watched} <= {path.parent.name for path in Path("functions").glob("*/app.py")}


def test_saved_queries_name_routes_that_exist() -> None:
    for name, query in resources("AWS::Logs::QueryDefinition").items():
        for route in re.findall(r"'([A-Z]+ /[^']*)'", query["Properties"]["QueryString"]):
            assert tuple(route.split(" ")) in declared(), name


# Settings -----------------------------------------------------------------------------------------------------------

# max_connections of Aurora PostgreSQL by the most capacity units; 2,000 at most where the least is 0 or 0.5:
# https://docs.aws.amazon.com/AmazonRDS/latest/AuroraUserGuide/aurora-serverless-v2.setting-capacity.html
CONNECTIONS = {1: 189, 2: 368, 4: 823, 8: 1669, 16: 3360, 32: 5000}
ACCOUNT_CONCURRENCY = 1000  # of an account that has asked for no more
UNRESERVED_CONCURRENCY = 100  # which Lambda keeps for functions without a limit of their own


def test_the_template_lints_with_all_settings_and_so_does_the_pipelines_role(tmp_path: Path) -> None:
    files = [Path(".github/deployer.yaml")]
    for environment in ENVIRONMENTS:
        files.append(tmp_path / f"{environment}.json")
        files[-1].write_text(json.dumps(deployment(environment).template(), indent=1))
    command = [Path(sys.executable).with_name("cfn-lint"), "--regions", "us-east-1", "--", *files]
    lint = subprocess.run(command, capture_output=True, text=True)
    assert (lint.returncode, lint.stdout) == (0, ""), lint.stdout


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_rules_have_nothing_against_the_settings_of(environment: str) -> None:
    assert deployment(environment).refusals() == set()


def test_production_is_refused_without_somebody_to_tell() -> None:
    assert Deployment("production").refusals() == {"Environment=production needs AlarmEmail."}


def test_a_database_does_not_sleep_behind_a_proxy_and_a_budget_needs_a_reader() -> None:
    assert Deployment("default", DatabaseMinCapacity="0", MonthlyBudget="50").refusals() == {
        "DatabaseMinCapacity=0 needs DatabaseProxy=Off, whose connections would keep the database awake.",
        "MonthlyBudget needs AlarmEmail.",
    }


def test_production_keeps_logs_for_six_years_and_a_standby_and_says_what_the_database_does() -> None:
    production = deployment("production")
    for name in ("FunctionLogs", "AccessLogs"):
        assert int(production.properties(name)["RetentionInDays"]) >= 6 * 365
    assert "DatabaseStandby" in production.resources
    database = production.properties("Database")
    assert (database["DeletionProtection"], database["DatabaseInsightsMode"]) == (True, "standard")
    assert database["PerformanceInsightsEnabled"] is True
    assert database["PerformanceInsightsKmsKeyId"] == {"Fn::GetAtt": ["Key", "Arn"]}
    assert deployment("default").properties("Database")["PerformanceInsightsEnabled"] is False


def test_what_functions_take_at_once_fits_the_account_and_the_connections_of_the_proxy() -> None:
    production = deployment("production")
    limits = {
        name: int(function["ReservedConcurrentExecutions"])
        for name, function in ((name, production.properties(name)) for name in functions())
        if "ReservedConcurrentExecutions" in function
    }
    assert limits.keys() >= of_the_api()
    assert sum(limits.values()) <= ACCOUNT_CONCURRENCY - UNRESERVED_CONCURRENCY
    share = production.properties("ProxyTarget")["ConnectionPoolConfigurationInfo"]["MaxConnectionsPercent"] / 100
    connections = CONNECTIONS[int(production.parameters["DatabaseMaxCapacity"])] * share
    assert sum(limit for name, limit in limits.items() if name in with_database()) <= connections
    # Logins at their limit, each a fifth of a second and some waiting, do not wait for each other.
    assert int(production.parameters["AuthRequestsPerSecond"]) * 0.3 <= limits["AuthFunction"]
    assert not any("ReservedConcurrentExecutions" in deployment("default").properties(name) for name in functions())


def test_hundreds_of_addresses_are_needed_to_lock_everybody_out_of_logging_in() -> None:
    limits = deployment("production").parameters
    an_address_per_second = int(limits["AuthRequestsPerAddress"]) / 300
    assert int(limits["AuthRequestsPerSecond"]) / an_address_per_second >= 300


def test_a_request_gives_up_on_the_database_before_its_function_is_killed_and_that_before_the_gateway() -> None:
    """A function that is killed is a 500 to the client, and one that gives up a 503 with Retry-After."""
    code = Path(connection.__file__ or "").read_text("utf-8")
    connect = int(re.findall(r"connect_timeout=(\d+)", code)[0])
    unanswered = connection._UNANSWERED
    statement = int(re.findall(r"\bstatement_timeout\W+(\d+)s", settings_of_roles())[0])
    for environment in ENVIRONMENTS:
        deployed = deployment(environment)
        pool = (
            deployed.resources.get("ProxyTarget", {}).get("Properties", {}).get("ConnectionPoolConfigurationInfo", {})
        )
        once = connect + pool.get("ConnectionBorrowTimeout", 0) + max(unanswered, statement)
        cold_start = 2
        for name in with_database() - {"MigrateFunction"}:
            # A GET whose connection breaks is tried once more.
            assert cold_start + 2 * once < deployed.properties(name)["Timeout"] < GATEWAY_SECONDS, name


def settings_of_roles() -> str:
    """Set where roles are made: in the migrations, or beside them."""
    folder = Path(connection.__file__ or "").parent
    return "".join(path.read_text("utf-8") for path in sorted(folder.rglob("*")) if path.suffix in (".py", ".sql"))


def test_a_sandbox_sleeps_and_has_nothing_that_costs_by_the_hour_but_one_endpoint() -> None:
    sandbox = deployment("sandbox")
    kinds = {found["Type"] for found in sandbox.resources.values()}
    hourly = {"AWS::RDS::DBProxy", "AWS::WAFv2::WebACL", "AWS::CloudWatch::Dashboard", "AWS::Backup::BackupVault"}
    assert not hourly & kinds
    assert len(sandbox.properties("SecretsEndpoint")["SubnetIds"]) == 1
    scaling = sandbox.properties("Database")["ServerlessV2ScalingConfiguration"]
    assert (scaling["MinCapacity"], scaling["SecondsUntilAutoPause"]) == ("0", 300)
    # Warm functions don't keep it awake, and clients are told how long it takes to wake up.
    for name in with_database() - {"MigrateFunction"}:
        given = sandbox.properties(name)["Environment"]["Variables"]
        assert given["DATABASE_RETRY_AFTER"] == "20"
        assert given["PGOPTIONS"] == "-c idle_session_timeout=60s"
        assert given["PGHOST"] == {"Fn::GetAtt": ["Database", "Endpoint.Address"]}
        assert given["PGSSLROOTCERT"] == "/opt/cluster.pem"
    # They sign in to the cluster itself.
    (statement,) = sandbox.properties("ApiRole")["Policies"][0]["PolicyDocument"]["Statement"]
    server = {"Server": {"Fn::GetAtt": ["Database", "DBClusterResourceId"]}}
    assert statement["Resource"]["Fn::Sub"][1] == server


def test_no_timer_wakes_a_sandbox_more_than_once_an_hour() -> None:
    expressions = {
        environment: [
            found["Properties"]["ScheduleExpression"]
            for found in deployment(environment).resources.values()
            if found["Type"] == "AWS::Scheduler::Schedule"
        ]
        for environment in ("default", "sandbox")
    }
    assert expressions == {"default": ["rate(1 minute)"], "sandbox": ["rate(1 hour)"]}


def test_only_what_may_sleep_closes_idle_sessions() -> None:
    for environment in ("default", "production"):
        given = deployment(environment).properties("AuthFunction")["Environment"]["Variables"]
        assert (given["PGOPTIONS"], given["DATABASE_RETRY_AFTER"]) == ("", "1")


def test_the_firewall_counts_common_attacks_until_somebody_has_looked() -> None:
    rules = {rule["Name"]: rule for rule in deployment("production").properties("WebFirewallRules")["Rules"]}
    assert rules["CommonAttacks"]["OverrideAction"] == {"Count": {}}
    blocking = Deployment("production", CommonAttacks="Block").properties("WebFirewallRules")["Rules"]
    assert next(rule for rule in blocking if rule["Name"] == "CommonAttacks")["OverrideAction"] == {"None": {}}
    # What was only counted is in the log to look at.
    (kept,) = properties("WebFirewallLogging")["LoggingFilter"]["Filters"]
    assert {condition["ActionCondition"]["Action"] for condition in kept["Conditions"]} == {"BLOCK", "COUNT"}
    # The alarm's dimension is the name of the metric.
    dimensions = {entry["Name"]: entry["Value"] for entry in properties("FirewallBlocks")["Dimensions"]}
    assert dimensions["WebACL"] == properties("WebFirewallRules")["VisibilityConfig"]["MetricName"]


def test_metrics_of_the_proxy_are_summed_over_its_hosts() -> None:
    """RDS publishes them for each host of a proxy."""
    assert properties("ProxyPinning")["Statistic"] == "Sum"
    for metric in properties("ProxyConnections")["Metrics"][1:]:
        assert metric["MetricStat"]["Stat"] == "Sum"
        names = [dimension["Name"] for dimension in metric["MetricStat"]["Metric"]["Dimensions"]]
        assert names == ["ProxyName", "TargetGroup", "TargetRole"]


def test_backups_can_be_kept_where_nobody_deletes_them() -> None:
    kept = Deployment("production", VaultRetentionDays="90", AlarmEmail="alarms@example.org")
    lock = kept.properties("Vault")["LockConfiguration"]
    assert (lock["MinRetentionDays"], lock["ChangeableForDays"]) == ("90", 3)
    (rule,) = kept.properties("VaultPlan")["BackupPlan"]["BackupPlanRule"]
    assert rule["Lifecycle"]["DeleteAfterDays"] == "90"
    assert set(references(kept.properties("VaultSelection")["BackupSelection"]["Resources"])) >= {
        "Database",
        "Documents",
    }
    assert "Vault" not in deployment("production").resources


def test_a_budget_counts_this_stack_alone() -> None:
    budget = Deployment("default", MonthlyBudget="50", AlarmEmail="alarms@example.org").properties("Budget")["Budget"]
    assert budget["BudgetLimit"] == {"Amount": "50", "Unit": "USD"}
    assert budget["CostFilters"] == {
        "TagKeyValue": [{"Fn::Join": ["$", ["aws:cloudformation:stack-name", {"Ref": "AWS::StackName"}]]}]
    }


def test_every_role_has_the_boundary_that_is_asked_for() -> None:
    boundary = "arn:aws:iam::123456789012:policy/boundary"
    bounded = Deployment("default", PermissionsBoundary=boundary).resources
    roles = [found["Properties"] for found in bounded.values() if found["Type"] == "AWS::IAM::Role"]
    assert len(roles) >= len(RIGHTS) + 3
    assert {role.get("PermissionsBoundary") for role in roles} == {boundary}
    assert "PermissionsBoundary" not in deployment("default").properties("ApiRole")


def test_codedeploy_asks_a_new_version_before_it_gets_traffic() -> None:
    for name in of_the_api():
        update = template()["Resources"][f"{name}Aliaslive"]["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]
        assert update["BeforeAllowTrafficHook"] == {"Ref": "TrafficHookFunction"}, name
    # The managed policy of its role lets it invoke no others.
    assert properties("TrafficHookFunction")["FunctionName"] == {"Fn::Sub": "CodeDeployHook_${AWS::StackName}"}


# What it costs, and who deploys it ------------------------------------------------------------------------------------

OPERATIONS = Path("docs/operations.md")
TIMES = "\N{MULTIPLICATION SIGN}"


def columns(heading: str) -> list[list[tuple[str, str, float]]]:
    """Of a table of costs: for each of its columns, what is paid for, how it is reckoned, and what it comes to."""
    table = OPERATIONS.read_text("utf-8").partition(f"### {heading}\n")[2].partition("\n|")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return [
        [(row[0], row[column], float(row[column + 1].strip("*"))) for row in rows]
        for column in range(1, len(rows[0]), 2)
    ]


@pytest.mark.parametrize("heading", ["At rest, a month", "A million requests"])
def test_the_costs_add_up(heading: str) -> None:
    for column in columns(heading):
        *parts, (_, _, total) = column
        for what, sum_, cost in parts:
            assert f"{eval(sum_.replace(TIMES, '*') or '0'):.2f}" == f"{cost:.2f}", (what, sum_)
        assert f"{sum(cost for _, _, cost in parts):.2f}" == f"{total:.2f}"


def test_a_sandbox_costs_less_than_25_dollars_a_month_at_rest() -> None:
    sandbox, defaults, production = (column[-1][2] for column in columns("At rest, a month"))
    assert sandbox < 25 < defaults < production


def test_the_costs_are_those_of_what_is_deployed() -> None:
    deployments = (deployment("sandbox"), Deployment("default", WebFirewall="Off"), deployment("production"))
    for deployed, column in zip(deployments, columns("At rest, a month"), strict=True):
        factors = {what.partition(",")[0]: sum_.split(f" {TIMES} ")[0] for what, sum_, _ in column}
        kinds = [found["Type"] for found in deployed.resources.values()]
        alarms = [found for found in deployed.resources.values() if found["Type"] == "AWS::CloudWatch::Alarm"]
        metrics = sum(json.dumps(alarm).count('"MetricName"') for alarm in alarms)
        assert factors["Alarms"] == str(metrics)
        assert factors["Endpoint of Secrets Manager"] == str(len(deployed.properties("SecretsEndpoint")["SubnetIds"]))
        assert bool(factors["RDS Proxy"]) == ("AWS::RDS::DBProxy" in kinds)
        assert bool(factors["Dashboard"]) == ("AWS::CloudWatch::Dashboard" in kinds)
        rules = deployed.resources.get("WebFirewallRules", {}).get("Properties", {}).get("Rules", [])
        assert factors["AWS WAF"] == (f"5 + {len(rules)}" if rules else "")
        assert (kinds.count("AWS::KMS::Key"), kinds.count("AWS::SecretsManager::Secret")) == (1, 3)  # and RDS's own
        assert kinds.count("AWS::RDS::DBInstance") == (2 if deployed is deployment("production") else 1)


@cache
def deployer() -> Json:
    found: Json = yaml_parse(Path(".github/deployer.yaml").read_text("utf-8"))["Resources"]
    return found


def test_the_pipelines_role_may_make_every_kind_of_resource() -> None:
    statements = deployer()["DeployerPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    services = {action.partition(":")[0] for statement in statements for action in listed(statement["Action"])}
    used = {
        found["Type"].split("::")[1].lower()
        for found in template()["Resources"].values()
        if found["Type"].startswith("AWS::")
    }
    assert used <= services


def test_the_pipelines_role_makes_only_roles_within_the_boundary_and_cannot_leave_its_own() -> None:
    policy = deployer()["DeployerPolicy"]["Properties"]["PolicyDocument"]
    allowed = [statement for statement in policy["Statement"] if statement["Effect"] == "Allow"]
    for action in ("iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy"):
        (statement,) = (statement for statement in allowed if action in listed(statement["Action"]))
        assert statement["Condition"] == {"StringEquals": {"iam:PermissionsBoundary": {"Ref": "RoleBoundary"}}}
    assert not any(action in ("*", "iam:*") for statement in allowed for action in listed(statement["Action"]))
    (boundary,) = deployer()["RoleBoundary"]["Properties"]["PolicyDocument"]["Statement"]
    assert {"iam:*", "sts:*"} <= set(boundary["NotAction"])
    role = deployer()["Deployer"]["Properties"]
    assert role["PermissionsBoundary"] == {"Ref": "DeployerPolicy"}
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    subjects = trust["Condition"]["StringEquals"]["token.actions.githubusercontent.com:sub"]
    assert [subject["Fn::Sub"].rpartition(":")[2] for subject in subjects] == ["rehearsal", "production"]


def test_the_pipeline_tries_a_stack_of_its_own_before_production_and_deletes_it() -> None:
    jobs = yaml_parse(Path(".github/workflows/deploy.yml").read_text("utf-8"))["jobs"]
    assert (jobs["rehearse"]["needs"], jobs["deploy"]["needs"]) == ("test", "rehearse")
    runs = [step.get("run", "") for step in jobs["rehearse"]["steps"]]
    order = [
        next(i for i, run in enumerate(runs) if word in run) for word in ("sam deploy", "tools.smoke", "delete-stack")
    ]
    assert order == sorted(order)
    assert jobs["rehearse"]["steps"][order[-1]]["if"] == "always()"
    assert Deployment("rehearsal").refusals() == set()
    assert "Proxy" in Deployment("rehearsal").resources


def test_the_pipeline_deletes_everything_that_a_deleted_stack_leaves_behind() -> None:
    script = Path(".github/delete-stack").read_text("utf-8")
    kept = {
        found["Type"]
        for found in Deployment("rehearsal").resources.values()
        if found.get("DeletionPolicy", "Delete") != "Delete"
    }
    versions = {"AWS::Lambda::Version"}  # go with their functions
    assert kept - versions == set(re.findall(r"\$\(resources ([\w:]+)\)", script))


def test_the_pipeline_puts_its_variables_into_the_settings(tmp_path: Path) -> None:
    """As it does: what is given on the command line would take the place of all the others."""
    jobs = yaml_parse(Path(".github/workflows/deploy.yml").read_text("utf-8"))["jobs"]
    (step,) = (step["run"] for step in jobs["deploy"]["steps"] if "sed" in step.get("run", ""))
    copied = tmp_path / "samconfig.toml"
    copied.write_text(Path("samconfig.toml").read_text("utf-8"))
    environ = {"ALARM_EMAIL": "alarms@example.org", "AWS_BOUNDARY_ARN": "arn:aws:iam::123456789012:policy/boundary"}
    subprocess.run(["/bin/sh", "-ec", step], cwd=tmp_path, env=os.environ | environ, check=True)
    given = settings("production", copied)
    assert Deployment("production", **given).refusals() == set()
    assert given["PermissionsBoundary"] == environ["AWS_BOUNDARY_ARN"]
    assert settings("rehearsal", copied)["PermissionsBoundary"] == environ["AWS_BOUNDARY_ARN"]
    assert len(given) == len(settings("production"))
