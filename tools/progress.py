"""How far something is: a bar on a terminal, nothing elsewhere."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

WIDTH = 30

Advance = Callable[..., None]


@contextmanager
def progress(title: str, total: int) -> Iterator[Advance]:
    """Gives what to call when one thing more is done, or `count` things."""
    is_shown = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    done = 0

    def advance(count: int = 1) -> None:
        nonlocal done
        before, done = done, done + count
        if is_shown and 100 * done // total > 100 * before // total:
            bar = "█" * (WIDTH * done // total)
            print(f"\r  {title} {bar:░<{WIDTH}} {done:,} of {total:,}", end="", flush=True)

    try:
        yield advance
    finally:
        if is_shown:
            print("\r\x1b[K", end="", flush=True)
