"""Serves edited code without a restart. Looks at files' times once a second, which works on every file system."""

import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from local.console import Console
from local.environments.function import Function
from local.environments.pool import Pool
from local.settings import PROJECT, TEMPLATE

SECONDS = 1.0
WATCHED = (".py", ".sql", ".html", ".json", ".yaml")


def reload_edited(pools: Iterable[Pool], console: Console, stop: threading.Event) -> None:
    for paths in edited([PROJECT / "functions", PROJECT / "layers", TEMPLATE], stop):
        for path in sorted(paths):
            if path == TEMPLATE or path.suffix == ".sql":
                console.say(f"{path.relative_to(PROJECT)} has changed: restart to apply it.")
        reloaded = [pool for pool in pools if any(_is_code_of(pool.function, path) for path in paths)]
        for pool in reloaded:
            pool.replace()
        if reloaded:
            console.say(f"Code has changed: reloading {', '.join(sorted(pool.function.title for pool in reloaded))}")


def edited(places: Iterable[Path], stop: threading.Event) -> Iterator[set[Path]]:
    seen = dict(_times(places))
    while not stop.wait(SECONDS):
        now = dict(_times(places))
        if changed := {path for path, _ in seen.items() ^ now.items()}:
            yield changed
        seen = now


def _is_code_of(function: Function, path: Path) -> bool:
    return path.suffix != ".sql" and any(path.is_relative_to(folder) for folder in (function.folder, *function.layers))


def _times(places: Iterable[Path]) -> Iterator[tuple[Path, tuple[int, int]]]:
    for place in places:
        for path in place.rglob("*") if place.is_dir() else [place]:
            if path.suffix in WATCHED and "__pycache__" not in path.parts:
                try:
                    found = path.stat()
                except FileNotFoundError:
                    continue
                yield path, (found.st_mtime_ns, found.st_size)
