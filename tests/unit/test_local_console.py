import io
import json
from pathlib import Path

import pytest

from local.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(line: str, output: io.StringIO | None = None) -> str:
    output = output or io.StringIO()
    Console(output).function_line("patients", line)
    return output.getvalue()


def test_a_json_line_becomes_one_that_a_person_reads() -> None:
    line = json.dumps(
        {
            "level": "INFO",
            "location": "_handle:126",
            "message": "GET /api/patients",
            "timestamp": "2026-01-02T03:04:05.678+00:00",
            "service": "patients",
            "cold_start": False,
            "function_name": "PatientsFunction",
            "function_memory_size": "512",
            "function_arn": "arn:aws:lambda:us-east-1:123456789012:function:PatientsFunction",
            "function_request_id": "the-id-of-lambda",
            "status": 200,
            "patients": [1, 2],
            "request_id": "an-id",
            "xray_trace_id": "1-2-3",
        }
    )
    assert shown(line)[9:] == "patients   INFO    GET /api/patients status=200 patients=[1, 2] request_id=an-id\n"


def test_a_traceback_is_indented_below_its_message() -> None:
    line = json.dumps({"level": "ERROR", "message": "failed", "service": "auth", "exception": "Traceback:\n  boom"})
    assert shown(line)[9:] == "auth       ERROR   failed\n    Traceback:\n      boom\n"


def test_metrics_are_for_the_log_file_only(tmp_path: Path) -> None:
    output = io.StringIO()
    console = Console(output)
    console.keep_logs_in(tmp_path / "log")
    metric = json.dumps({"_aws": {"Timestamp": 1, "CloudWatchMetrics": []}, "service": "auth", "Logins": [1.0]})
    console.function_line("auth", metric)
    console.close()
    assert output.getvalue() == ""
    assert (tmp_path / "log" / "auth.log").read_text() == metric + "\n"


@pytest.mark.parametrize("escape", ["\x1b[31m", "\x9b31m", "\x07", "\x7f", "\r"])
def test_control_characters_do_not_reach_the_terminal(escape: str) -> None:
    output = Terminal()
    console = Console(output)
    console.say(f"a{escape}b")
    console.log("gateway", "INFO", f"a{escape}b")
    console.function_line("auth", json.dumps({"message": f"a{escape}b", "service": escape}))
    if escape != "\r":
        console.function_line("auth", f"a{escape}b")
    assert escape not in output.getvalue()
    assert f"a\\x{ord(escape[0]):02x}" in output.getvalue()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("plain text", "    plain text\n"),
        ("[ERROR] boom\rTraceback\r  File", "    [ERROR] boom\n    Traceback\n      File\n"),
        ("[1, 2]", "    [1, 2]\n"),
        ('{"message": {"a": 1}}', '{"a": 1}\n'),
    ],
)
def test_other_output_is_shown_too(line: str, expected: str) -> None:
    assert shown(line).endswith(expected)


@pytest.mark.parametrize(
    "line",
    [
        "START RequestId: 5fcbd2ea Version: $LATEST",
        "END RequestId: 5fcbd2ea",
        "REPORT RequestId: 5fcbd2ea\tDuration: 0.65 ms",
        "23 Nov 2026 01:37:13,642 [ERROR] (rapid) Invoke DONE failed: Runtime.ExitError",
        "",
    ],
)
def test_what_the_emulator_says_of_itself_is_left_out(line: str) -> None:
    assert shown(line) == ""


def test_colours_are_for_terminals_and_not_for_who_declines_them(monkeypatch: pytest.MonkeyPatch) -> None:
    line = json.dumps({"level": "ERROR", "message": "failed"})
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31m" in shown(line, Terminal())
    assert "\x1b" not in shown(line)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in shown(line, Terminal())


def test_log_files_have_the_lines_as_they_came(tmp_path: Path) -> None:
    console = Console(io.StringIO())
    console.keep_logs_in(tmp_path / "log")
    console.function_line("patients", '{"level": "INFO"}')
    console.function_line("patients", "END RequestId: 1")
    console.close()
    assert (tmp_path / "log" / "patients.log").read_text() == '{"level": "INFO"}\n'


def test_a_reader_that_has_gone_stops_nothing() -> None:
    output = io.StringIO()
    console = Console(output)
    output.close()
    console.say("still here")
