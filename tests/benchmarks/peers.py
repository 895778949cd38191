"""What is compared: this API as `make build` makes it, and what a team would otherwise write.

Everything is made anew when the files that it comes from have changed, in `.venv/benchmark`.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from local.gateway.template import Template
from local.settings import PROJECT
from tests.benchmarks.world import PEER_ROLE, World
from tools.build import build, size

HERE = Path(__file__).parent
MADE = PROJECT / ".venv" / "benchmark"
OURS, FASTAPI, EXPRESS, FLOOR = PEERS = ["ours", "fastapi", "express", "floor"]
TITLES = {
    OURS: "this API",
    FASTAPI: "FastAPI, SQLAlchemy, Mangum",
    EXPRESS: "Express, pg, serverless-http",
    FLOOR: "bare handler, psycopg",
}
FUNCTIONS = {
    **dict.fromkeys(("get", "list", "create", "update"), "patients"),
    **dict.fromkeys(("register", "login", "me"), "auth"),
    "authorize": "authorizer",
    **dict.fromkeys(("book", "slots"), "appointments"),
    "calendar": "practice",
}
"""Of ours, the one that answers a route; others are called as their route."""


@dataclass(frozen=True, eq=False)
class Program:
    """What Lambda would run as one function."""

    name: str
    handler: str
    folder: Path
    path: tuple[Path, ...] = ()  # of Python modules, beside the folder
    variables: Mapping[str, str] = field(default_factory=dict)
    role: str | None = PEER_ROLE

    @property
    def is_node(self) -> bool:
        return self.handler.endswith(".handler")

    def command(self, runtime: bool) -> list[str]:
        """Under Lambda's runtime client, or as the process that calls the handler by itself."""
        if self.is_node:
            runtime_client = HERE / "peers" / "runtime" / "runtime.cjs"
            return [node(), str(runtime_client if runtime else HERE / "caller.cjs"), self.handler]
        python = str(MADE / "runtime" / "bin" / "python")
        return [python, *(["-m", "awslambdaric"] if runtime else ["-P", str(HERE / "caller.py")]), self.handler]

    def environment(self, world: World, port: int | None = None) -> dict[str, str]:
        """All that the process knows: nothing comes from the person who runs the benchmark but where programs are."""
        given = world.variables(self.role or PEER_ROLE, port)
        if self.role is None:
            given = {name: value for name, value in given.items() if not name.startswith("PG")}
        path = os.pathsep.join(map(str, (self.folder, *self.path)))
        template = {name: value for name, value in self.variables.items() if not name.startswith("PG")}
        basics = {"PATH": os.environ["PATH"], "TZ": ":UTC", "PYTHONPATH": path, "LAMBDA_TASK_ROOT": str(self.folder)}
        return basics | {"NODE_ENV": "production", "NODE_NO_WARNINGS": "1"} | template | given


@dataclass(frozen=True)
class Peer:
    name: str
    programs: Mapping[str, Program]
    unpacked: int  # bytes of all that is uploaded

    def program(self, route: str) -> Program | None:
        if self.name == OURS:
            return self.programs[FUNCTIONS.get(route, route)]
        if self.name == FLOOR and route not in ("get", "list", "create"):
            return None
        of_route = {"authorize": "authorizer", **dict.fromkeys(("book", "slots", "calendar"), "booking")}
        return self.programs.get(of_route.get(route, "app"))

    def answers(self, route: str) -> bool:
        return self.name == OURS or (route in FUNCTIONS and route != "me" and self.program(route) is not None)


def prepared() -> list[Peer]:
    MADE.mkdir(parents=True, exist_ok=True)
    _once("runtime", [HERE / "peers" / "runtime" / "requirements.txt"], _make_runtime)
    for peer in (FASTAPI, FLOOR):
        _once(peer, (HERE / "peers" / peer).iterdir(), partial(_make_python_peer, peer))
    _once(EXPRESS, (path for path in (HERE / "peers" / EXPRESS).iterdir() if path.is_file()), _make_express)
    sources = [path for root in ("functions", "layers") for path in (PROJECT / root).rglob("*") if path.is_file()]
    sources = [path for path in sources if "__pycache__" not in path.parts]
    _once(OURS, [*sources, PROJECT / "template.yaml", PROJECT / "tools" / "build.py"], _make_ours)
    return [_ours(), *map(_other, (FASTAPI, EXPRESS, FLOOR))]


def node() -> str:
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        sys.exit("The comparison needs Node.js 20 or newer and npm, for Express.")
    return found


def _once(name: str, sources: Iterable[Path], make: Callable[[Path], None]) -> None:
    digest = hashlib.sha256(sys.version.encode())
    for source in sorted(sources):
        if source.is_file():
            digest.update(f"{source}\n".encode() + source.read_bytes())
    target, stamp = MADE / name, MADE / f"{name}.stamp"
    if stamp.exists() and stamp.read_text() == digest.hexdigest():
        return
    print(f"Making {name} ...", file=sys.stderr, flush=True)
    shutil.rmtree(target, ignore_errors=True)
    stamp.unlink(missing_ok=True)
    make(target)
    stamp.write_text(digest.hexdigest())


def _make_runtime(target: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(target)], check=True)
    _pip(target / "bin" / "python", "--requirement", str(HERE / "peers" / "runtime" / "requirements.txt"))


def _make_python_peer(name: str, target: Path) -> None:
    source = HERE / "peers" / name
    python = MADE / "runtime" / "bin" / "python"
    _pip(python, "--no-compile", f"--target={target}", "--requirement", str(source / "requirements.txt"))
    for file in source.glob("*.py"):
        shutil.copy(file, target)
    # Byte code, as ours has: `sam build` would leave it out, and a cold start take half as long again.
    command = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", str(target)]
    subprocess.run(command, check=True)


def _make_express(target: Path) -> None:
    shutil.copytree(HERE / "peers" / EXPRESS, target)
    for step in (["ci", "--no-audit", "--no-fund"], ["run", "build"]):
        subprocess.run(["npm", "--silent", *step], cwd=target, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def _make_ours(target: Path) -> None:
    build(target, [], sys.executable)


def _pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def _ours() -> Peer:
    """As the built template says."""
    programs = {}
    for function in Template(MADE / OURS / "template.yaml").functions.values():
        layers = tuple(folder / "python" for folder in function.layers if (folder / "python").exists())
        role = function.variables.get("PGUSER")
        programs[function.title] = Program(
            function.title, function.handler, function.folder, layers, function.variables, role
        )
    folders = [path for path in (MADE / OURS).iterdir() if path.is_dir()]
    return Peer(OURS, programs, sum(map(size, folders)))


def _other(name: str) -> Peer:
    folder = MADE / name / "bundle" if name == EXPRESS else MADE / name
    handler = "handler" if name == EXPRESS else "lambda_handler"
    suffix = "cjs" if name == EXPRESS else "py"
    programs = {
        program: Program(program, f"{program}.{handler}", folder, role=PEER_ROLE)
        for program in ("app", "authorizer", "booking")
        if (folder / f"{program}.{suffix}").exists()
    }
    if name == FLOOR:
        layer = MADE / OURS / "CommonLayer" / "python"
        programs["packages"] = Program("packages", "packages.lambda_handler", folder, (layer,))
    return Peer(name, programs, size(folder))
