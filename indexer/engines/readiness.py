"""When the scan takes over from FAISS: no search waits for its kernels.

They are compiled by another process of the lowest priority, and loaded by a thread that lets go of the interpreter several thousand
times a second. Until then FAISS answers.
"""

import atexit
import concurrent.futures.thread  # noqa: F401 - before a fork: it registers for forks, and being loaded within one it would be told of half
import ctypes
import gc
import logging
import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from threading import Thread
from types import FrameType
from typing import Final

from encoder.runtime.locks import ForkLock
from indexer.engines.kit import Kind, Kit
from indexer.engines.turns import Turns

WORTH: Final = 0.4
"""Seconds of FAISS's answers that loading the scan is worth: it takes about as long."""
SLICE: Final = 0.0002
"""Seconds that the loading thread keeps the interpreter; a quick answer of FAISS takes as long."""
LIBRARIES: Final = (
    ("llvmlite", "binding/*.so"),
    ("numba", "*.so"),
    ("numba", "core/**/*.so"),
    ("scipy", "linalg/_f*.so"),
    ("scipy", "linalg/_[!f]*.so"),
    ("scipy", "linalg/cython_*.so"),
)
"""Of packages: what an import of numba maps; scipy, if it is there, for its linear algebra."""
COMPILING: Final = "indexer.engines.scan.compiling"
_LOG: Final = logging.getLogger(__name__)


class _StoppedError(BaseException):
    """The process ends while kernels are loaded."""


