"""This API beside what a team would otherwise use: `make bench`.

Measures in rounds, the peers one after the other in each, so that a slow minute of the machine is everybody's.
Prints one table, and writes it to docs/performance.md, with a picture beside it.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil

from local.settings import PROJECT
from tests.benchmarks import alike
from tests.benchmarks.cold import cold_start, imports
from tests.benchmarks.peers import EXPRESS, FASTAPI, FLOOR, OURS, PEERS, TITLES, Peer, Program, node, prepared
from tests.benchmarks.picture import picture
from tests.benchmarks.table import FAR, missed, table, with_derived
from tests.benchmarks.warm import Proxy, Warm, proxy
from tests.benchmarks.world import DELAY, Events, World, made

DOCUMENT = PROJECT / "docs" / "performance.md"
PICTURE = PROJECT / "docs" / "performance.svg"
BEGIN, END = "<!-- made by `make bench` -->\n", "<!-- until here -->"

COLD = ("get", "login", "authorize", "doctors", "mappings", "audit", "health", "docs")
# How many requests make one figure.
NEAR_BATCH = {"get": 100, "list": 100, "create": 100, "update": 100, "authorize": 200, "register": 1, "login": 1}
FAR_BATCH = 40
WARM_UP = 1000  # Node.js compiles what runs often; a bcrypt in between is warm soon enough
MEMORY_REQUESTS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="three rounds, and nothing written")
    given = parser.parse_args()
    if sys.platform != "linux":
        sys.exit("The benchmark needs Linux, for AWS's runtime interface emulator.")
    peers = prepared()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o711)
        world = stack.enter_context(made(folder, PEERS))
        benchmark = Benchmark(peers, world, 3 if given.quick else given.rounds)
        benchmark.run()
        machine = _machine(world)
    figures = with_derived(benchmark.figures)
    shown = f"{table(figures)}\n\n{machine} {benchmark.rounds} rounds.\n"
    print(shown)
    print(f"{_imports_in_words(benchmark)}\n")
    print("\n".join(["Missed:", *missed(figures)]) if missed(figures) else "All that was to be reached is reached.")
    if not given.quick:
        before, _, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        content = f"{BEGIN}\n{shown}\n{_imports_in_words(benchmark)}\n\n{END}"
        DOCUMENT.write_text(before + content + after, "utf-8")
        PICTURE.write_text(picture(figures), "utf-8")


class Benchmark:
    def __init__(self, peers: list[Peer], world: World, rounds: int) -> None:
        self.figures: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.dearest: dict[tuple[str, str], list[tuple[str, float]]] = {}
        self.rounds = rounds
        self._peers = peers
        self._world = world
        token = self._token()
        self._events = {name: Events(user, world.first_patient(user), token) for name, user in world.users.items()}

    def run(self) -> None:
        self._say("Looking whether all answer alike")
        alike.check(self._peers, self._events, self._world)
        self._measure_cold()
        self._measure_warm()
        self._say("Measuring memory")
        for peer in self._peers:
            self.figures["size", peer.name].append(peer.unpacked)
            for name, route in (("patients", "list"), ("auth", "login"), ("authorizer", "authorize")):
                if program := peer.program(route):
                    self.figures[f"memory {name}", peer.name].append(self._peak_memory(peer, program, name))

    def _token(self) -> str:
        """As our login gives it; all authorizers verify the same."""
        ours = self._peers[0]
        program = ours.program("login")
        assert program
        with Warm(program, self._world) as warm:
            event = Events(self._world.users[OURS], 1, "").make("login")
            return str(json.loads(warm.call("login", [event]).answer["body"])["access_token"])

    def _each(self, route: str) -> Iterator[tuple[Peer, Program]]:
        for peer in self._peers:
            if peer.answers(route) and (program := peer.program(route)):
                yield peer, program

    def _measure_cold(self) -> None:
        for number in range(self.rounds + 1):
            self._say(f"Cold starts, round {number} of {self.rounds}")
            for route in COLD:
                for peer, program in self._each(route):
                    event = self._events[peer.name].make(route)
                    took = cold_start(program, self._world, event)
                    if number:  # the first reads files from the disk
                        self.figures[f"cold {route}", peer.name].append(took)
            took = cold_start(self._peers[-1].programs["packages"], self._world, self._events[FLOOR].make("get"))
            if number:
                self.figures["cold packages", FLOOR].append(took)
            for route in ("get", "authorize"):
                for peer, program in self._each(route):
                    if number and not program.is_node:
                        total, dearest = imports(program, self._world)
                        self.figures[f"imports {route}", peer.name].append(total)
                        self.dearest[route, peer.name] = dearest

        for name in (OURS, FASTAPI, EXPRESS):
            self.figures["cold packages", name] = self.figures["cold get", name]

    def _measure_warm(self) -> None:
        with ExitStack() as stack:
            network = stack.enter_context(proxy(self._world.server.port, DELAY))
            warm: dict[tuple[str, str, bool], Warm] = {}
            for route in NEAR_BATCH:
                self._say(f"Warming up: {route}")
                for peer, program in self._each(route):
                    for far in (False, True):
                        key = peer.name, program.name, far
                        if key not in warm:
                            port = network.port if far else None
                            warm[key] = stack.enter_context(Warm(program, self._world, port))
                        number = 1 if NEAR_BATCH[route] == 1 else WARM_UP // 10 if far else WARM_UP
                        warm[key].call(route, self._make(peer, route, number))
            for number in range(1, self.rounds + 1):
                self._say(f"Warm requests, round {number} of {self.rounds}")
                for route in NEAR_BATCH:
                    for peer, program in self._each(route):
                        self._measure_near(peer, route, warm[peer.name, program.name, False])
                        self._measure_far(peer, route, warm[peer.name, program.name, True], network)

    def _measure_near(self, peer: Peer, route: str, warm: Warm) -> None:
        took = warm.call(route, self._make(peer, route, NEAR_BATCH[route]))
        self.figures[f"near {route}", peer.name].append(took.wall)
        self.figures[f"cpu {route}", peer.name].append(took.cpu)

    def _measure_far(self, peer: Peer, route: str, warm: Warm, network: Proxy) -> None:
        if route == "authorize":
            return
        number = FAR_BATCH if route in FAR else 1
        events = self._make(peer, route, number)
        before = network.round_trips()
        took = warm.call(route, events)
        self.figures[f"trips {route}", peer.name].append((network.round_trips() - before) / number)
        if route in FAR:
            self.figures[f"far {route}", peer.name].append(took.wall)

    def _peak_memory(self, peer: Peer, program: Program, name: str) -> int:
        """After a mix of what the function answers; a login now and then where it does."""
        routes = {
            "patients": ["get", "list", "create", "update"],
            "auth": ["me"] if peer.name == OURS else ["get", "list"],
            "authorizer": ["authorize"],
        }[name]
        routes = [route for route in routes if peer.program(route)]
        with Warm(program, self._world) as warm:
            for number in range(MEMORY_REQUESTS // 20):
                route = routes[number % len(routes)]
                warm.call(route, self._make(peer, route, 20))
                if name == "auth" and number % 10 == 0:
                    warm.call("login", self._make(peer, "login", 1))
            return warm.peak_memory()

    def _make(self, peer: Peer, route: str, number: int) -> list[dict[str, object]]:
        return [self._events[peer.name].make(route) for _ in range(number)]

    def _say(self, text: str) -> None:
        print(f"{text} ...", file=sys.stderr, flush=True)


def _machine(world: World) -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    model = models[0] if models else platform.machine()
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    node_version = subprocess.run([node(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    today = datetime.datetime.now(datetime.UTC).date()
    return (
        f"{today}, {os.cpu_count()} cores of {model}, {psutil.virtual_memory().total / 2**30:.0f} GiB, {system}, "
        f"Python {platform.python_version()}, Node.js {node_version.lstrip('v')}, PostgreSQL {world.server_version()}."
    )


def _imports_in_words(benchmark: Benchmark) -> str:
    lines = ["The dearest packages of a cold start, in ms of their own (`-X importtime`):", ""]
    for (route, peer), packages in benchmark.dearest.items():
        words = ", ".join(f"{name} {time * 1000:.1f}" for name, time in packages)
        lines.append(f"- {TITLES[peer]}, {'authorizer' if route == 'authorize' else 'patients'}: {words}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
