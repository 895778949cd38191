import threading
from pathlib import Path
from shutil import copytree

import psycopg
import pytest

from healthcare.database import migrate as module
from healthcare.database.migrate import DatabaseIsNewer, MigrationError, migrate
from healthcare.database.operations import grant_admin
from tests.conftest import Database
from tests.gateway import Client, Environment

FILES = Path(module.__file__).parent / "migrations"


@pytest.fixture
def empty(database: Database) -> str:
    """The login of a database's owner, before any migration."""
    with database.connect("healthcare_owner") as owner:
        owner.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return database.conninfo("healthcare_owner")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    return copytree(FILES, tmp_path / "migrations")


def test_migrations_run_from_empty_once_and_in_order(empty: str, files: Path) -> None:
    (files / "9001_second.sql").write_text("ALTER TABLE patients ADD COLUMN first text")
    (files / "9002_third.sql").write_text("ALTER TABLE patients RENAME COLUMN first TO second")
    names = sorted(path.stem for path in files.glob("*.sql"))
    assert migrate(empty, files=files) == names
    assert migrate(empty, files=files) == []


def test_a_new_migration_meets_a_database_with_rows(ann: Client, database: Database, files: Path) -> None:
    ann.create("/api/patients", name="Zoë")
    (files / "9001_next.sql").write_text("ALTER TABLE patients ADD COLUMN note text; UPDATE patients SET note = name")
    assert migrate(database.conninfo("healthcare_owner"), files=files) == ["9001_next"]
    assert database.value("SELECT note FROM patients") == "Zoë"
    assert len(ann.get("/api/patients").expect(200)["items"]) == 1


def test_a_migration_that_fails_leaves_no_trace(empty: str, files: Path, database: Database) -> None:
    (files / "9001_broken.sql").write_text("CREATE TABLE half (id int); SELECT nonsense")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        migrate(empty, files=files)
    assert database.value("SELECT to_regclass('half') IS NULL AND to_regclass('patients') IS NOT NULL")
    (files / "9001_broken.sql").write_text("CREATE TABLE half (id int)")
    assert migrate(empty, files=files) == ["9001_broken"]


def test_a_migration_may_ask_for_no_transaction(ann: Client, database: Database, files: Path) -> None:
    ann.create("/api/patients", name="Ada")
    owner = database.conninfo("healthcare_owner")
    statement = "CREATE INDEX CONCURRENTLY patients_next ON patients (created_at);\n"
    (files / "9001_next.sql").write_text(statement)
    with pytest.raises(psycopg.errors.ActiveSqlTransaction):
        migrate(owner, files=files)
    (files / "9001_next.sql").write_text(f"-- no transaction\n{statement}")
    assert migrate(owner, files=files) == ["9001_next"]
    assert database.value("SELECT indisvalid FROM pg_index WHERE indexrelid = 'patients_next'::regclass") is True
    assert migrate(owner, files=files) == []


def test_one_without_a_transaction_that_fails_runs_again(empty: str, files: Path, database: Database) -> None:
    migrate(empty, files=files)
    (files / "9001_next.sql").write_text("-- no transaction\nCREATE INDEX CONCURRENTLY next ON nothing (id)")
    with pytest.raises(psycopg.errors.UndefinedTable):
        migrate(empty, files=files)
    (files / "9001_next.sql").write_text("-- no transaction\nCREATE INDEX CONCURRENTLY next ON patients (created_at)")
    assert migrate(empty, files=files) == ["9001_next"]


def test_a_past_that_was_edited_removed_or_inserted_into_is_refused(empty: str, files: Path) -> None:
    (files / "9001_next.sql").write_text("SELECT 1")
    migrate(empty, files=files)
    (files / "9001_next.sql").write_text("SELECT 2")
    with pytest.raises(MigrationError, match="9001_next has been edited"):
        migrate(empty, files=files)
    (files / "9001_next.sql").unlink()
    with pytest.raises(DatabaseIsNewer, match="9001_next; these migrations are older"):
        migrate(empty, files=files)
    (files / "9002_other.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError, match="9001_next, which is not among"):
        migrate(empty, files=files)
    (files / "9002_other.sql").unlink()
    (files / "9001_next.sql").write_text("SELECT 1")
    (files / "8000_late.sql").write_text("SELECT 1")
    with pytest.raises(MigrationError, match="8000_late comes before 9001_next"):
        migrate(empty, files=files)


def test_two_that_start_at_once_run_one_after_the_other(empty: str, files: Path) -> None:
    (files / "9001_slow.sql").write_text("SELECT pg_sleep(0.3); CREATE TABLE slow (id int)")
    applied: list[list[str]] = []
    threads = [threading.Thread(target=lambda: applied.append(migrate(empty, files=files))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(len, applied)) == [0, 0, 0, len(list(files.glob("*.sql")))]


def test_the_function_of_a_deployment_migrates_and_promotes(
    environments: dict[str, Environment], ann: Client, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = environments["migrate"].app
    monkeypatch.setenv("PGUSER", "healthcare_owner")
    assert app.lambda_handler({}, None) == {"applied": []}
    assert app.lambda_handler({"grant_admin": ann.user["email"].upper()}, None) == {"granted": True}
    assert app.lambda_handler({"grant_admin": "nobody@example.org"}, None) == {"granted": False}
    assert database.value("SELECT role FROM users") == "admin"


def test_grant_admin_counts_from_the_next_login(ann: Client, database: Database) -> None:
    assert grant_admin(database.conninfo("healthcare_owner"), ann.user["email"])
    login = {"email": ann.user["email"], "password": ann.user["password"]}
    assert Client(ann.gateway).post("/api/auth/login", login).expect(200)["user"]["role"] == "admin"
