"""A warm environment that is measured: `python caller.py module.handler`, with batches of events on standard input.

Each batch is a line of JSON, each answer too: how long its events took, and how much of this process's CPU time.
"""

import importlib
import json
import os
import sys
import time
from collections import Counter
from types import SimpleNamespace


def main() -> None:
    # What a handler prints goes nowhere, and costs it what printing costs.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    module, _, name = sys.argv[1].rpartition(".")
    handler = getattr(importlib.import_module(module), name)
    context = SimpleNamespace(  # what a logger asks of it
        aws_request_id="00000000-0000-4000-8000-000000000000",
        function_name="benchmark",
        memory_limit_in_mb=512,
        invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:benchmark",
    )
    for line in sys.stdin:
        events = [json.loads(event) for event in json.loads(line)]
        statuses: Counter[str] = Counter()
        cpu, wall = time.process_time(), time.perf_counter()
        for event in events:
            answer = handler(event, context)
            statuses[str(answer.get("statusCode"))] += 1
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        report = {"wall": wall, "cpu": cpu, "statuses": statuses, "answer": answer}
        print(json.dumps(report), file=answers, flush=True)


main()
