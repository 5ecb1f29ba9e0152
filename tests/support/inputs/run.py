"""Runs a case: its commands one after another, in this process, by the command lines' own entry points."""

import io
import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from encoder.cli import main as encoder_main
from encoder.model.builtin import BUILTIN
from indexer.cli import main as indexer_main
from tests.support.inputs.case import Case
from tests.support.inputs.outcome import Outcome

MAINS = {"encoder": encoder_main, "indexer": indexer_main}
ENCODE = ("--model", str(BUILTIN), "--precision", "fp32", "--device", "cpu", "--workers", "1")
"""Real, and small: the model that comes with the program."""
COMMANDS = {
    "encode": ("encoder", ("--out", "codes", *ENCODE)),
    "build": ("indexer", ()),
    "query": ("indexer", ()),
    "relocate": ("indexer", ()),
}
"""The program of each command, and what is said before a case's own arguments."""


def run_case(case: Case, folder: Path) -> str:
    """Run a case in an empty folder and return what came out in words.

    Raises:
        AssertionError: it is not what was expected.
    """
    here = folder.resolve()
    outcomes: list[Outcome] = []
    with _inside(here):
        steps = case.steps(here)
        try:
            command = next(steps)
            while True:
                outcomes.append(_run(command, here))
                command = steps.send(outcomes[-1])
        except StopIteration:
            pass
    encoded = [outcome for outcome in outcomes if outcome.command.startswith("encode")]
    behind = outcomes[outcomes.index(encoded[-1]) + 1 :] if encoded else outcomes
    last = [*encoded[-1:], *behind[-1:]]
    return "; ".join(words for each in last if (words := each.words(again=each in encoded and len(encoded) > 1)))


def _run(command: str, here: Path) -> Outcome:
    name, *arguments = shlex.split(command)
    program, added = COMMANDS[name]
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace", write_through=True) for _ in range(2)]
    argv = [program, name, *added, *arguments]  # an option that is given twice counts as it was given last
    with patch.object(sys, "argv", argv), redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        try:
            MAINS[program]()
        except SystemExit as left:
            code = int(left.code or 0)
    out, err = (_at_home(stream.buffer.getvalue().decode(), here) for stream in streams)
    outcome = Outcome(command, code, out, err)
    if program == "encoder":
        outcome.read_codes(here / (arguments[arguments.index("--out") + 1] if "--out" in arguments else "codes"))
    elif (here / "index/CURRENT").exists():
        outcome.read_index(here / "index")
    return outcome


def _at_home(text: str, here: Path) -> str:
    """Return lines in which paths are relative to a folder."""
    return re.sub(rf"{re.escape(str(here))}(/?)", lambda found: "" if found[1] else ".", text)


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
