"""The environment, read once."""

from functools import cache
from os import environ
from typing import NamedTuple


class Settings(NamedTuple):
    """One field for each environment variable of the same name in upper case; times are in seconds.

    A dataclass would be a fifth of the authorizer's imports.
    """

    database_auth: str = "password"  # `iam`: a token of the function's own role takes the place of a password
    database_retry_after: int = 1  # seconds to wait for a database that does not answer
    bcrypt_cost: int = 12
    token_keys_secret_id: str = "healthcare/token-keys"
    video_secret_id: str = "healthcare/video"
    data_keys_secret_id: str = "healthcare/data-keys"
    admin_second_factor: str = "optional"  # or `required`
    token_issuer: str = "healthcare"
    access_token_lifetime: int = 15 * 60
    session_idle_lifetime: int = 30 * 24 * 3600
    session_lifetime: int = 90 * 24 * 3600
    webhooks_to_loopback: str = "refused"  # or `allowed`, where the receiver runs on the same machine
    mail_from: str = ""  # nothing is sent by mail without it
    documents_bucket: str = "healthcare-documents"
    malware_scan: str = "off"  # `on`: a document is available once GuardDuty has found nothing in it


@cache
def settings() -> Settings:
    """An empty variable counts as none. Raises ValueError when a number is not one."""
    defaults = Settings._field_defaults
    given = {name: value for name in defaults if (value := environ.get(name.upper()))}
    return Settings()._replace(**{name: type(defaults[name])(value) for name, value in given.items()})
