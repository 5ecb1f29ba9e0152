"""Images added and removed over HTTP: what waits together becomes one tar, one run of the encoder and one generation of the index.

Nothing about an added image differs from any other: it lies in a shard, its codes in a code file, its row in a segment.
"""

import io
import re
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from encoder.codes.file import SUFFIX, open_codes
from encoder.errors import HashgrainError, Reason
from encoder.images.expand import expand
from encoder.images.labels.sidecars import read_sidecar, stems_of
from encoder.images.limits import Limits
from encoder.images.names import NameKind, key_of, kind_of_name
from encoder.images.signature import HEAD_BYTES, image_format
from encoder.model.spec import Precision
from encoder.runtime import durable
from encoder.runtime.publish import exclusive, make_folder, publish, sweep, write_failed
from encoder.stream.job import encode
from encoder.stream.settings import EncodeSettings
from indexer.changes.writer import writer
from indexer.index import Index
from indexer.service.holder import Holder
from indexer.storage.current import number_of
from indexer.wire import Changed

MOST_KEY: Final = 512
"""Characters of a key."""
BUSY_SECONDS: Final = 5.0
"""For which another writer is waited for."""
BUSY_TURN: Final = 0.1
"""Seconds between two tries."""
_NUMBER: Final = re.compile(r"items-(\d+)\.")


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """An image to be added, in the place of one that has its key; or a key to be removed."""

    holder: Holder
    """Of the index."""
    key: str
    content: bytes | None = None
    """The image file, which can be decoded; None: the key is removed."""
    labels: bytes = b""
    """A JSON object, as `checked_labels` returns it."""

    @property
    def member(self) -> str:
        """What the image is called in its tar: without its suffix, that is the key again."""
        return f"{self.key}.{(image_format((self.content or b'')[:HEAD_BYTES]) or 'JPEG').lower()}"

    @property
    def names(self) -> set[str]:
        """Names that labels of this image would be found under; of a removal, its key."""
        return {self.key} if self.content is None else {self.key, *stems_of(self.member)}


