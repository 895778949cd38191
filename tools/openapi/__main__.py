"""Writes what is generated from the functions and the template: `make openapi`."""

from local.settings import PROJECT
from tools.openapi import collection, document, events

wanted = document.files() | events.files() | collection.files()
for path in set(events.EVENTS.glob("*/*.json")) - wanted.keys():
    path.unlink()
for path, text in wanted.items():
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
print(f"Wrote {len(wanted)} files, {len(events.files())} of them below {events.EVENTS.relative_to(PROJECT)}/.")
