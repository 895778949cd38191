"""`make shell`: psql at the database of the local run, as its owner."""

import os
import sys

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from local.database.database import BAD_URL, first_line, owner_conninfo
from local.database.postgres import installation
from local.settings import CannotStart, state_folder

HELP = r"""psql at {place}, as {user}, who sees the rows of all users.
Without that, as user 1 of the API:

    \c - healthcare_api
    SELECT act_as(1, 'user', 'shell') \; SELECT id, name FROM patients;

\dt lists the tables, \d patients describes one, \q leaves.
"""


def main() -> int:
    try:
        folder = state_folder(os.environ)
        conninfo = owner_conninfo(folder, os.environ)
        # libpq finds the passwords of all roles there.
        os.environ["PGPASSFILE"] = str(folder / "pgpass")
        os.environ.setdefault("PGCLIENTENCODING", "UTF8")
        with psycopg.connect(conninfo, connect_timeout=5) as connection:
            place = f"{connection.info.dbname} on {connection.info.host}:{connection.info.port}"
            print(HELP.format(place=place, user=connection.info.user), file=sys.stderr, flush=True)
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    except psycopg.ProgrammingError:  # whose text may hold the password
        print(BAD_URL, file=sys.stderr)
        return 1
    except psycopg.OperationalError as error:
        print(
            f"The database does not let us in. Is `make run` up, in another terminal? {first_line(error)}",
            file=sys.stderr,
        )
        return 1
    parameters = conninfo_to_dict(conninfo)
    password = parameters.pop("password", None)  # the arguments of a process are for all to see
    if password and not (folder / "pgpass").exists():
        os.environ["PGPASSWORD"] = str(password)
    conninfo = make_conninfo("", **parameters)
    psql = str(installation() / "bin" / "psql")
    return os.execv(psql, [psql, "--quiet", conninfo])  # noqa: S606 - in place of this process, terminal and all


if __name__ == "__main__":
    sys.exit(main())
