"""What the environment says about a local run."""

import os
import platform
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Literal

PROJECT = Path(__file__).resolve().parent.parent
TEMPLATE = PROJECT / "template.yaml"
TOKEN_KEYS_SECRET = "healthcare/token-keys"
DATA_KEYS_SECRET = "healthcare/data-keys"
MAIL_FROM = "no-reply@healthcare.example"
VIDEO_SECRET = "healthcare/video"
DOCUMENTS_BUCKET = "healthcare-documents"
# What the local AWS calls the resources whose names the template passes to functions.
NAMES_IN_AWS = {
    "TOKEN_KEYS_SECRET_ID": TOKEN_KEYS_SECRET,
    "VIDEO_SECRET_ID": VIDEO_SECRET,
    "DATA_KEYS_SECRET_ID": DATA_KEYS_SECRET,
    "DOCUMENTS_BUCKET": DOCUMENTS_BUCKET,
    "MAIL_FROM": MAIL_FROM,
}
# What AWS's libraries ask for, and what keeps a person's real account out of it; moto takes anything.
DUMMY_ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class CannotStart(Exception):
    """One sentence that tells a person why the run can't start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    folder: Path
    port: int
    runtime: Literal["emulator", "process"]


def read(environ: Mapping[str, str]) -> Settings:
    return Settings(folder=state_folder(environ), port=_port(environ), runtime=_runtime(environ))


def state_folder(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("LOCAL_DIR") or PROJECT / ".local").absolute()


def isolate(environ: MutableMapping[str, str]) -> None:
    """A person's own AWS account and PostgreSQL must not reach SAM CLI, moto and the functions."""
    for name in list(environ):
        if name.startswith(("AWS_", "PG")) or name in ("DATABASE_URL", "DATABASE_POOLER"):
            del environ[name]
    environ.update(DUMMY_ACCOUNT, SAM_CLI_TELEMETRY="0")


def _port(environ: Mapping[str, str]) -> int:
    text = environ.get("PORT") or "3000"
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:6]) <= 65535:
        raise CannotStart(f"PORT must be a number from 1 to 65535, not {text!r}.")
    return int(text)


def _runtime(environ: Mapping[str, str]) -> Literal["emulator", "process"]:
    match environ.get("LOCAL_RUNTIME", ""):
        case "":
            return "emulator" if os.access(emulator(), os.X_OK) and sys.platform == "linux" else "process"
        case "emulator":
            return "emulator"
        case "process":
            return "process"
        case other:
            raise CannotStart(f"LOCAL_RUNTIME must be emulator or process, not {other!r}.")


def emulator() -> Path:
    """The Lambda runtime interface emulator that SAM CLI brings; found without importing SAM CLI, which is slow."""
    architecture = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
    spec = util.find_spec("samcli")
    if spec is None or not spec.submodule_search_locations:
        raise CannotStart("The development requirements are not installed: use `make run`.")
    return Path(spec.submodule_search_locations[0], "local", "rapid", f"aws-lambda-rie-{architecture}")
