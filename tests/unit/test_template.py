"""template.yaml as CloudFormation gets it: after SAM's transform, with what each resource refers to."""

import copy
import json
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

from local.gateway.template import Template
from tools.openapi.declared import load, routes

Json = dict[str, Any]

SOURCE = Path("template.yaml")
OF_THE_API = ("Auth", "Patients", "Doctors", "Mappings", "Audit", "Health", "Docs")
WITH_DATABASE = ("Auth", "Patients", "Doctors", "Mappings", "Audit", "Health")
ALL = ("Authorizer", *OF_THE_API, "Migrate", "RotateKeys")
GATEWAY_SECONDS = 29


@cache
def source() -> Json:
    template: Json = yaml_parse(SOURCE.read_text("utf-8"))
    return template


def transformed(uploads: Mapping[str, str]) -> Json:
    """`uploads` says what a resource's code or layer was uploaded as; what is not in it is always the same."""
    template = copy.deepcopy(source())
    for name, resource in template["Resources"].items():
        upload = f"s3://bucket/{uploads.get(name, name)}"
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = upload
        if resource["Type"] == "AWS::Serverless::LayerVersion":
            resource["Properties"]["ContentUri"] = upload
    given = {name: parameter["Default"] for name, parameter in template["Parameters"].items()}
    result: Json = Translator({}, Parser()).translate(template, given)
    return result


@cache
def template() -> Json:
    return transformed({})


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


def test_open_auth_routes_have_a_stricter_limit_than_the_rest() -> None:
    (stage,) = resources("AWS::ApiGateway::Stage").values()
    rates = {
        (setting["HttpMethod"], setting["ResourcePath"].replace("~1", "/").replace("//", "/")): setting
        for setting in stage["Properties"]["MethodSettings"]
    }
    assert rates.pop(("*", "/*"))["ThrottlingRateLimit"] == {"Ref": "RequestsPerSecond"}
    open_ones = {route for route, is_open in declared().items() if is_open and route[1].startswith("/api/")}
    assert open_ones < rates.keys()
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
    for response in responses.values():
        headers = response["responseParameters"]
        assert headers["gatewayresponse.header.Content-Type"] == "'application/problem+json'"
        assert "gatewayresponse.header.Access-Control-Allow-Origin" in headers
        may_try_again = response["statusCode"] in ("429", "503", "504")
        assert ("gatewayresponse.header.Retry-After" in headers) == may_try_again


# Functions and what they may do -------------------------------------------------------------------------------------


def statements(role: str) -> list[Json]:
    """Of the role itself and of the policies of this template that it has."""
    found = [policy["PolicyDocument"] for policy in properties(role)["Policies"]]
    found += [properties(policy["Ref"])["PolicyDocument"] for policy in properties(role)["ManagedPolicyArns"]]
    return [statement for document in found for statement in document["Statement"]]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_the_functions_are_those_that_these_tests_look_at() -> None:
    assert resources("AWS::Lambda::Function").keys() == {f"{name}Function" for name in ALL}


