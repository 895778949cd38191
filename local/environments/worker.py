"""A stand-in for the Lambda runtime where AWS's own does not run: requests on standard input, answers on output."""

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any


class LambdaContext:
    """What AWS passes to a handler beside the event."""

    def __init__(self, request_id: str, deadline: float) -> None:
        self.aws_request_id = request_id
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        region, account = os.environ["AWS_REGION"], os.environ["AWS_ACCOUNT_ID"]
        self.invoked_function_arn = f"arn:aws:lambda:{region}:{account}:function:{self.function_name}"
        self.identity = None
        self.client_context = None
        self._deadline = deadline

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._deadline - time.time()) * 1000))


def answer(handler: Callable[[Any, LambdaContext], object], line: str) -> str:
    request = json.loads(line)
    try:
        context = LambdaContext(request["request_id"], request["deadline"])
        return json.dumps(handler(request["event"], context))
    except Exception as error:
        traceback.print_exc()
        return json.dumps({"errorMessage": str(error), "errorType": type(error).__name__})


def main() -> None:
    # What a handler prints must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, _, function = sys.argv[1].rpartition(".")
    handler = getattr(importlib.import_module(module), function)
    for line in sys.stdin:
        print(answer(handler, line), file=answers, flush=True)


if __name__ == "__main__":
    main()
