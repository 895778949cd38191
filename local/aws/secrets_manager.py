"""Moto's Secrets Manager with the signing keys in it, as a process: `python -m local.aws.secrets_manager KEYS_FILE`.

The first line on standard output is its address. The keys are made at the first start and kept in KEYS_FILE.
"""

import base64
import json
import os
import secrets
import sys
import threading
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

from local.settings import DUMMY_ACCOUNT, TOKEN_KEYS_SECRET


def new_keys() -> str:
    key_id = secrets.token_hex(4)
    return json.dumps({"current": key_id, "keys": {key_id: base64.b64encode(secrets.token_bytes(32)).decode()}})


def main() -> None:
    file = Path(sys.argv[1])
    if not file.exists():
        unfinished = file.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode=0o600)
        unfinished.write_text(new_keys())
        unfinished.rename(file)
    os.environ.update(DUMMY_ACCOUNT)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    boto3.client("secretsmanager", endpoint_url=address).create_secret(
        Name=TOKEN_KEYS_SECRET, SecretString=file.read_text()
    )
    print(address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