class Changer:
    """Who makes changes; one thread calls it at a time.

    Args:
        folder: for shards and code files of added images.
        limits: what an image may be.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder, self._limits = folder.absolute(), limits

    def run(self, changes: Sequence[Change]) -> list[Changed | Exception]:
        """Make changes to an index in their order, and see that it is served with them.

        Returns:
            For each where it stands now, or why it was not made: `key-unknown` for a removal, `image-rejected`, or for all of a
            round as `encode`, `writer`, and `index-damaged` where the new generation cannot be served.
        """
        outcomes = list[Changed | Exception]()
        for these in rounds(changes):
            try:
                outcomes += self._round(these)
            except Exception as err:  # noqa: BLE001 - who waits for it gets it
                outcomes += [err] * len(these)
        return outcomes

    def _round(self, changes: Sequence[Change]) -> list[Changed | Exception]:
        holder = changes[0].holder
        until = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                generation, failed = self._publish(holder.current, changes)
                break
            except HashgrainError as err:
                if err.reason is not Reason.BUSY or time.monotonic() > until:
                    raise
            time.sleep(BUSY_TURN)
        holder.swap_if_newer()
        index = holder.current
        if number_of(index.generation) < number_of(generation):
            raise HashgrainError(
                Reason.INDEX_DAMAGED, f"{generation} was written and cannot be served, {index.generation} goes on"
            )
        return [failed.get(change.key) or _changed(index, change) for change in changes]

    def _publish(self, index: Index, changes: Sequence[Change]) -> tuple[str, dict[str, HashgrainError]]:
        """Write a generation with the changes, whose keys differ; return its name, and why some were not made.

        Both folders are held before anything is written: another writer costs a try, and no shard that nobody needs.
        """
        failed = dict[str, HashgrainError]()
        added = [change for change in changes if change.content is not None]
        with exclusive(self._folder), writer(index.path) as opened:
            if added:
                codes = self._encode(index, added)
                with open_codes(codes) as file:
                    there = set(file.keys())
                failed = {change.key: _not_there(change.key) for change in added if change.key not in there}
                opened.add([codes])
            for change in changes:
                if change.content is None:
                    try:
                        opened.remove([change.key])
                    except HashgrainError as err:
                        if err.reason is not Reason.KEY_UNKNOWN:
                            raise
                        failed[change.key] = err
        return opened.report.generation, failed

    def _encode(self, index: Index, added: Sequence[Change]) -> Path:
        """Make a shard of images, and its code file; return that."""
        codes = self._folder / "codes"
        path = new_shard(self._folder / "shards", codes)
        write_shard(path, added)
        manifest = index.manifest
        settings = EncodeSettings(
            precision=Precision(manifest.precision), limits=self._limits, levels=tuple(manifest.bits)
        )
        (shard,) = expand([str(path)])
        encode([shard], index.model_path, codes, settings)
        return codes / f"{shard.name}{SUFFIX}"


def rounds(changes: Sequence[Change]) -> Iterator[list[Change]]:
    """Yield changes in their order, as many together as one tar can hold: no key twice, no labels that two images would take."""
    these, keys, names = list[Change](), set[str](), set[str]()
    for change in changes:
        if change.key in names or change.names & keys:
            yield these
            these, keys, names = [], set(), set()
        these.append(change)
        keys.add(change.key)
        names |= change.names
    if these:
        yield these


def write_shard(path: Path, added: Sequence[Change]) -> None:
    """Publish a tar of images, each followed by its labels.

    Raises:
        HashgrainError: `write-failed`.
    """
    with (
        publish(path) as partial,
        durable.create(partial) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        for change in added:
            for name, data in ((change.member, change.content or b""), (f"{change.key}.json", change.labels)):
                if data:
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


def check_key(key: str) -> None:
    """Refuse a key that would not come back from a shard as it is.

    Raises:
        HashgrainError: `bad-value`.
    """
    name = f"{key}.jpg"
    comes_back = key_of(name) == name and kind_of_name(name) is NameKind.IMAGE
    if not (1 <= len(key) <= MOST_KEY and comes_back and not {"", ".", ".."}.intersection(key.split("/"))):
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"key {key[:80]!r} is not one that a shard gives back; expected 1 to {MOST_KEY} characters, no control character, "
            "no part that is empty or begins with a dot",
        )


def checked_labels(text: str) -> bytes:
    """Return labels as a shard holds them; `text` is a JSON object, or empty.

    Raises:
        HashgrainError: `bad-value` for what would not all become labels.
    """
    data = text.encode()
    if text and (problems := read_sidecar("labels.json", data)[1]):
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"labels {text[:80]!r}: {problems[0]}; expected a JSON object of text, numbers and booleans",
        )
    return data


def new_shard(shards: Path, codes: Path) -> Path:
    """Return the path of a shard that is not there yet, nor its code file; what a killed writer left among the shards goes.

    Raises:
        HashgrainError: `write-failed`.
    """
    make_folder(shards)
    try:
        sweep(shards)
    except OSError as err:
        raise write_failed(shards, err) from err
    found = (_NUMBER.match(path.name) for folder in (shards, codes) for path in folder.glob("items-*"))
    return shards / f"items-{1 + max((int(one[1]) for one in found if one), default=0):06d}.tar"


def _changed(index: Index, change: Change) -> Changed | HashgrainError:
    """Return where a change stands; another writer may have removed its row since."""
    try:
        row = None if change.content is None else index.find(change.key)
    except HashgrainError as err:
        return err
    return Changed(change.key, index.generation, row)


def _not_there(key: str) -> HashgrainError:
    return HashgrainError(Reason.IMAGE_REJECTED, f"the image of {key[:80]!r} did not become a row; send another file")
