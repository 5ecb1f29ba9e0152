"""Standard streams that are closed, full or left by their reader: one line where it can be said, exit code 1, never a traceback."""

import os
import subprocess
import sys

import pytest

from tests.support.pictures import encoded

PYTHON = os.environ | {"PYTHONPATH": ":".join(sys.path)}
COMMANDS = {
    "encoder": "encoder inspect codes",
    "indexer": "indexer query key:pic-001 --index index",
    "help": "indexer query --help",
    "version": "encoder --version",
    "evaluate": "pipelines.evaluate --help",
}


@pytest.fixture
def shell(tmp_path, index_folder, codes_folder):
    """Run a line of a shell beside `codes`, `index` and `photo.jpg`: `$C` is a command; returns code, stdout, stderr."""
    (tmp_path / "index").symlink_to(index_folder)
    (tmp_path / "codes").symlink_to(codes_folder)
    (tmp_path / "photo.jpg").write_bytes(encoded(1))

    def run(line: str, command: str, unbuffered: str = "") -> tuple[int, str, str]:
        script = f'C() {{ "{sys.executable}" -m {command} "$@"; }}\nset -o pipefail\n{line}'
        ended = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=PYTHON | {"PYTHONUNBUFFERED": unbuffered},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return ended.returncode, ended.stdout, ended.stderr

    return run


FULL, CLOSED, LEFT = ">/dev/full", ">&-", "| true"
WAYS = {
    FULL: "took only part of the answer (No space left on device)",
    CLOSED: "is closed",
    ">&- <&-": "is closed",
    LEFT: "took only part of the answer (Broken pipe)",
    "1</dev/null": "took only part of the answer (Bad file descriptor)",
}
CASES = [
    *((name, where) for name in ("encoder", "indexer") for where in WAYS),
    *((name, where) for name in ("help", "version", "evaluate") for where in (FULL, LEFT)),
]


@pytest.mark.parametrize(("name", "where"), CASES)
def test_an_answer_that_is_not_taken_is_told(shell, name, where):
    code, _, err = shell(f"C {where}", COMMANDS[name], unbuffered="1" if name == "indexer" else "")
    [line] = err.splitlines()
    assert (code, line.startswith("error: standard output"), WAYS[where] in line) == (1, True, True)


@pytest.mark.parametrize("where", [">/dev/full 2>&1", ">&- 2>&-", ">&- 2>&- <&-", "2>&1 | true"])
def test_where_nobody_can_be_told_the_exit_code_says_it(shell, where):
    for name, unbuffered in (("encoder", ""), ("indexer", "1")):
        assert shell(f"C {where}", COMMANDS[name], unbuffered) == (1, "", "")


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full", "<&- 2>&-", "2> >(true)"])
def test_an_answer_does_not_need_standard_error(shell, where):
    for name in ("encoder", "indexer"):
        code, out, _ = shell(f"C {where}", COMMANDS[name])
        assert (code, out.count("\n") > 3) == (0, True)


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_an_error_that_cannot_be_told_keeps_its_exit_code(shell, where):
    assert shell(f"C {where}", "indexer info --index nowhere") == (1, "", "")
    assert shell(f"C {where}", "indexer frobnicate")[0] in {1, 2}


@pytest.mark.parametrize(("where", "why"), [("<&-", "it is closed"), ("</dev/null", "empty")])
def test_an_image_that_standard_input_does_not_bring_is_told(shell, where, why):
    code, _, err = shell(f"C {where}", "indexer query - --index index")
    [line] = err.splitlines()
    assert (code, line.startswith("error: "), why in line) == (1, True, True)


def test_standard_input_brings_an_image(shell):
    assert shell("C <photo.jpg", "indexer query - --index index")[0] == 0


def test_files_do_not_take_the_place_of_closed_streams(shell, tmp_path):
    code, out, err = shell("C 2>&- <&-", "indexer build codes --out built")
    assert (code, err) == (0, "")
    assert out.startswith("built built (gen-000001): 60 rows")
    assert shell("C", "indexer verify --index built")[0] == 0


def test_a_reader_that_leaves_between_two_lines(shell):
    code, out, err = shell("C | head -n 1", "indexer query key:pic-001 key:pic-002 -k 2000 --json --index index")
    assert (code in {0, 1}, len(out.splitlines()), "Traceback" in err) == (True, 1, False)
