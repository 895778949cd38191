import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from local.environments.emulator import EmulatedEnvironment
from local.environments.function import Environment, Function, InvocationFailed
from local.environments.pool import LARGEST_EVENT, MOST_ENVIRONMENTS, EventTooLarge, Pool
from local.environments.process import ProcessEnvironment

CODE = """
import os, time
from shared import WORD
print("imported")
def lambda_handler(event, context):
    time.sleep(event.get("sleep", 0))
    if event.get("exit"):
        os._exit(1)
    if "raise" in event:
        raise ValueError(event["raise"])
    print("called with", event)
    return {"word": WORD, "pid": os.getpid(), "request_id": context.aws_request_id, "setting": os.environ["SETTING"]}
"""
VARIABLES = {
    "AWS_LAMBDA_FUNCTION_NAME": "EchoFunction",
    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
    "AWS_LAMBDA_FUNCTION_TIMEOUT": "1",
    "AWS_LAMBDA_LOG_GROUP_NAME": "group",
    "AWS_LAMBDA_LOG_STREAM_NAME": "stream",
    "AWS_REGION": "us-east-1",
    "AWS_ACCOUNT_ID": "123456789012",
    "SETTING": "set",
}

Start = Callable[[Function, Callable[[str, str], None]], Environment]


@pytest.fixture(params=[EmulatedEnvironment, ProcessEnvironment])
def kind(request: pytest.FixtureRequest) -> Start:
    if request.param is EmulatedEnvironment and sys.platform != "linux":
        pytest.skip("the emulator is a program for Linux")
    start: Start = request.param
    return start


@pytest.fixture
def function(tmp_path: Path) -> Function:
    (tmp_path / "function").mkdir()
    (tmp_path / "layer").mkdir()
    (tmp_path / "function" / "app.py").write_text(CODE)
    (tmp_path / "layer" / "shared.py").write_text("WORD = 'first'\n")
    return Function(
        name="EchoFunction",
        handler="app.lambda_handler",
        folder=tmp_path / "function",
        layers=(tmp_path / "layer",),
        timeout=1,
        variables=VARIABLES,
    )


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def pool(kind: Start, function: Function, lines: list[str]) -> Iterator[Pool]:
    pool = Pool(function, lambda function: kind(function, lambda _, line: lines.append(line)))
    yield pool
    pool.stop()
    for thread in threading.enumerate():
        if thread.name == "logs of echo":
            thread.join(5)


def call(pool: Pool, **event: object) -> dict[str, object]:
    answer: dict[str, object] = json.loads(pool.invoke(json.dumps(event).encode()))
    return answer


def test_a_warm_environment_answers_again(pool: Pool, lines: list[str]) -> None:
    first, second = call(pool), call(pool)
    assert first["pid"] == second["pid"]
    assert first["request_id"] != second["request_id"]
    assert (first["word"], first["setting"]) == ("first", "set")
    deadline = time.monotonic() + 5
    while len([line for line in lines if line == "called with {}"]) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert lines.count("imported") == 1


def test_overlapping_requests_get_environments_of_their_own(pool: Pool) -> None:
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda _: call(pool, sleep=0.5), range(2)))
    assert len({answer["pid"] for answer in answers}) == 2


def test_new_code_is_for_the_next_request(pool: Pool, function: Function) -> None:
    assert call(pool)["word"] == "first"
    with ThreadPoolExecutor(1) as threads:
        busy = threads.submit(call, pool, sleep=0.5)
        time.sleep(0.2)
        (function.layers[0] / "shared.py").write_text("WORD = 'the second'\n")
        pool.replace()
        assert call(pool)["word"] == "the second"
        assert busy.result()["word"] == "first"
    assert call(pool)["word"] == "the second"


def test_after_the_time_limit_the_environment_is_gone(pool: Pool) -> None:
    before = call(pool)["pid"]
    with pytest.raises(InvocationFailed, match="timed out after 1"):
        pool.invoke(b'{"sleep": 30}')
    assert not psutil.pid_exists(int(str(before))) or psutil.Process(int(str(before))).status() == "zombie"
    assert call(pool)["pid"] != before


def test_a_process_that_ends_fails_one_request_only(pool: Pool) -> None:
    with pytest.raises(InvocationFailed):
        pool.invoke(b'{"exit": true}')
    assert call(pool)["word"] == "first"


def test_what_a_function_raises_fails_one_request_and_leaves_it_warm(pool: Pool) -> None:
    before = call(pool)["pid"]
    with pytest.raises(InvocationFailed, match="not today"):
        call(pool, **{"raise": "not today"})
    assert call(pool)["pid"] == before


def test_a_process_that_ended_while_idle_costs_nobody_an_answer(pool: Pool) -> None:
    before = psutil.Process(int(str(call(pool)["pid"])))
    before.kill()
    psutil.wait_procs([before], timeout=5)
    assert call(pool)["pid"] != before.pid


def test_an_event_may_not_be_larger_than_lambda_takes(pool: Pool) -> None:
    with pytest.raises(EventTooLarge):
        pool.invoke(b'"' + b"x" * LARGEST_EVENT + b'"')


def test_further_requests_wait_for_their_turn(function: Function) -> None:
    pool = Pool(function, lambda function: ProcessEnvironment(function, lambda *_: None))
    with ThreadPoolExecutor(40) as threads:
        answers = list(threads.map(lambda _: call(pool, sleep=0.1), range(40)))
    pool.stop()
    assert 1 < len({answer["pid"] for answer in answers}) <= MOST_ENVIRONMENTS


def test_a_stopped_pool_ends_what_runs_and_refuses_who_waits(pool: Pool, function: Function) -> None:
    with ThreadPoolExecutor(3) as threads:
        answers = [threads.submit(pool.invoke, b'{"sleep": 0.9}') for _ in range(3)]
        time.sleep(0.5)
        pool.stop()
        assert [type(answer.exception(5)) for answer in answers] == [InvocationFailed] * 3
    with pytest.raises(InvocationFailed):
        pool.invoke(b"{}")
