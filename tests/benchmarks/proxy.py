"""A network between a function and PostgreSQL, in a process of its own: `python -m tests.benchmarks.proxy PORT DELAY`.

Each round trip takes DELAY seconds longer. Writes its port, and for every line that it reads, how many there were.
"""

import sys
import time

from tests.wire import Wire


def main() -> None:
    delay = float(sys.argv[2])
    with Wire(int(sys.argv[1])) as wire:
        seen = 0

        def wait(_: bytes) -> bool:
            nonlocal seen
            if delay and wire.round_trips > seen:
                time.sleep(delay)
            seen = wire.round_trips
            return False

        wire.on_request = wait
        print(wire.port, flush=True)
        for _ in sys.stdin:
            print(wire.round_trips, flush=True)


main()
