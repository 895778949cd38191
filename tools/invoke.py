"""Calls one function with one event in this process, where a debugger can stop: `python -m tools.invoke EVENT`.

Beside `make run`, whose database it uses. The folder of the event names the function, as in events/.
"""

import json
import os
import sys
import time
import uuid
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path

from local.console import Console
from local.database.database import forget_given, running_database
from local.environments.pool import Function, Pool, ProcessEnvironment
from local.environments.worker import LambdaContext
from local.run import TEMPLATE, first_line, secrets_manager_of, variables_of
from local.settings import DUMMY_ACCOUNT, CannotStart, Settings, read


def main() -> int:
    try:
        if len(sys.argv) != 2:
            raise CannotStart("Name an event: `python -m tools.invoke events/patients/list.json`.")
        settings = read({**os.environ, "PORT": "1"})
        with ExitStack() as stack:
            answer = _answer(settings, Path(sys.argv[1]), stack)
    except CannotStart as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(answer, indent=2, ensure_ascii=False))
    return 0


def _answer(settings: Settings, file: Path, stack: ExitStack) -> object:
    try:
        event = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise CannotStart(f"{file} is no event: {error}") from None
    function = _function(file.resolve().parent.name, settings.port)
    database = running_database(settings.folder, os.environ)
    needs_keys = "TOKEN_KEYS_SECRET_ID" in function.variables
    endpoint = first_line(stack.enter_context(secrets_manager_of(settings.folder))) if needs_keys else ""
    forget_given(os.environ)
    os.environ.update(variables_of(function, database, endpoint))
    sys.path[:0] = [str(function.folder), *map(str, function.layers)]
    module, _, name = function.handler.rpartition(".")
    handler = getattr(import_module(module), name)
    # A day, since whoever debugs thinks.
    return handler(event, LambdaContext(str(uuid.uuid4()), time.time() + 86400))


def _function(folder: str, port: int) -> Function:
    os.environ.pop("AWS_PROFILE", None)
    os.environ.update(DUMMY_ACCOUNT, SAM_CLI_TELEMETRY="0")
    from local.gateway.api_gateway import serve_template

    make_pool = partial(Pool, start=lambda function: ProcessEnvironment(function, lambda *_: None))
    _, pools = serve_template(TEMPLATE, make_pool, Console(), port)
    for pool in pools.values():
        if pool.function.folder.name == folder:
            return pool.function
    raise CannotStart(f"There is no function {folder}: an event lies in a folder of its function's name.")


if __name__ == "__main__":
    sys.exit(main())
