from pathlib import Path

import pytest

from local.settings import PROJECT, CannotStart, read


def test_nothing_needs_to_be_set() -> None:
    settings = read({})
    assert (settings.folder, settings.port) == (PROJECT / ".local", 3000)


def test_what_can_be_set() -> None:
    settings = read({"LOCAL_DIR": "/some/where", "PORT": "3001", "LOCAL_RUNTIME": "process"})
    assert (settings.folder, settings.port, settings.runtime) == (Path("/some/where"), 3001, "process")


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "3000 ", "٣"])
def test_a_port_that_is_none(port: str) -> None:
    with pytest.raises(CannotStart, match=r"PORT must be a number from 1 to 65535, not '"):
        read({"PORT": port})


def test_a_runtime_that_is_none() -> None:
    with pytest.raises(CannotStart, match="LOCAL_RUNTIME must be emulator or process, not 'docker'"):
        read({"LOCAL_RUNTIME": "docker"})
