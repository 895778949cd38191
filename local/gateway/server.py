"""An HTTP/1.1 server on 127.0.0.1 for a WSGI application, with the limits of API Gateway. h11 reads and writes HTTP.

Werkzeug's own server closes every connection after one answer and speaks HTML when a request is malformed.
"""

import io
import socket
import socketserver
import sys
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit
from wsgiref.types import WSGIApplication

import h11
from werkzeug.datastructures import Headers
from werkzeug.test import run_wsgi_app

LARGEST_BODY = 10 * 1024 * 1024
LARGEST_HEAD = 64 * 1024
IDLE_SECONDS = 75
RECEIVED_AT_ONCE = 64 * 1024
PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F))

# path, status and message of a request that never came to the application: status, headers, body
Refuse = Callable[[str, int, str], tuple[int, Headers, bytes]]


class Refused(Exception):
    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status


class Server(socketserver.ThreadingTCPServer):
    """Claims its port at once, so that a port in use shows before anything else is started."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.port: int = self.server_address[1]
        self.application: WSGIApplication | None = None
        self.refuse: Refuse | None = None

    def handle_error(self, request: Any, client_address: Any) -> None:
        # Clients may hang up at any time.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Handler(socketserver.BaseRequestHandler):
    server: Server
    request: socket.socket

    def handle(self) -> None:
        self.request.settimeout(IDLE_SECONDS)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        while True:
            # RFC 9112, section 2.2: empty lines before a request line are ignored.
            while not (received := received.lstrip(b"\r\n")):
                received = self.request.recv(RECEIVED_AT_ONCE)
                if not received:
                    return
            connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEAD)
            connection.receive_data(received)
            self._answer(connection)
            if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                return
            received, _ = connection.trailing_data

    def _answer(self, connection: h11.Connection) -> None:
        assert self.server.application is not None
        path, has_body = "/", True
        try:
            request = self._next_event(connection)
            assert isinstance(request, h11.Request)
            has_body = request.method != b"HEAD"
            path, query = _target(request)
            environ = self._environ(request, path, query, self._read_body(connection, request))
            chunks, status_line, headers = run_wsgi_app(self.server.application, environ, buffered=True)
            body = b"".join(chunks)
            response = _response(int(status_line.split(" ", 1)[0]), headers, body)
        except Refused as refusal:
            response, body = self._refusal(path, refusal.status, str(refusal))
        except h11.RemoteProtocolError as error:
            # h11's hint for a transfer coding that it does not know is 501.
            too_large = error.error_status_hint == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            response, body = self._refusal(path, error.error_status_hint if too_large else HTTPStatus.BAD_REQUEST)
        except h11.LocalProtocolError:  # headers or a status of a function that HTTP can't carry
            response, body = self._refusal(path, HTTPStatus.BAD_GATEWAY)
        events = response, h11.Data(body if has_body else b""), h11.EndOfMessage()
        self.request.sendall(b"".join(connection.send(event) or b"" for event in events))

    def _refusal(self, path: str, status: int, message: str = "") -> tuple[h11.Response, bytes]:
        assert self.server.refuse is not None
        status, headers, body = self.server.refuse(path, status, message or HTTPStatus(status).phrase)
        return _response(status, headers, body, closes=True), body

    def _next_event(self, connection: h11.Connection) -> Any:
        while (event := connection.next_event()) is h11.NEED_DATA:
            connection.receive_data(self.request.recv(RECEIVED_AT_ONCE))
        return event

    def _read_body(self, connection: h11.Connection, request: h11.Request) -> bytes:
        has_two_lengths = {b"content-length", b"transfer-encoding"} <= {name for name, _ in request.headers}
        if has_two_lengths or request.http_version >= b"2":
            raise Refused(HTTPStatus.BAD_REQUEST)
        if connection.they_are_waiting_for_100_continue:
            self.request.sendall(connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        body = bytearray()
        while isinstance(event := self._next_event(connection), h11.Data):
            body += event.data
            if len(body) > LARGEST_BODY:
                message = f"HTTP content length exceeded {LARGEST_BODY} bytes."
                raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        return bytes(body)

    def _environ(self, request: h11.Request, path: str, query: str, body: bytes) -> dict[str, Any]:
        """As API Gateway does, text that is not UTF-8 goes on with replacement characters."""
        text = body.decode("utf-8", "replace").encode()
        headers = [(name.decode("ascii"), value.decode("latin-1")) for name, value in request.headers.raw_items()]
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method.decode("ascii"),
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": quote(query, safe=PRINTABLE),
            "REMOTE_ADDR": self.client_address[0],
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(self.server.port),
            "SERVER_PROTOCOL": f"HTTP/{request.http_version.decode('ascii')}",
            "CONTENT_LENGTH": str(len(text)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(text),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            # WSGI joins headers of the same name; the gateway keeps them apart.
            "local.headers": headers,
        }
        for name, value in headers:
            key = name.upper().replace("-", "_")
            if key == "CONTENT_TYPE":
                environ[key] = value
            elif key not in ("CONTENT_LENGTH", "TRANSFER_ENCODING"):
                key = f"HTTP_{key}"
                environ[key] = f"{environ[key]},{value}" if key in environ else value
        return environ


def _target(request: h11.Request) -> tuple[str, str]:
    """Path and query; the target may be a whole URL."""
    target = request.target.decode("ascii")
    if not target.startswith("/"):
        try:
            target = urlsplit(target)._replace(scheme="", netloc="").geturl()
        except ValueError:
            raise Refused(HTTPStatus.BAD_REQUEST) from None
    path, _, query = target.partition("?")
    return path, query


def _response(status: int, headers: Headers, body: bytes, *, closes: bool = False) -> h11.Response:
    framing = ("content-length", "connection", "transfer-encoding")
    sent = [(name, value) for name, value in headers if name.lower() not in framing]
    sent.append(("Date", formatdate(usegmt=True)))
    if status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        sent.append(("Content-Length", str(len(body))))
    if closes:
        sent.append(("Connection", "close"))
    encoded = [(name.encode("ascii"), value.encode("latin-1", "replace")) for name, value in sent]
    phrase = HTTPStatus(status).phrase if status in list(HTTPStatus) else ""
    return h11.Response(status_code=status, headers=encoded, reason=phrase)
