"""What is counted, as CloudWatch metrics: Powertools writes them into the log in the embedded metric format."""

from os import environ
from typing import Literal

from aws_lambda_powertools import single_metric
from aws_lambda_powertools.metrics import MetricUnit

Metric = Literal[
    "Logins", "FailedLogins", "Refusals", "ServerErrors", "UnavailableKeys", "MigrationFailures", "SetAside"
]


def count(metric: Metric) -> None:
    """One more, with the function's service as dimension."""
    namespace = environ.get("POWERTOOLS_METRICS_NAMESPACE", "Healthcare")
    service = environ.get("POWERTOOLS_SERVICE_NAME", "unknown")
    with single_metric(
        metric, unit=MetricUnit.Count, value=1, namespace=namespace, default_dimensions={"service": service}
    ):
        pass
