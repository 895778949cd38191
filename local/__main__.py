"""`python -m local`: runs the whole API on this machine until Ctrl-C.

This process watches over the one that does the work, `local.run`, which has a session of its own. So Ctrl-C in a
terminal reaches this process alone. It asks the other one to stop by closing a pipe; its own death, even by SIGKILL,
closes the pipe as well. What the other one leaves behind is found by its session.
"""

from __future__ import annotations  # an old Python must get as far as the sentence about its age

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

STOP_SECONDS = 30


def main() -> int:
    if sys.version_info < (3, 11):  # noqa: UP036 - who starts it by hand may have an older one
        print(f"The local run needs Python 3.11 or newer, not {sys.version.split()[0]}.", file=sys.stderr)
        return 1

    from local.settings import CannotStart, read

    try:
        settings = read(os.environ)
        lock = take_lock(settings.folder)
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    return watch_over([sys.executable, "-m", "local.run"], lock)


def take_lock(folder: Path) -> int:
    """Held by this process and the one it starts, so that it is free only when both have ended."""
    from local.settings import CannotStart

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CannotStart(f"The folder {folder} can't be written: {error.strerror}. LOCAL_DIR names another.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise CannotStart(f"Another local run is using {folder}. Stop it, or name another with LOCAL_DIR.") from None
    return lock


def watch_over(command: list[str], lock: int) -> int:
    """0 when it was asked to stop, whether by SIGINT, SIGTERM or SIGHUP."""
    work: subprocess.Popen[bytes] | None = None
    asked = False

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if not asked:
            asked = True
            if work is not None and work.stdin is not None:
                work.stdin.close()
            signal.alarm(STOP_SECONDS)

    def give_up(_number: int, _frame: FrameType | None) -> None:
        if work is not None:
            work.kill()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ask_to_stop)
    signal.signal(signal.SIGALRM, give_up)
    work = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, pass_fds=[lock])
    if asked and work.stdin is not None:
        work.stdin.close()
    status = work.wait()
    end_session(work.pid)
    return 0 if asked and status == 0 else status if status > 0 else 1


def end_session(session: int) -> None:
    import psutil

    for pid in psutil.pids():
        try:
            if pid != os.getpid() and os.getsid(pid) == session:
                os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


if __name__ == "__main__":
    sys.exit(main())
