"""Lambda's Invoke, for a function that invokes another one."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from local.environments.function import InvocationFailed


@contextmanager
def serve_functions(invoke: Callable[[str, bytes], bytes]) -> Iterator[str]:
    """Where boto3 finds them. `invoke` takes a function's name and an event."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            path = re.fullmatch(r"/2015-03-31/functions/([^/]+)/invocations", unquote(self.path))
            event = self.rfile.read(int(self.headers["Content-Length"]))
            failed: dict[str, str] = {}
            try:
                answer = invoke(path[1] if path else "", event)
            except InvocationFailed as error:
                answer, failed = json.dumps({"errorType": str(error)}).encode(), {"X-Amz-Function-Error": "Unhandled"}
            self.send_response(200)
            for name, value in {"Content-Length": str(len(answer)), **failed}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
