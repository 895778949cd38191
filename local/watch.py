"""Notices edited files by looking at their times once a second, which works on every file system."""

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

SECONDS = 1.0


class Watch:
    def __init__(self, places: Iterable[Path], changed: Callable[[set[Path]], None]) -> None:
        self._places = list(places)
        self._changed = changed
        self._seen = dict(self._look())

    def run(self, stop: threading.Event) -> None:
        while not stop.wait(SECONDS):
            now = dict(self._look())
            changed = {path for path in now.keys() | self._seen.keys() if now.get(path) != self._seen.get(path)}
            self._seen = now
            if changed:
                self._changed(changed)

    def _look(self) -> Iterator[tuple[Path, tuple[int, int]]]:
        for place in self._places:
            for path in place.rglob("*") if place.is_dir() else [place]:
                if path.suffix in (".py", ".sql", ".html", ".json", ".yaml") and "__pycache__" not in path.parts:
                    try:
                        found = path.stat()
                    except FileNotFoundError:
                        continue
                    yield path, (found.st_mtime_ns, found.st_size)