class Readiness:
    """Which kits this process has loaded, and the thread that gets the others."""

    def __init__(self) -> None:
        self._spent: defaultdict[Kit, float] = defaultdict(float)
        self._lock = ForkLock()
        self._ready: frozenset[Kit] = frozenset()
        self._asked: set[Kit] = set()
        self._waiting: list[Kit] = []
        self._thread: Thread | None = None
        self._loading = ForkLock()
        """Held while numba works: a fork then would leave its locks held for ever."""
        self._turns = Turns()
        self._temporary: Path | None = None
        self._until, self._stops, self._hurries, self._loads, self._told = 0.0, False, False, False, False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._in_child
            )
        atexit.register(self._stop)

    def __contains__(self, kit: Kit) -> bool:
        return kit in self._ready

    @contextmanager
    def counted(self, kit: Kit, counts: bool = True) -> Iterator[None]:
        """Measure what is answered without the scan, see `spent`; meanwhile what gets the scan stands back."""
        began = time.perf_counter()
        with self._turns.answering():
            yield
        if counts:
            self.spent(kit, time.perf_counter() - began)

    def spent(self, kit: Kit, seconds: float) -> None:
        """Say that a search took FAISS so long. Once it adds up to what the kit is worth, a thread gets it."""
        with self._lock:
            self._spent[kit] += seconds
            if self._spent[kit] < WORTH or kit in self._asked or kit in self._ready or self._stops:
                return
            self._asked.add(kit)
            self._waiting.append(kit)
            if self._thread is None:
                self._thread = Thread(target=self._get_all, name="scan-loader", daemon=True)
                self._thread.start()

    def _get_all(self) -> None:
        with suppress(_StoppedError):
            while (kit := self._next()) is not None:
                try:
                    self._get(kit)
                except Exception as err:  # noqa: BLE001 - the thread's border: FAISS answers whatever befell numba
                    self._tell_once(f"FAISS goes on to answer, the scan cannot be loaded: {err}")

    def _next(self) -> Kit | None:
        with self._lock:
            if self._waiting:
                return self._waiting.pop(0)
            self._thread = None
            return None

    def _get(self, kit: Kit) -> None:
        """Load a kit, compiled by another process if need be; a failure leaves FAISS to answer."""
        if self._load(kit):
            return
        folder = None
        try:
            if self._folder() is None:
                self._temporary = folder = Path(mkdtemp(prefix="hashgrain-kernels-"))
                self._tell_once(
                    "compiled kernels cannot be kept on disk, so each process compiles them again in the background; name a "
                    "folder that can be written in NUMBA_CACHE_DIR"
                )
            if (fault := self._compile(kit, folder)) is not None:
                self._tell_once(f"FAISS goes on to answer, the scan's kernels could not be compiled: {fault}")
            elif not self._load(kit, folder):
                self._tell_once("FAISS goes on to answer, the scan's kernels were compiled but cannot be found again")
        finally:
            self._remove_temporary()

    def _load(self, kit: Kit, folder: Path | None = None) -> bool:
        with self._courteously():
            _map_libraries()
            import indexer.engines.scan.search
            import indexer.engines.scan.weighted  # noqa: F401 - the first answer needs them
            from indexer.engines.scan.kernel_cache import also_in
            from indexer.engines.scan.kits import load

            with also_in(folder):
                loaded = load(kit)
        if loaded:
            self._ready |= {kit, Kit(Kind.FLAT, kit.words)} if kit.kind is Kind.LISTS else {kit}
        return loaded

    def _compile(self, kit: Kit, folder: Path | None) -> str | None:
        """Compile a kit in another process, which ends with this one.

        Args:
            kit: what to compile.
            folder: where to keep it; None: where numba does.

        Returns:
            None, or what went wrong.
        """
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
        if folder is not None:
            environment["NUMBA_CACHE_DIR"] = str(folder)
        try:
            reads, writes = os.pipe()  # whose end this process holds open as long as it lives
            with (
                os.fdopen(reads) as never_written,
                os.fdopen(writes),
                subprocess.Popen(  # noqa: S603 - the interpreter that runs this
                    [sys.executable, "-P", "-m", COMPILING, str(kit)],
                    stdin=never_written,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env=environment,
                ) as process,
                self._turns.behind(process),
            ):
                _, errors = process.communicate()
        except OSError as err:
            return str(err)
        said = errors.decode(errors="replace").strip().splitlines()
        return None if process.returncode == 0 else said[-1] if said else f"exit code {process.returncode}"

    def _folder(self) -> Path | None:
        from indexer.engines.scan.kits import folder_of_kernels

        return folder_of_kernels()

    def _tell_once(self, line: str) -> None:
        if not self._told:
            self._told = True
            _LOG.warning(line)

    @contextmanager
    def _courteously(self) -> Iterator[None]:
        """Let other threads have the interpreter between any two calls, and collect no garbage, which nothing can interrupt."""
        collects = gc.isenabled()
        with self._loading:
            self._loads = True
            gc.disable()
            sys.setprofile(self._breathe)
            try:
                yield
            finally:
                sys.setprofile(None)
                self._loads = False
                if (
                    not gc.get_freeze_count()
                ):  # all that was loaded goes to the oldest generation, unread, not through the younger
                    gc.freeze()
                    gc.unfreeze()
                if collects:
                    gc.enable()

    def _breathe(self, _: FrameType, __: str, ___: object) -> None:
        """Called by Python at each call and return in the loading thread."""
        if time.perf_counter() < self._until:
            return
        if self._stops:
            raise _StoppedError
        if not self._hurries:
            self._turns.wait()
        self._until = time.perf_counter() + SLICE

    def _before_fork(self) -> None:
        self._hurries = True
        self._loading.__enter__()

    def _after_fork(self) -> None:
        self._loading.__exit__(None, None, None)
        self._hurries = False

    def _in_child(self) -> None:
        """The thread is not there; what it had not got yet is asked for again."""
        self._thread, self._hurries, self._loads = None, False, False
        self._turns.in_child()
        self._waiting, self._asked, self._temporary = [], set(self._ready), None

    def _stop(self) -> None:
        """Let numba come to rest before what it uses is taken down."""
        self._stops = self._hurries = True
        if self._loads and (thread := self._thread) is not None:
            thread.join(5)
        self._remove_temporary()

    def _remove_temporary(self) -> None:
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None


def _map_libraries() -> None:
    """Map numba's libraries into memory without the interpreter, which an import keeps for the 10 milliseconds that this takes."""
    dlopen = ctypes.CDLL(None).dlopen
    for package, pattern in LIBRARIES:
        spec = find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            for library in Path(folder).glob(pattern):
                dlopen(os.fsencode(library), os.RTLD_NOW)


READINESS: Final = Readiness()
