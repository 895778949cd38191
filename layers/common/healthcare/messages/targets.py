"""Checks that a delivery goes to a public address, and makes it. The address is looked up once and then kept."""

import re
import socket
import ssl
import threading
from functools import cache
from http.client import HTTPConnection
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

CONNECT_SECONDS, ALL_SECONDS = 5, 15
_GLOBAL_UNICAST = ip_network("2000::/3")


class UnsafeTarget(ValueError):
    """The URL leads, or may lead, to where only this side of the network can go."""


def checked(url: str, *, loopback: bool) -> SplitResult:
    """By its text alone. With `loopback`, http to this machine counts as well. Raises UnsafeTarget."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise UnsafeTarget("no URL") from None
    is_local = loopback and parts.hostname in ("localhost", "127.0.0.1")
    if parts.scheme != "https" and not (is_local and parts.scheme == "http"):
        raise UnsafeTarget("another scheme than https")
    if not parts.hostname or parts.username is not None or parts.password is not None or parts.fragment:
        raise UnsafeTarget("no host, or more than a host")
    try:
        parts.hostname.encode("idna")  # as getaddrinfo does, whose UnicodeError is no OSError
    except UnicodeError:
        raise UnsafeTarget("no name of a host") from None
    if re.search(r"[^\x21-\x7e]", parts.path + parts.query):
        raise UnsafeTarget("characters that a request cannot hold")
    return parts


def address_of(parts: SplitResult, *, loopback: bool) -> str:
    """Of its addresses one, when all are public. Raises UnsafeTarget, and OSError when there are none."""
    found = socket.getaddrinfo(parts.hostname, parts.port or parts.scheme, type=socket.SOCK_STREAM)
    addresses = [str(address[0]) for *_, address in found]
    if any(not (is_public(address) or (loopback and ip_address(address).is_loopback)) for address in addresses):
        raise UnsafeTarget("an address that is not public")
    return addresses[0]


def is_public(text: str) -> bool:
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            address = address.ipv4_mapped
        elif address not in _GLOBAL_UNICAST or address.sixtofour or address.teredo:
            return False
    return address.is_global and not address.is_multicast


def post(url: str, headers: dict[str, str], body: str, *, loopback: bool) -> int:
    """The status that is answered; no redirect is followed and no body read.

    Raises UnsafeTarget, OSError and HTTPException.
    """
    parts = checked(url, loopback=loopback)
    connection = _Connection(parts, address_of(parts, loopback=loopback))
    # A time-out of the socket is for each of its operations: a receiver that sends a byte a second would have no end.
    end = threading.Timer(ALL_SECONDS, connection.abort)
    end.start()
    try:
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", path, body.encode(), headers)
        return connection.getresponse().status
    finally:
        end.cancel()
        connection.close()


@cache
def _tls() -> ssl.SSLContext:
    """Reading the roots takes 20 ms."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # whatever this Python was built with
    return context


class _Connection(HTTPConnection):
    """Connects to the address that was checked, whatever the name leads to by then, and speaks TLS for the name."""

    def __init__(self, parts: SplitResult, address: str) -> None:
        assert parts.hostname
        super().__init__(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        self._address = address
        self._context = _tls() if parts.scheme == "https" else None
        self._raw: socket.socket | None = None

    def connect(self) -> None:
        self._raw = socket.create_connection((self._address, self.port), CONNECT_SECONDS)
        self._raw.settimeout(ALL_SECONDS)
        self.sock = self._context.wrap_socket(self._raw, server_hostname=self.host) if self._context else self._raw

    def abort(self) -> None:
        if self.sock:
            self.sock.shutdown(socket.SHUT_RDWR)
        elif self._raw:
            self._raw.close()
