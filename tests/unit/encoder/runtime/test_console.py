import time

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
    assert lines((0, 100), (10, 200))[-1].startswith("training 20%, 80 s left")


def test_what_an_earlier_run_had_done_does_not_count_as_speed(lines):
    resumed = lines((30, 0), (10, 800), (10, 810))  # thirty seconds of reading before the first step
    assert [line.rstrip() for line in resumed] == ["training 0%", "training 80%", "training 81%, 190 s left"]


def test_lines_come_every_few_seconds(lines):
    assert len(lines(*[(1, 10 * step) for step in range(1, 21)])) == 4


def test_what_a_stranger_wrote_does_not_steer_the_terminal(capsys):
    console.result("a\x1b[2Jb\n   1  forged\u202e\tc \u3042")
    assert capsys.readouterr().out == "a\\x1b[2Jb\\n   1  forged\\u202e\tc \u3042\n"
