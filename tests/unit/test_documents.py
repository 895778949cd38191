"""What the documents promise exists."""

import re
from pathlib import Path

from tests.gateway import routes

TESTS = "\n".join(path.read_text() for path in Path("tests").rglob("*.py"))
DOCUMENTS = [Path("README.md"), *Path("docs").glob("*.md")]


def test_every_test_that_a_document_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", "\n".join(path.read_text() for path in DOCUMENTS)))
    assert len(named) > 30
    assert [name for name in sorted(named) if f"def {name}(" not in TESTS] == []


def test_every_file_that_a_document_names_exists() -> None:
    for document in DOCUMENTS:
        # What a page tells to make comes to exist by following it.
        to_make = set(re.findall(r"^Make `([^`]+)`:$", document.read_text(), re.MULTILINE))
        named = re.findall(r"`((?:functions|layers|local|tests|docs|events)/[\w./-]+)`", document.read_text())
        assert [name for name in named if name not in to_make and not Path(name).exists()] == [], document
        for name in re.findall(r"`(test_\w+\.py)`", document.read_text()):
            assert list(Path("tests").rglob(name)), (document, name)


def test_the_collection_of_requests_has_every_route_once() -> None:
    requests = re.findall(r"^([A-Z]+) {{host}}([^?\s]+)", Path("docs/requests.http").read_text(), re.MULTILINE)
    sent = [(method, re.sub(r"{{\w+}}", "{id}", path).replace("/validation", "/{slug}")) for method, path in requests]
    expected = [
        (method, re.sub(r"{\w+_id}", "{id}", path)) for method, path, _, _ in routes() if path != "/docs/{file}"
    ]
    assert sorted(sent) == sorted(expected)
