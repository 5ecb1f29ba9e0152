"""What both command lines share: one place where errors become a line and an exit code, and progress is shown."""

import io
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn, Protocol, TextIO, cast

from encoder.errors import NO_MORE, HashgrainError, Reason, no_more

if TYPE_CHECKING:
    import typer

EXIT_ERROR = 1
EXIT_SIGNAL = 128
"""Plus the number of the signal, as shells count."""
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters but the tab, other ends of lines, and those that turn the direction of writing."""
PLAIN_SECONDS = 5.0
"""Between two progress lines where there is no terminal."""


def run(app: "typer.Typer", name: str, remedies: Mapping[str, Mapping[Reason, str]] = MappingProxyType({})) -> NoReturn:
    """Run a command line and leave the process with its exit code: 0 fine, 1 an error, 2 wrong usage.

    Args:
        app: the command line.
        name: how it is called.
        remedies: options and commands that mend an error, by command and reason; they are shown behind its message.
    """
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    _open_streams()
    if sys.stdout is None:
        notice("error: standard output is closed, so nothing can be answered; open it, or send it to /dev/null")
        sys.exit(EXIT_ERROR)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # a file name need not be text, nor the terminal's letters UTF-8; a pipe gets each line when it is written
        sys.stdout.reconfigure(errors="backslashreplace", line_buffering=True)
    output, errors = _Output(sys.stdout), _Output(sys.stderr)
    code: str | int | None = EXIT_ERROR
    try:
        with redirect_stdout(cast(TextIO, output)), redirect_stderr(cast(TextIO, errors)):
            app(prog_name=name)
            code = 0
    except SystemExit as left:
        code = left.code
    except HashgrainError as err:
        remedy = remedies.get(next(iter(sys.argv[1:]), ""), {}).get(err.reason)
        notice(f"error: {err}" + (f" ({remedy})" if remedy else ""))
    except MemoryError as err:
        notice(f"error: {no_more('the command was ended', err)}")
    except OSError as err:
        if err.errno in NO_MORE:
            notice(f"error: {no_more('the command was ended', err)}")
        elif not output.loss and not errors.loss:
            raise
    if loss := output.end():
        notice(f"error: standard output took only part of the answer ({loss}); send it where all of it is taken")
        code = code or EXIT_ERROR
    errors.end()
    sys.exit(code)


class _Output:
    """A stream that remembers why it took no more, whoever writes to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.loss: str | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._remembered():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._remembered():
            self._stream.flush()

    def end(self) -> str | None:
        """Write out what is held back, and return why something was lost; the interpreter will not try again then."""
        with suppress(OSError):
            self.flush()
        if self.loss:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        return self.loss

    @contextmanager
    def _remembered(self) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            self.loss = err.strerror or str(err)
            raise


def _open_streams() -> None:
    """Put nothing in the place of streams that were closed, so that no file is opened there and gets what is written to them."""
    for stream in range(3):
        try:
            os.fstat(stream)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115  as long as the process lives


def _stop(number: int, _: object) -> NoReturn:
    """Unwind on Ctrl-C or SIGTERM; at the second signal, leave at once."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    notice("stopped: what is finished stays; run the same command again to go on")
    sys.exit(EXIT_SIGNAL + number)


def notice(line: str) -> None:
    """Write a line for a person to stderr; results go to stdout."""
    with suppress(OSError):  # nobody can be told
        sys.stderr.write(printable(line) + "\n")


def notice_damage(shards: Mapping[str, str]) -> None:
    """Write a line for each shard that was not whole, with the reason why."""
    for path, why in shards.items():
        notice(f"error: shard {path} is damaged: {why}; what was readable is used")


def notice_unread(folders: Mapping[str, str]) -> None:
    """Write a line for each folder that could not be read, with the reason why."""
    for path, why in folders.items():
        notice(f"error: folder {path} could not be read: {why}; its images are missing")


def result(line: str) -> None:
    """Write a line of a command's answer to stdout."""
    sys.stdout.write(printable(line) + "\n")


def standard_input() -> bytes:
    """Read all of standard input.

    Raises:
        HashgrainError: `shard-missing` when it is closed or cannot be read.
    """
    try:
        return sys.stdin.buffer.read()
    except (OSError, AttributeError) as err:  # AttributeError: Python has no stdin where it is closed
        reason = getattr(err, "strerror", None) or "it is closed"
        raise HashgrainError(
            Reason.SHARD_MISSING, f"standard input could not be read ({reason}); send the bytes of an image there"
        ) from err


def printable(text: str) -> str:
    """Return text with what moves a terminal's cursor or turns its writing as escapes: keys and labels may be a stranger's."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def show_version(show: bool) -> None:
    """Print the version and leave."""
    if show:
        from importlib.metadata import version

        result(f"hashgrain {version('hashgrain')}")
        sys.exit(0)


class Advance(Protocol):
    """Moves a progress display."""

    def __call__(self, done: float, total: float, detail: str, left: float | None = None) -> None:
        """Show `done` of `total`, a few words, and the seconds left: as given, or as the pace so far has it."""


@contextmanager
def progress(title: str) -> Iterator[Advance]:
    """Show progress on stderr: a bar with the time left on a terminal, a plain line now and then elsewhere.

    Work that is left without an error ends at 100 %, whatever was reported last: a training may stop before its last epoch.
    """
    with _bar(title) if sys.stderr.isatty() else _lines(title) as advance:
        yield advance


@contextmanager
def _bar(title: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, Task, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class TimeLeft(TimeRemainingColumn):
        def render(self, task: Task) -> Text:
            left: float | None = task.fields["left"]
            if left is None or task.finished:
                return super().render(task)
            return Text(str(timedelta(seconds=round(left))), style="progress.remaining")

    columns = (
        TextColumn(title),
        BarColumn(),
        TaskProgressColumn(),
        TimeLeft(elapsed_when_finished=True),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, detail="", left=None)

        def advance(done: float, total: float, detail: str, left: float | None = None) -> None:
            bar.update(task, completed=done, total=total, detail=printable(detail), left=left)

        yield advance
        if (total := bar.tasks[0].total) is None:
            bar.remove_task(task)  # there was nothing to do
        else:
            bar.update(task, completed=total)


@contextmanager
def _lines(title: str) -> Iterator[Advance]:
    shown = time.monotonic()
    first: tuple[float, float] | None = None  # when, and what an earlier run had done by then
    any_shown, last = False, ""  # lines, and what the one at the end will say

    def advance(done: float, total: float, detail: str, left: float | None = None) -> None:
        nonlocal shown, first, any_shown, last
        now, last = time.monotonic(), detail
        if done and not first:
            first = now, done
        if now - shown < PLAIN_SECONDS or done >= total:
            return
        shown, any_shown = now, True
        if left is None and first and first[1] < done < total:
            left = (now - first[0]) * (total - done) / (done - first[1])
        notice(f"{title} {done / total:.0%}{'' if left is None else f', {left:.0f} s left'}  {detail}")

    yield advance
    if any_shown:
        notice(f"{title} 100%  {last}")
