"""What the parts of the run have in common as processes."""

import socket
from contextlib import suppress

import psutil


def free_port(wanted: int = 0) -> int:
    """`wanted` if it is free, or else another."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def kill_with_children(pid: int) -> None:
    """Children have process groups and sessions of their own, so that a signal to a group does not reach them."""
    try:
        process = psutil.Process(pid)
        # Suspended first, so that it neither starts another child nor logs that one has ended.
        process.suspend()
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
