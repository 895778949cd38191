"""What the environment says about a local run."""

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Literal

PROJECT = Path(__file__).resolve().parent.parent
TOKEN_KEYS_SECRET = "healthcare/token-keys"
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
    folder = Path(environ.get("LOCAL_DIR") or PROJECT / ".local").absolute()
    return Settings(folder=folder, port=_port(environ.get("PORT") or "3000"), runtime=_runtime(environ))


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= 65535:
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
