"""`make shell`: psql at the database of a running API."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg

from local.database.postgres import EmbeddedPostgres
from tests.e2e.conftest import Person
from tests.e2e.local_run import PROJECT, LocalRun, inherited


def shell(folder: Path, commands: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.shell"],
        cwd=PROJECT,
        env=inherited() | {"LOCAL_DIR": str(folder)} | environ,
        input=commands,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_owner_sees_everybody_and_the_role_of_the_functions_one_user(
    local_run: LocalRun, sign_up: Callable[[], Person]
) -> None:
    ann, bob = sign_up(), sign_up()
    for person in (ann, bob):
        assert person.client.post("/api/patients", json={"name": f"Patient of {person.id}"}).status_code == 201
    greeting = shell(local_run.folder, "").stderr
    assert "as healthcare_owner" in greeting
    as_user = "".join(line for line in greeting.splitlines(keepends=True) if line.startswith("    "))
    as_ann = as_user.replace("act_as(1,", f"act_as({ann.id},")
    commands = f"\\pset format unaligned\n\\pset tuples_only\nSELECT name FROM patients;\n\\echo --\n{as_ann}"
    answer = shell(local_run.folder, commands)
    assert answer.returncode == 0
    everybody, _, anns = answer.stdout.partition("--")
    assert f"Patient of {ann.id}" in everybody
    assert f"Patient of {bob.id}" in everybody
    assert f"Patient of {ann.id}" in anns
    assert f"Patient of {bob.id}" not in anns
    assert answer.stderr == greeting


def test_it_opens_the_database_that_the_environment_names(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "other", {"fsync": "off"}) as other:
        with psycopg.connect(other.conninfo(), autocommit=True) as connection:
            connection.execute("CREATE ROLE mine LOGIN PASSWORD 'secret'")
        url = f"postgresql://mine:secret@127.0.0.1:{other.port}/postgres"
        commands = "\\pset tuples_only\nSELECT current_user;\n\\! tr '\\0' ' ' < /proc/$PPID/cmdline\n"
        answer = shell(tmp_path, commands, DATABASE_URL=url)
    assert answer.stdout.split()[0] == "mine"
    assert "psql" in answer.stdout, "its arguments, which everybody on the machine may read"
    assert "secret" not in answer.stdout + answer.stderr


def test_an_address_that_is_none_is_refused_without_being_repeated(tmp_path: Path) -> None:
    answer = shell(tmp_path, "", DATABASE_URL="postgresql://mine:100%secret@127.0.0.1/postgres")
    assert answer.returncode == 1
    assert answer.stderr == "DATABASE_URL should look like postgresql://user:password@host:5432/database.\n"


def test_without_a_run_it_says_how_to_start_one(tmp_path: Path) -> None:
    answer = shell(tmp_path, "")
    sentence = f"There is no database in {tmp_path} yet: start `make run`, in another terminal.\n"
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, "", sentence)
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "port").write_text("1")
    answer = shell(tmp_path, "")
    assert answer.returncode == 1
    assert answer.stderr.startswith("The database does not let us in. Is `make run` up, in another terminal? ")
    assert answer.stderr.count("\n") == 1
