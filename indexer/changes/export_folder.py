"""A folder that an export makes: whole when it has its name, and put in the place of none but an earlier export."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from encoder.errors import HashgrainError, Reason
from encoder.runtime import durable
from encoder.runtime.files import exists
from encoder.runtime.publish import PARTIAL, write_failed


@contextmanager
def made(out: Path, is_export: Callable[[Path], bool], *, overwrite: bool) -> Iterator[Path]:
    """Yield a folder that has its name when the block succeeds.

    Args:
        out: the name.
        is_export: whether a folder is one that such an export made.
        overwrite: take the place of one that is there.

    Raises:
        HashgrainError: `exists`, `write-failed`.
    """
    if exists(out) and not ((ours := is_export(out)) and overwrite):
        what = "; choose another folder, or replace it" if ours else " and is not an export; choose another folder"
        raise HashgrainError(Reason.EXISTS, f"{out} exists{what}")
    unready, old = (out.with_name(f"{out.name}{ending}{PARTIAL}") for ending in ("", ".old"))
    try:
        for left in (unready, old):  # of one that was killed
            if left.exists():
                durable.remove_tree(left)
        durable.make_folder(unready)
        yield unready
        durable.sync_folder(unready)
        _replace(out, unready, old)
        durable.sync_folder(out.absolute().parent)
    except OSError as err:
        raise write_failed(out, err) from err
    finally:
        for left in (unready, *([old] if out.exists() else [])):
            with suppress(OSError):  # the next export of that name sweeps it
                durable.remove_tree(left)


def _replace(out: Path, new: Path, old: Path) -> None:
    """Give a folder the name of one that is there. That one loses its name first, so that never a part of it stands there."""
    there = out.exists()
    if there:
        durable.rename(out, old)
    try:
        durable.rename(new, out)
    except OSError:
        if there:
            old.replace(out)
        raise
