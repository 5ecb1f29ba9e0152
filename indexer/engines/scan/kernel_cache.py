"""Where compiled kernels are kept: in the first of several folders that can be written; and they are found in any of them.

numba itself takes one folder, and leaves it alone unless it can write there. What was compiled into the image of a container, and
is read-only when that runs, would be compiled again in each process.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from threading import local
from types import SimpleNamespace
from typing import Any, Final

import numba.core.caching

CACHING: Final[Any] = numba.core.caching
"""Half of it has types in some releases, none in others."""
VARIABLE: Final = "NUMBA_CACHE_DIR"
"""Names the folder in which numba keeps what it compiles, in place of the package's and the user's. Source: numba's manual."""


class NotKeptError(Exception):
    """A kernel is in none of the folders, and was not to be compiled."""


class KernelCache:
    """What numba asks for a compiled function, and gives it to keep.

    Args:
        function: the function, as it is in Python.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def load_overload(self, signature: Any, context: Any) -> Any:
        """Return the function compiled for a signature, or None, upon which numba compiles.

        Raises:
            NotKeptError: there is none, within `only_kept`.
        """
        for folder in folders(self._function):
            with suppress(Exception):  # whatever a damaged file does, it is compiled again
                if (found := _numba_cache(self._function, folder).load_overload(signature, context)) is not None:
                    return found
        if getattr(_THREAD, "only_kept", False):
            raise NotKeptError
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep a function compiled for a signature in the first folder that takes it."""
        for folder in folders(self._function):
            with suppress(OSError):
                _numba_cache(self._function, folder).save_overload(signature, result)
                return


@contextmanager
def only_kept() -> Iterator[None]:
    """Let this thread load kernels, but not compile any."""
    _THREAD.only_kept = True
    try:
        yield
    finally:
        _THREAD.only_kept = False


@contextmanager
def also_in(folder: Path | None) -> Iterator[None]:
    """Find kernels in one more folder, which another process had as `VARIABLE`; None: in no other."""
    _MORE[:] = [] if folder is None else [folder]
    try:
        yield
    finally:
        _MORE.clear()


def folders(function: Callable[..., Any]) -> list[Path]:
    """Return the folders in which kernels may be, the first one first that they are to be kept in."""
    source = function.__code__.co_filename
    below = CACHING.InTreeCacheLocator.get_suitable_cache_subpath(source)
    named = [Path(name) for name in [os.environ.get(VARIABLE)] if name]
    found = [
        *(folder / below for folder in [*named, *_MORE]),
        Path(CACHING.InTreeCacheLocator(function, source).get_cache_path()),
        Path(CACHING.UserWideCacheLocator(function, source).get_cache_path()),
    ]
    return [
        folder for folder in found if folder.is_absolute()
    ]  # of a user without a home numba makes a folder named ~ here


def writable(function: Callable[..., Any]) -> Path | None:
    """Return the folder that kernels are kept in, made if need be; None: no folder can be written."""
    for folder in folders(function):
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=folder).close()
            return folder
    return None


def _numba_cache(function: Callable[..., Any], folder: Path) -> Any:
    """Return numba's cache of a function in a folder, which need not be there, nor be writable."""
    locator = CACHING.InTreeCacheLocator(function, function.__code__.co_filename)
    locator._cache_path = str(folder)
    here = [SimpleNamespace(from_function=lambda *_: locator)]
    kept = type("Kept", (CACHING.CompileResultCacheImpl,), {"_locator_classes": here})
    return type("Cache", (CACHING.FunctionCache,), {"_impl_class": kept})(function)


_THREAD: Final = local()
_MORE: Final[list[Path]] = []
