"""A TCP proxy in front of PostgreSQL: counts round trips, and breaks connections when it is told to."""

import select
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self


class Wire:
    """Inside its `with` block, 127.0.0.1:`port` leads to PostgreSQL at `target` on the same host.

    `round_trips` counts how often a client spoke after the server had. `on_request`, when set, sees what a client is
    about to send, and says by True that the connection breaks instead; `on_answer` likewise for the server's answer.
    """

    def __init__(self, target: int) -> None:
        self.round_trips = 0
        self.on_request: Callable[[bytes], bool] | None = None
        self.on_answer: Callable[[bytes], bool] | None = None
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def cut(self) -> None:
        """All connections there are, whatever runs on them."""
        for end in list(self._open):
            end.shutdown(socket.SHUT_RDWR)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._forward, client)

    def _forward(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            self._open.add(client)
            self._relay(client, server)
            self._open.discard(client)

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server_spoke = True
        while True:
            for source in select.select([client, server], [], [])[0]:
                try:
                    data = source.recv(65536)
                except ConnectionError:
                    return
                if not data:
                    return
                if source is client:
                    self.round_trips += server_spoke
                    if self.on_request and self.on_request(data):
                        return
                elif self.on_answer and self.on_answer(data):
                    return
                server_spoke = source is server
                (server if source is client else client).sendall(data)
