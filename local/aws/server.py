"""Moto's server with what the API expects to find in AWS: `python -m local.aws.server FOLDER PORT`.

PORT 0 takes any. The first line on standard output is its address.
"""

import base64
import json
import os
import secrets
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug import Response
from werkzeug.serving import make_server

from local.aws.inbox import inbox, shown
from local.aws.s3 import Check
from local.settings import (
    DATA_KEYS_SECRET,
    DOCUMENTS_BUCKET,
    DUMMY_ACCOUNT,
    MAIL_FROM,
    TOKEN_KEYS_SECRET,
    VIDEO_SECRET,
)

# What `livekit-server --dev` listens at and takes.
VIDEO_SERVER = {"url": "ws://127.0.0.1:7880", "key": "devkey", "secret": "secret"}


def main() -> None:
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    os.environ.update(DUMMY_ACCOUNT)
    address = os.environ["AWS_ENDPOINT_URL"] = serve(port)
    put_keys(folder / "token-keys.json", TOKEN_KEYS_SECRET)
    put_keys(folder / "data-keys.json", DATA_KEYS_SECRET)
    boto3.client("sesv2").create_email_identity(EmailIdentity=MAIL_FROM)
    boto3.client("secretsmanager").create_secret(Name=VIDEO_SECRET, SecretString=json.dumps(VIDEO_SERVER))
    make_bucket(DOCUMENTS_BUCKET)
    print(address, flush=True)
    threading.Event().wait()


def serve(port: int) -> str:
    """The address of moto, which runs in threads of this process, for the account of its environment."""
    secret_keys = {os.environ["AWS_ACCESS_KEY_ID"]: os.environ["AWS_SECRET_ACCESS_KEY"]}
    application = with_inbox(Check(DomainDispatcherApplication(create_backend_app), secret_keys))
    server = make_server("127.0.0.1", port, application, threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def make_bucket(name: str) -> None:
    """For documents. Unlike the database, moto forgets what is in it when it ends."""
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


def with_inbox(application: WSGIApplication) -> WSGIApplication:
    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/inbox.json":
            return application(environ, start_response)
        body = json.dumps([shown(mail) for mail in inbox()])
        return Response(body, mimetype="application/json")(environ, start_response)

    return answer


def put_keys(file: Path, secret: str) -> None:
    """The keys are made at the first start and kept in `file`."""
    if not file.exists():
        key_id = secrets.token_hex(4)
        keys = {"current": key_id, "keys": {key_id: base64.b64encode(secrets.token_bytes(32)).decode()}}
        unfinished = file.with_suffix(".unfinished")
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(keys))
        unfinished.rename(file)
    boto3.client("secretsmanager").create_secret(Name=secret, SecretString=file.read_text())


if __name__ == "__main__":
    main()
