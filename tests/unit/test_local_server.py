"""The server of the local run, bytes in and bytes out."""

import json
import socket
import threading
from collections.abc import Iterator
from email import message_from_bytes
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from werkzeug.datastructures import Headers

from local.gateway.server import Server


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    body = environ["wsgi.input"].read().decode()
    seen = {"method": environ["REQUEST_METHOD"], "path": environ["PATH_INFO"], "body": body}
    seen |= {"headers": dict(environ["local.headers"])}
    start_response(environ.get("HTTP_X_STATUS", "200 OK"), [("Content-Type", "application/json")])
    return [json.dumps(seen).encode()] if environ["REQUEST_METHOD"] != "HEAD" else []


def refuse(path: str, status: int, message: str) -> tuple[int, Headers, bytes]:
    headers = Headers({"Content-Type": "application/problem+json"})
    return status, headers, json.dumps({"instance": path, "title": message}).encode()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(0) as server:
        server.application, server.refuse = echo, refuse
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield server
        server.shutdown()


def exchange(server: Server, *parts: bytes) -> bytes:
    """All that is answered to `parts` until the server or, after the last part, this side ends."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        for part in parts:
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def answers(received: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    found = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        status_line, _, header_lines = head.partition(b"\r\n")
        headers = {name.lower(): value for name, value in message_from_bytes(header_lines).items()}
        length = int(headers.get("content-length", 0))
        found.append((int(status_line.split()[1]), headers, received[:length]))
        received = received[length:]
    return found


POST = b"POST /echo HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET /echo\r\n\r\n",
        b"GET /echo HTTP/9.9\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /echo HTTP/1.1\r\n\r\n",
        b"GET http://[evil/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x1b[31mGET /echo HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\x1b[31m HTTP/1.1\r\nHost: x\r\n\r\n",
        POST + b"Content-Length: many\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: " + b"9" * 5001 + b"\r\n\r\n",
        POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        POST + b"Content-Length: 3\r\n\r\nab",
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: gzip\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\nab\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n+2\r\nab\r\n0\r\n\r\n",
        POST + b'no colon\r\nIf-Match: "1"\r\n\r\n',
        POST + b'If-Match : "1"\r\n\r\n',
        POST + b": nameless\r\n\r\n",
        POST + b'X-Odd: a\rIf-Match: "1"\r\n\r\n',
        POST + b"X-Odd: a\x00b\r\n\r\n",
    ],
)
def test_what_is_not_http_is_a_bad_request_and_ends_the_connection(
    server: Server, request_bytes: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    ((status, headers, body),) = answers(exchange(server, request_bytes))
    assert (status, headers["content-type"]) == (400, "application/problem+json")
    assert headers["connection"] == "close"
    assert json.loads(body)["title"] == "Bad Request"
    assert capfd.readouterr() == ("", "")


def test_a_line_that_does_not_end_is_too_large(server: Server) -> None:
    ((status, _, _),) = answers(exchange(server, b"GET /" + b"x" * 100_000))
    assert status == 431


def test_a_refused_body_is_told_with_the_path_of_its_request(server: Server) -> None:
    ((_, _, body),) = answers(exchange(server, POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n"))
    assert json.loads(body)["instance"] == "/echo"


def test_a_connection_serves_many_requests(server: Server) -> None:
    get = b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"
    post = POST + b"Content-Length: 2\r\n\r\nab"
    assert [status for status, _, _ in answers(exchange(server, get, post + get, get))] == [200] * 4


@pytest.mark.parametrize("between", [b"\r\n", b"\n", b"\r\n\r\n\r\n"])
def test_empty_lines_before_a_request_are_ignored(server: Server, between: bytes) -> None:
    get = b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"
    assert [status for status, _, _ in answers(exchange(server, between + get + between + get))] == [200] * 2
    assert [status for status, _, _ in answers(exchange(server, between, get, between))] == [200]


def test_a_body_in_chunks_is_one_body(server: Server) -> None:
    chunks = b"2;extension\r\nab\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
    ((_, _, body),) = answers(exchange(server, POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks))
    assert json.loads(body)["body"] == "ab0123456789"


def test_who_asks_first_is_told_to_continue(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 100")
        connection.sendall(b"ab")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_whole_url_is_a_target_too(server: Server) -> None:
    ((_, _, body),) = answers(exchange(server, b"GET http://other/echo?a=1 HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert json.loads(body)["path"] == "/echo"


def test_header_names_keep_their_case(server: Server) -> None:
    ((_, _, body),) = answers(exchange(server, b"GET / HTTP/1.1\r\nHost: x\r\nIf-MATCH: 1\r\n\r\n"))
    assert json.loads(body)["headers"] == {"Host": "x", "If-MATCH": "1"}


@pytest.mark.parametrize(("status", "length"), [("204 No Content", None), ("304 Not Modified", None), ("200 OK", "0")])
def test_answers_without_a_body(server: Server, status: str, length: str | None) -> None:
    request = f"HEAD / HTTP/1.1\r\nHost: x\r\nX-Status: {status}\r\n\r\n".encode()
    received = answers(exchange(server, request + request))
    assert [(code, headers.get("content-length")) for code, headers, _ in received] == [(int(status[:3]), length)] * 2


def test_a_status_that_http_does_not_have_is_the_functions_fault(server: Server) -> None:
    ((status, _, _),) = answers(exchange(server, b"GET / HTTP/1.1\r\nHost: x\r\nX-Status: 42 odd\r\n\r\n"))
    assert status == 502


def test_an_old_client_is_served_once(server: Server) -> None:
    ((status, headers, _),) = answers(exchange(server, b"GET / HTTP/1.0\r\n\r\n" * 2))
    assert (status, headers["connection"]) == (200, "close")
