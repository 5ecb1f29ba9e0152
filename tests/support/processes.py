"""Command lines in processes of their own: forked from a server that has imported what they need, so that a start takes no seconds."""

import os
import resource
import sys
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from encoder.cli import main as encoder_main
from indexer.cli import main as indexer_main

MAINS = {"encoder": encoder_main, "indexer": indexer_main}
FORKS = get_context("forkserver")
FORKS.set_forkserver_preload([__name__, "encoder.stream.job", "indexer.build"])


@dataclass
class Run:
    """A command line in a process."""

    process: ForkServerProcess
    errors: Connection

    @property
    def pid(self) -> int:
        assert self.process.pid
        return self.process.pid

    @property
    def runs(self) -> bool:
        return self.process.is_alive()

    def finish(self) -> tuple[int, str]:
        """Wait for the end of the process and of all that it started; return its exit code (-n: by signal n) and stderr."""
        with self.errors, os.fdopen(os.dup(self.errors.fileno()), errors="replace") as lines:
            err = lines.read()
        self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode, err


def start(name: str, *arguments: object, file_limit: int = resource.RLIM_INFINITY) -> Run:
    """Start `encoder` or `indexer`; no file that it writes may be larger than `file_limit` bytes."""
    _wait_for_server()
    errors, theirs = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=_run, args=(theirs, file_limit, name, list(map(str, arguments))))
    process.start()
    theirs.close()  # what is left of the pipe then ends with those who write to it
    return Run(process, errors)


@cache
def _wait_for_server() -> None:
    """The first start waits for the imports: here, so that a process that `start` returns is on its way."""
    first = FORKS.Process()
    first.start()
    first.join()


def _run(errors: Connection, file_limit: int, name: str, arguments: list[str]) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with errors:
        os.dup2(errors.fileno(), 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, resource.RLIM_INFINITY))
    sys.argv = [name, *arguments]
    MAINS[name]()