@pytest.mark.parametrize("name", ALL)
def test_a_function_has_a_role_of_its_own_without_wildcards(name: str) -> None:
    assert properties(f"{name}Function")["Role"] == {"Fn::GetAtt": [f"{name}Role", "Arn"]}
    roles = [function["Properties"]["Role"] for function in resources("AWS::Lambda::Function").values()]
    assert roles.count(properties(f"{name}Function")["Role"]) == 1
    for statement in statements(f"{name}Role"):
        actions = listed(statement["Action"])
        assert not any("*" in action for action in actions), actions
        if "*" in listed(statement["Resource"]) and statement["Effect"] == "Allow":
            # The two services that know nothing narrower for these.
            assert {action.partition(":")[0] for action in actions} <= {"ec2", "xray"}
    assert listed(properties(f"{name}Role")["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["Service"]) == [
        "lambda.amazonaws.com"
    ]


@pytest.mark.parametrize("name", ALL)
def test_a_function_may_do_what_it_needs_and_no_more(name: str) -> None:
    allowed = {
        action: statement["Resource"]
        for statement in statements(f"{name}Role")
        if statement["Effect"] == "Allow"
        for action in listed(statement["Action"])
    }
    of_all = {"logs:CreateLogStream", "logs:PutLogEvents", "xray:PutTraceSegments", "xray:PutTelemetryRecords"}
    network = {action for action in allowed if action.startswith("ec2:")}
    secrets = {action for action in allowed if action.startswith("secretsmanager:")}
    assert (
        allowed.keys() - of_all - network - secrets - {"rds-db:connect", "kms:Decrypt", "kms:GenerateDataKey"} == set()
    )
    assert allowed["logs:PutLogEvents"] == {"Fn::GetAtt": [f"{name}Logs", "Arn"]}
    assert bool(network) == ("VpcConfig" in properties(f"{name}Function")) == (name in (*WITH_DATABASE, "Migrate"))
    assert ("rds-db:connect" in allowed) == (name in WITH_DATABASE)
    if name in WITH_DATABASE:
        user = "healthcare_auth" if name == "Auth" else "healthcare_api"
        assert allowed["rds-db:connect"]["Fn::Sub"][0].endswith(f":dbuser:${{ProxyId}}/{user}")
        assert properties(f"{name}Function")["Environment"]["Variables"]["PGUSER"] == user
    reads = {"Auth": "TokenKeys", "Authorizer": "TokenKeys", "RotateKeys": "TokenKeys", "Migrate": "Database"}
    assert bool(secrets) == (name in reads)
    assert (
        {resource for action in secrets for resource in references(allowed[action])} == {reads[name]}
        if secrets
        else True
    )
    assert len(secrets) == (4 if name == "RotateKeys" else 1 if name in reads else 0)


@pytest.mark.parametrize("name", ALL)
def test_a_function_has_a_log_of_its_own_and_answers_before_the_gateway_gives_up(name: str) -> None:
    function = properties(f"{name}Function")
    assert function["LoggingConfig"]["LogGroup"] == {"Ref": f"{name}Logs"}
    assert function["Runtime"] == "python3.13"
    assert function["Architectures"] == ["arm64"]
    assert function["TracingConfig"] == {"Mode": "Active"}
    if name in ("Authorizer", *OF_THE_API):
        assert function["Timeout"] < GATEWAY_SECONDS


@pytest.mark.parametrize("name", ["Authorizer", *OF_THE_API])
def test_new_code_of_a_function_comes_gradually_and_goes_back_when_its_alarm_rings(name: str) -> None:
    alias = template()["Resources"][f"{name}FunctionAliaslive"]
    group = alias["UpdatePolicy"]["CodeDeployLambdaAliasUpdate"]["DeploymentGroupName"]["Ref"]
    assert properties(group)["AlarmConfiguration"]["Alarms"] == [{"Name": {"Ref": f"{name}Fails"}}]
    assert "DEPLOYMENT_STOP_ON_ALARM" in properties(group)["AutoRollbackConfiguration"]["Events"]
    log = properties(f"{name}ServerErrors")["LogGroupName"]
    assert log == {"Ref": f"{name}Logs"}


def test_a_new_layer_makes_new_versions_and_runs_the_migrations() -> None:
    before, after = (transformed({"CommonLayer": upload})["Resources"] for upload in ("one", "two"))
    kept = [name for name in before if "FunctionVersion" in name and name in after]
    assert kept == []
    assert before["Migration"]["Properties"]["Layer"] != after["Migration"]["Properties"]["Layer"]


def test_nothing_but_code_that_has_changed_makes_a_new_version() -> None:
    assert transformed({})["Resources"].keys() == template()["Resources"].keys()
    changed = transformed({"AuditFunction": "new"})["Resources"].keys() - template()["Resources"].keys()
    assert [re.sub("Version.*", "", name) for name in changed] == ["AuditFunction"]


def test_functions_with_a_database_get_new_code_only_after_the_migrations() -> None:
    for name in WITH_DATABASE:
        assert "Migration" in template()["Resources"][f"{name}Function"]["DependsOn"]
    assert properties("Migration")["ServiceTimeout"] > properties("MigrateFunction")["Timeout"]


def test_functions_verify_whom_they_connect_to_by_a_file_of_the_layer() -> None:
    for name in (*WITH_DATABASE, "Migrate"):
        variables = properties(f"{name}Function")["Environment"]["Variables"]
        assert variables["PGSSLMODE"] == "verify-full"
        # `system` would mean a folder of the machine that psycopg's OpenSSL was built on.
        assert Path("layers/certificates", Path(variables["PGSSLROOTCERT"]).name).is_file()
        assert variables["PGSSLROOTCERT"].startswith("/opt/")
        through_proxy = variables["PGHOST"] == {"Fn::GetAtt": ["Proxy", "Endpoint"]}
        assert through_proxy == (name != "Migrate")
        assert variables["DATABASE_AUTH"] == ("secret" if name == "Migrate" else "iam")


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
    zones = [json.dumps(subnet["Properties"]["AvailabilityZone"]) for subnet in resources("AWS::EC2::Subnet").values()]
    assert len(set(zones)) == len(zones) >= 2


def test_security_groups_open_function_to_proxy_to_cluster_and_nothing_else() -> None:
    out = {
        (name, rule["DestinationSecurityGroupId"]["Fn::GetAtt"][0], rule["FromPort"])
        for name, group in resources("AWS::EC2::SecurityGroup").items()
        for rule in group["Properties"]["SecurityGroupEgress"]
        if "DestinationSecurityGroupId" in rule
    }
    into = {
        (
            rule["Properties"]["SourceSecurityGroupId"]["Fn::GetAtt"][0],
            rule["Properties"]["GroupId"]["Fn::GetAtt"][0],
            rule["Properties"]["FromPort"],
        )
        for rule in resources("AWS::EC2::SecurityGroupIngress").values()
    }
    edges = {
        ("ApiSecurityGroup", "ProxySecurityGroup", 5432),
        ("AuthSecurityGroup", "ProxySecurityGroup", 5432),
        ("AuthSecurityGroup", "SecretsSecurityGroup", 443),
        ("ProxySecurityGroup", "DatabaseSecurityGroup", 5432),
        ("MigrateSecurityGroup", "DatabaseSecurityGroup", 5432),
    }
    # By an address range, for S3's sake: what MigrateFunction may reach by HTTPS is what has a route.
    assert out == edges
    assert into == edges | {("MigrateSecurityGroup", "SecretsSecurityGroup", 443)}
    ranges = {
        (name, rule["CidrIp"])
        for name, group in resources("AWS::EC2::SecurityGroup").items()
        for rule in group["Properties"]["SecurityGroupEgress"]
        if "CidrIp" in rule
    }
    nowhere = "127.0.0.1/32"
    assert ranges == {
        ("DatabaseSecurityGroup", nowhere),
        ("SecretsSecurityGroup", nowhere),
        ("MigrateSecurityGroup", "0.0.0.0/0"),
    }
    assert not any(
        "SecurityGroupIngress" in group["Properties"] for group in resources("AWS::EC2::SecurityGroup").values()
    )


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
    users = statements_of_proxy()["Resource"]
    assert [resource["Fn::Sub"].rpartition("/")[2] for resource in users] == ["healthcare_auth", "healthcare_api"]


def statements_of_proxy() -> Json:
    ((statement,),) = (policy["PolicyDocument"]["Statement"] for policy in properties("ProxyRole")["Policies"])
    found: Json = statement
    return found


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
    assert len(groups) >= len(ALL) + 3
    for name, group in groups.items():
        assert group["Properties"]["KmsKeyId"] == {"Fn::GetAtt": ["Key", "Arn"]}, name
        assert group["Properties"]["RetentionInDays"], name


def test_what_holds_data_says_what_becomes_of_it() -> None:
    kept = {"AWS::KMS::Key": "Retain", "AWS::RDS::DBCluster": "Snapshot"}
    stateful = {*kept, "AWS::RDS::DBInstance", "AWS::SecretsManager::Secret", "AWS::Logs::LogGroup"}
    for name, resource in template()["Resources"].items():
        if resource["Type"] in stateful:
            policy = resource["DeletionPolicy"]
            assert policy == resource["UpdateReplacePolicy"], name
            assert policy == kept.get(resource["Type"], policy), name
    # Who read what outlives the stack.
    for name in ("AccessLogs", *(f"{function}Logs" for function in ALL)):
        assert template()["Resources"][name]["DeletionPolicy"] == "Retain"


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
    assert order.index("Migration") < order.index("AuthFunction") < order.index("Api")


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


# What to watch ------------------------------------------------------------------------------------------------------


def test_every_alarm_goes_somewhere_and_is_explained() -> None:
    operations = Path("docs/operations.md").read_text("utf-8")
    alarms = resources("AWS::CloudWatch::Alarm")
    for name, alarm in alarms.items():
        assert alarm["Properties"]["AlarmActions"] == [{"Ref": "Alarms"}], name
        assert len(alarm["Properties"]["AlarmDescription"]) > 20, name
        title = re.sub(f"^({'|'.join(('Authorizer', *OF_THE_API))})Fails$", "…Fails", name)
        assert f"**{title}**" in operations, name


def test_the_dashboard_shows_metrics_that_are_written() -> None:
    body = properties("Dashboard")["DashboardBody"]["Fn::Sub"]
    widgets = json.loads(re.sub(r"\${[\w:.]+}", "x", body))["widgets"]
    written = {
        transformation["MetricName"]
        for metric in resources("AWS::Logs::MetricFilter").values()
        for transformation in metric["Properties"]["MetricTransformations"]
    }
    shown = set()
    for widget in widgets:
        namespace = ""
        for metric in widget["properties"]["metrics"]:
            namespace = metric[0] if metric[0] not in (".", "...") else namespace
            if namespace.startswith("Healthcare/"):
                shown.add(metric[1])
    assert shown <= written
    assert {"Logins", "FailedLogins", "Throttled", "Conflicts"} <= shown


def test_metrics_are_counted_from_fields_that_the_access_log_has() -> None:
    (stage,) = resources("AWS::ApiGateway::Stage").values()
    line = json.loads(stage["Properties"]["AccessLogSetting"]["Format"])
    for metric in resources("AWS::Logs::MetricFilter").values():
        if metric["Properties"]["LogGroupName"] == {"Ref": "AccessLogs"}:
            assert set(re.findall(r"\$\.(\w+)", metric["Properties"]["FilterPattern"])) <= line.keys()
            for route in re.findall('"([A-Z]+ /[^"]*)"', metric["Properties"]["FilterPattern"]):
                assert tuple(route.split(" ")) in declared()


def test_saved_queries_name_routes_that_exist() -> None:
    for name, query in resources("AWS::Logs::QueryDefinition").items():
        for route in re.findall(r"'([A-Z]+ /[^']*)'", query["Properties"]["QueryString"]):
            assert tuple(route.split(" ")) in declared(), name
