import io
import os
import re
import select
import subprocess
import sys
import time
from typing import Any, cast

import pytest

from encoder.runtime import console


@pytest.fixture
def lines(monkeypatch, capsys):
    """Moves a progress display at given times; returns the lines it wrote."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def move(*steps):
        nonlocal now
        with console.progress("training") as advance:
            for seconds, done in steps:
                now += seconds
                advance(done, 1000, "")
        return capsys.readouterr().err.splitlines()

    return move


def test_the_time_left_follows_from_what_this_run_has_done(lines):
    assert lines((0, 100), (10, 200))[0].startswith("training 20%, 80 s left")


def test_what_an_earlier_run_had_done_does_not_count_as_speed(lines):
    resumed = lines((30, 0), (10, 800), (10, 810))  # thirty seconds of reading before the first step
    assert [line.rstrip() for line in resumed[:-1]] == ["training 0%", "training 80%", "training 81%, 190 s left"]


def test_the_time_left_is_what_the_job_knows_where_it_knows(monkeypatch, capsys, terminal):
    monkeypatch.setattr(console, "PLAIN_SECONDS", 0)
    with console.progress("training") as advance:
        advance(1, 10, "three", 754)
    assert capsys.readouterr().err.splitlines()[0] == "training 10%, 754 s left  three"
    stderr = terminal()
    with console.progress("training") as advance:
        advance(1, 10, "three", 754)
        time.sleep(0.3)
    assert "0:12:34 three" in stderr.shown()


def test_lines_come_every_few_seconds(lines):
    assert len(lines(*[(1, 10 * step) for step in range(1, 21)])) == 4 + 1  # the last one says 100 %


def test_what_a_stranger_wrote_does_not_steer_the_terminal(capsys):
    console.result("a\x1b[2Jb\n   1  forged\u202e\tc \u3042")
    assert capsys.readouterr().out == "a\\x1b[2Jb\\n   1  forged\\u202e\tc \u3042\n"


def test_plain_lines_end_at_100_percent_where_any_was_shown(lines):
    assert lines((6, 300), (1, 999))[-1].rstrip() == "training 100%"
    assert [line.rstrip() for line in lines((6, 300), (6, 1000))] == ["training 30%", "training 100%"]
    assert lines((1, 300), (1, 1000)) == []


def fail_half_way():
    with console.progress("training") as advance:
        advance(1, 2, "")
        raise ZeroDivisionError


def test_lines_of_work_that_fails_do_not_say_100_percent(monkeypatch, capsys):
    monkeypatch.setattr(console, "PLAIN_SECONDS", 0)
    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert capsys.readouterr().err.rstrip() == "training 50%"


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def shown(self):
        """What was written, without the sequences that colour it and move the cursor."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.getvalue())


@pytest.fixture
def terminal(monkeypatch):
    """Makes stderr a terminal when it is called: before that pytest puts its own there."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")

    def take():
        monkeypatch.setattr("sys.stderr", stderr := Terminal())
        return stderr

    return take


def test_a_bar_stays_and_ends_at_100_percent(terminal):
    stderr = terminal()
    with console.progress("training") as advance:
        advance(30, 100, "three")
    assert re.search(r"training ━+ 100% 0:00:0\d three\s*$", stderr.shown())


def test_the_bar_of_work_that_fails_stays_where_it_was(terminal):
    stderr = terminal()
    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert "50%" in stderr.shown()
    assert "100%" not in stderr.shown()


def test_work_that_reports_nothing_leaves_no_bar(terminal):
    stderr = terminal()
    with console.progress("encoding"):
        pass
    assert stderr.getvalue().endswith("\r\x1b[2K\x1b[?25h")  # the line is cleared, the cursor shown


def test_a_pipe_gets_each_line_when_it_is_written():
    code = (
        "import sys, typer\nfrom encoder.runtime import console\napp = typer.Typer()\n"
        "@app.command()\ndef main():\n    console.result('first')\n    sys.stdin.read()\n"
        "console.run(app, 'x')"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 30)[0]  # while the command still runs
        assert process.stdout.readline() == b"first\n"
        process.communicate()


def test_a_stranger_s_name_beside_a_bar_is_neither_markup_nor_a_control(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    with console.progress("verifying") as advance:
        advance(1, 2, "[red]a[/b]\x1b[2J")
    assert r"[red]a[/b]\x1b[2J" in capsys.readouterr().err


def test_a_command_that_gets_no_memory_says_so_in_one_line(capfd):
    def greedy(**_: object) -> Any:
        return bytearray(1 << 62)

    with pytest.raises(SystemExit) as left:
        console.run(cast(Any, greedy), "indexer")
    assert left.value.code == 1
    assert (
        capfd.readouterr().err
        == "error: the command was ended (the memory is used up); end other work, or raise the system's limit\n"
    )
