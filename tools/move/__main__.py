"""`make move`: takes users, patients, doctors and mappings out of the database of the original API into this one.

All rows are staged in a temporary table and judged there. Those that can be taken are inserted in batches, with their
ids and password hashes. The audit events of these inserts have `move` as their request id: by them a second run knows
what was taken, also when it has been changed or deleted here since.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import psycopg
from psycopg import Connection

from local.console import Console
from local.database.database import first_line
from local.settings import CannotStart, read
from tools.move import source, target
from tools.move.tables import TABLES
from tools.progress import progress


def main(environ: Mapping[str, str]) -> int:
    try:
        folder = read(environ).folder
        if not environ.get("FROM"):
            raise CannotStart("Which database? make move FROM=postgresql://user@host/database")
        with source.opened(environ["FROM"]) as original, target.opened(environ.get("TO", ""), folder, environ) as here:
            is_dry = environ.get("DRY", "0") not in ("", "0")
            _move(original, here, folder, environ.get("ZONE") or "UTC", is_dry)
    except CannotStart as error:
        print(error, file=sys.stderr)
    except psycopg.Error as error:
        print(f"The move has stopped: {first_line(error)}. Run it again, and it goes on.", file=sys.stderr)
    except KeyboardInterrupt:
        print("The move was stopped. Run it again, and it goes on.", file=sys.stderr)
    else:
        return 0
    return 1


def _move(original: Connection[Any], here: Connection[Any], folder: Path, zone: str, is_dry: bool) -> None:
    start, say = time.monotonic(), Console(sys.stdout).say
    layout, others = source.look(original)
    say(f"From {_place(original)} to {_place(here)}{', as a dry run' if is_dry else ''}")
    for name in others:
        say(f"  {name}: not taken, there is nothing like it here")
    with _report(folder) as file:
        target.prepare(here)
        for table in TABLES:
            found = layout[table.kind]
            total, extra = source.count(original, found)
            for column, number in extra.items():
                reason = "an age gives no date of birth" if column == "age" else "there is nothing like it here"
                say(f"  {found.name}.{column}: not taken ({number:,} rows have one), {reason}")
            with progress(f"Reading {found.name}", total) as advance:
                target.stage(here, table, found, source.rows(original, found, zone), advance)
        target.judge(here, layout)
        for table in TABLES:
            target.write_report(here, table, layout[table.kind].name, file)
    counts = {table: target.count(here, table) for table in TABLES}
    if not is_dry:
        target.keep_ids_free(here)
        for table, (total, *_) in counts.items():
            with progress(f"Taking {layout[table.kind].name}", total) as advance:
                target.take(here, table, total, advance)
    say(f"\n{f'After {time.monotonic() - start:.0f} s':<24}    in all     taken    before  not taken  without a value")
    for table, (total, taken, before, refused, lessened) in counts.items():
        say(f"{layout[table.kind].name:<24}{total:>10,}{taken:>10,}{before:>10,}{refused:>11,}{lessened:>17,}")
    say()
    if is_dry:
        say("Nothing was written: this was a dry run.")
    if any(refused or lessened for *_, refused, lessened in counts.values()):
        say(f"{file.name} says which rows and values are not taken, and why.")
    else:
        say(f"Every row {'can be' if is_dry else 'was'} taken, or had been before.")


@contextmanager
def _report(folder: Path) -> Iterator[BinaryIO]:
    path = folder / f"{datetime.now().astimezone():move-%Y-%m-%dT%H-%M-%S-%f}.csv"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        file = path.open("wb")
    except OSError as error:
        raise CannotStart(f"{path} can't be written: {error.strerror}. LOCAL_DIR names another folder.") from None
    with file:
        file.write(b"table,id,not_taken,reason\n")
        yield file


def _place(connection: Connection[Any]) -> str:
    return f"{connection.info.dbname} on {connection.info.host}"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a server that was started for this has to be stopped
    sys.exit(main(os.environ))
