"""An index whose shards have moved: a new generation that says where they are now; all else is taken over."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from encoder.errors import HashgrainError, Reason
from encoder.images.shards import relative_to
from encoder.runtime.files import exists, is_url
from encoder.runtime.publish import exclusive
from indexer.snapshot import Snapshot
from indexer.storage.current import read_current
from indexer.storage.generation import next_generation
from indexer.storage.manifest import ShardSpan


@dataclass(frozen=True, slots=True)
class Move:
    """Shards at or below `old` are at or below `new` now: paths or URLs."""

    old: str
    new: str

    @classmethod
    def parse(cls, text: str) -> "Move":
        """Read `OLD=NEW`.

        Raises:
            HashgrainError: `bad-value`.
        """
        old, _, new = text.partition("=")
        if not old or not new:
            raise HashgrainError(
                Reason.BAD_VALUE, f"move {text!r} is not OLD=NEW; give for example /old/photos=/new/photos"
            )
        return cls(*(each if is_url(each) else os.path.abspath(each) for each in (old, new)))  # noqa: PTH100  links stay

    def of(self, path: str) -> str:
        """Return where a shard is now."""
        if path == self.old:
            return self.new
        old = self.old.rstrip("/")
        return self.new.rstrip("/") + path[len(old) :] if path.startswith(f"{old}/") else path


@dataclass(frozen=True, slots=True)
class RelocateReport:
    """What was moved."""

    moved: int
    """Shards."""
    missing: tuple[str, ...]
    """Those that are not where they were said to be now."""


def relocate(index: Path, moves: Sequence[Move]) -> RelocateReport:
    """Say where the shards of an index are now; of several moves that fit a shard the first one counts.

    Raises:
        HashgrainError: `bad-value` where no shard lies where one is said to have been, `busy`, `write-failed`, `index-missing`,
            `index-damaged`.
    """
    read_current(index)  # where there is none, no folder is made
    with exclusive(index):
        opened = Snapshot(index, locked=True)
        spans = [span for segment in opened.manifest.segments for span in segment.shards]
        paths = {
            span.path: next((new for move in moves if (new := move.of(span.path)) != span.path), span.path)
            for span in spans
        }
        moved = {old: new for old, new in paths.items() if new != old}
        if not moved:
            raise HashgrainError(
                Reason.BAD_VALUE,
                f"no shard of {index} lies at or below {' or '.join(move.old for move in moves)}; its first one is "
                f"{spans[0].path if spans else 'none'}",
            )

        segments = [
            replace(segment, shards=[_moved(index, span, paths[span.path]) for span in segment.shards])
            for segment in opened.manifest.segments
        ]
        with next_generation(index, (opened.folder, opened.manifest)) as generation:
            generation.publish(replace(opened.manifest, segments=segments), "relocate")
    return RelocateReport(len(moved), tuple(new for new in moved.values() if not exists(new)))


def _moved(index: Path, span: ShardSpan, path: str) -> ShardSpan:
    return span if path == span.path else replace(span, path=path, relative=relative_to(index, path))
