"""`make move`: takes users, patients, doctors and mappings out of the database of the original API into this one.

All rows are staged in a temporary table and judged there. Those that can be taken are inserted in batches, with their
ids and password hashes. The audit events of these inserts have `move` as their request id: by them a second run knows
what was taken, also when it has been changed or deleted here since.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import psycopg
from psycopg import Connection

from local.console import Console
from local.settings import CannotStart, read
from tools.move import source, staging
from tools.move.databases import first_line, source_database, target_database
from tools.move.tables import TABLES
from tools.progress import progress


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    options = _options(arguments, environ)
    try:
        folder = read(environ).folder
        if not options.source:
            raise CannotStart("Which database? make move FROM=postgresql://user@host/database")
        with source_database(options.source) as original, target_database(options.to, folder, environ) as target:
            _move(original, target, folder, options)
    except CannotStart as error:
        print(error, file=sys.stderr)
    except psycopg.Error as error:
        print(f"The move has stopped: {first_line(error)}. Run it again, and it goes on.", file=sys.stderr)
    except KeyboardInterrupt:
        print("The move was stopped. Run it again, and it goes on.", file=sys.stderr)
    else:
        return 0
    return 1


def _options(arguments: Sequence[str], environ: Mapping[str, str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m tools.move", description="Takes the database of the original API into this one; docs/moving.md."
    )
    parser.add_argument("--from", dest="source", default=environ.get("FROM"), help="the original's database (FROM)")
    parser.add_argument("--to", default=environ.get("TO"), help="this API's, as its owner (TO; the local run's)")
    parser.add_argument("--zone", default=environ.get("ZONE") or "UTC", help="of times without one (ZONE; UTC)")
    is_dry = environ.get("DRY", "0") not in ("", "0")
    parser.add_argument("--dry-run", action="store_true", default=is_dry, help="only say what would be (DRY=1)")
    return parser.parse_args(arguments)


def _move(original: Connection[Any], target: Connection[Any], folder: Path, options: argparse.Namespace) -> None:
    start, say = time.monotonic(), Console(sys.stdout).say
    layout, others = source.look(original)
    say(f"From {_place(original)} to {_place(target)}{', as a dry run' if options.dry_run else ''}")
    for name in others:
        say(f"  {name}: not taken, there is nothing like it here")
    staging.prepare(target)
    with _report_file(folder) as (path, file):
        for table in TABLES:
            found = layout[table.kind]
            total, extra = source.count(original, found)
            for column, count in extra.items():
                reason = "an age gives no date of birth" if column == "age" else "there is nothing like it here"
                say(f"  {found.name}.{column}: not taken ({count:,} rows have one), {reason}")
            with progress(f"Reading {found.name}", total) as advance:
                staging.stage(target, table, found, source.rows(original, found, options.zone), advance)
        staging.judge(target, layout)
        for table in TABLES:
            staging.write_report(target, table, layout[table.kind].name, file)
    counts = {layout[table.kind].name: staging.counts(target, table) for table in TABLES}
    if not options.dry_run:
        staging.keep_ids_free(target)
        for table in TABLES:
            name = layout[table.kind].name
            with progress(f"Taking {name}", counts[name].rows) as advance:
                staging.take(target, table, counts[name].rows, advance)
    say()
    say(f"{f'After {time.monotonic() - start:.0f} s':<24}    in all     taken    before  not taken  without a value")
    for name, each in counts.items():
        say(f"{name:<24}{each.rows:>10,}{each.taken:>10,}{each.before:>10,}{each.refused:>11,}{each.lessened:>17,}")
    say()
    if options.dry_run:
        say("Nothing was written: this was a dry run.")
    if any(each.refused or each.lessened for each in counts.values()):
        say(f"{path} says which rows and values are not taken, and why.")
    else:
        say(f"Every row {'can be' if options.dry_run else 'was'} taken, or had been before.")


@contextmanager
def _report_file(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    path = folder / f"{datetime.now().astimezone():move-%Y-%m-%dT%H-%M-%S-%f}.csv"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=False)
        file = path.open("wb")
    except OSError as error:
        raise CannotStart(f"{path} can't be written: {error.strerror}. LOCAL_DIR names another folder.") from None
    with file:
        file.write(b"table,id,not_taken,reason\n")
        yield path, file


def _place(connection: Connection[Any]) -> str:
    return f"{connection.info.dbname} on {connection.info.host}"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a server that was started for this has to be stopped
    sys.exit(main(sys.argv[1:], os.environ))
