"""`make clean`: removes the state of the local run. Runs with any Python, without the virtual environment."""

import os
import shutil
import sys

from local.__main__ import take_lock
from local.settings import CannotStart, state_folder


def main() -> int:
    try:
        folder = state_folder(os.environ)
        if not folder.exists():
            return 0
        if not (folder / "lock").exists():
            raise CannotStart(f"{folder} is no folder of a local run: nothing was removed.")
        take_lock(folder)
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    elsewhere = folder / "postgres" / "elsewhere"
    if elsewhere.is_symlink():
        shutil.rmtree(elsewhere.readlink(), ignore_errors=True)
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
