"""`python -m tools.invoke EVENT`: calls one function with one event in this process, where a debugger can stop.

Beside `make run`, whose database it uses. The folder of the event names the function, as in events/.
"""

import json
import os
import sys
import time
import uuid
from importlib import import_module
from pathlib import Path

from local.aws.moto import endpoint_of
from local.database.database import running_database
from local.environments.function import Function
from local.environments.worker import LambdaContext
from local.run import variables_of
from local.settings import TEMPLATE, CannotStart, isolate, state_folder


def main() -> int:
    try:
        if len(sys.argv) != 2:
            raise CannotStart("Name an event: `python -m tools.invoke events/patients/list.json`.")
        answer = _answer(state_folder(os.environ), Path(sys.argv[1]))
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(answer, indent=2, ensure_ascii=False))
    return 0


def _answer(folder: Path, file: Path) -> object:
    try:
        event = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CannotStart(f"{file} is no event: {error}") from None
    given = dict(os.environ)
    isolate(os.environ)
    function = _function(file.resolve().parent.name)
    database = running_database(folder, given)
    os.environ.update(variables_of(function, database, endpoint_of(folder)))
    sys.path[:0] = [str(function.folder), *map(str, function.layers)]
    module, _, name = function.handler.rpartition(".")
    handler = getattr(import_module(module), name)
    # A day, since whoever debugs thinks.
    return handler(event, LambdaContext(str(uuid.uuid4()), time.time() + 86400))


def _function(folder: str) -> Function:
    from local.gateway.template import Template

    for function in Template(TEMPLATE).functions.values():
        if function.folder.name == folder:
            return function
    raise CannotStart(f"There is no function {folder}: an event lies in a folder of its function's name.")


if __name__ == "__main__":
    sys.exit(main())
