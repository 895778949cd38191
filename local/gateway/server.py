"""An HTTP/1.1 server on 127.0.0.1 for a WSGI application, with the limits of API Gateway.

Werkzeug's own closes every connection after one answer and speaks HTML when a request is malformed.
"""

import io
import socketserver
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit
from wsgiref.types import WSGIApplication

from werkzeug.datastructures import Headers
from werkzeug.test import run_wsgi_app

LARGEST_BODY = 10 * 1024 * 1024
PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F))

# path, status and message of a request that the application can't be asked about: status, headers, body
Refuse = Callable[[str, int, str], tuple[int, Headers, bytes]]


class Refused(Exception):
    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class Server(socketserver.ThreadingMixIn, HTTPServer):
    """Claims its port at once, so that a port in use shows before anything else is started."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.application: WSGIApplication | None = None
        self.refuse: Refuse | None = None

    def server_bind(self) -> None:
        # HTTPServer's asks a name server for the name of the address.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that hangs up is no news.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    # A request line without a version would else be answered without status and headers.
    default_request_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = 75

    def __getattr__(self, name: str) -> Callable[[], None]:
        # BaseHTTPRequestHandler looks for do_GET and so on; the application knows which methods there are.
        if name.startswith("do_"):
            return self._respond
        raise AttributeError(name)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Also called by the base class for what it can't parse; it may not know path or method then."""
        self.close_connection = True
        if code == HTTPStatus.HTTP_VERSION_NOT_SUPPORTED:
            code, message = HTTPStatus.BAD_REQUEST, None  # what a client sends is never a fault of this side
        assert self.server.refuse is not None
        path = getattr(self, "path", "/")
        self._write(*self.server.refuse(path, code, message or HTTPStatus(code).phrase))

    def _respond(self) -> None:
        assert self.server.application is not None
        try:
            environ = self._environ(self._read_body())
        except Refused as refusal:
            self.send_error(refusal.status, str(refusal))
            return
        chunks, status, headers = run_wsgi_app(self.server.application, environ, buffered=True)
        self._write(int(status.split(" ", 1)[0]), headers, b"".join(chunks))

    def _write(self, status: int, headers: Headers, body: bytes) -> None:
        has_body = status >= 200 and status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
        try:
            phrase = HTTPStatus(status).phrase
        except ValueError:
            phrase = ""
        self.send_response_only(status, phrase)
        self.send_header("Date", self.date_time_string())
        for name, value in headers:
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value.encode("latin-1", "replace").decode("latin-1"))
        if has_body:
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if has_body and getattr(self, "command", None) != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def _read_body(self) -> bytes:
        coding = self.headers.get("Transfer-Encoding")
        lengths = self.headers.get_all("Content-Length", [])
        if coding is not None:
            if lengths or coding.lower() != "chunked":
                raise Refused(HTTPStatus.BAD_REQUEST, "Bad Request")
            return self._read_chunks()
        if not lengths:
            return b""
        if len(set(lengths)) > 1 or not (lengths[0].isascii() and lengths[0].isdecimal()):
            raise Refused(HTTPStatus.BAD_REQUEST, "Bad Request")
        return self._read_exactly(int(lengths[0]), already=0)

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while True:
            size_text = self.rfile.readline(1024).split(b";", 1)[0].strip()
            try:
                size = int(size_text, 16)
            except ValueError:
                raise Refused(HTTPStatus.BAD_REQUEST, "Bad Request") from None
            if size <= 0:
                break
            body += self._read_exactly(size, already=len(body))
            self.rfile.readline(3)
        while self.rfile.readline(65536).strip():
            pass
        return bytes(body)

    def _read_exactly(self, size: int, *, already: int) -> bytes:
        if already + size > LARGEST_BODY:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"HTTP content length exceeded {LARGEST_BODY} bytes.")
        data = self.rfile.read(size)
        if len(data) < size:
            raise Refused(HTTPStatus.BAD_REQUEST, "Bad Request")
        return data

    def _environ(self, body: bytes) -> dict[str, Any]:
        """As API Gateway does, text that is not UTF-8 goes on with replacement characters."""
        target = self.path if self.path.startswith("/") else urlsplit(self.path)._replace(scheme="", netloc="").geturl()
        path, _, query = target.partition("?")
        text = body.decode("utf-8", "replace").encode()
        environ: dict[str, Any] = {
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path.encode("latin-1")).decode("latin-1"),
            "QUERY_STRING": quote(query.encode("latin-1"), safe=PRINTABLE),
            "REQUEST_URI": target,
            "REMOTE_ADDR": self.client_address[0],
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(self.server.server_port),
            "SERVER_PROTOCOL": self.request_version,
            "CONTENT_LENGTH": str(len(text)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(text),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            # WSGI joins headers of the same name; the gateway keeps them apart.
            "local.headers": self.headers.items(),
        }
        for name, value in self.headers.items():
            key = name.upper().replace("-", "_")
            if key == "CONTENT_TYPE":
                environ[key] = value
            elif key not in ("CONTENT_LENGTH", "TRANSFER_ENCODING"):
                key = f"HTTP_{key}"
                environ[key] = f"{environ[key]},{value}" if key in environ else value
        return environ
