"""Small pictures of rows, made once while there is room for them."""

import io
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, TypeAlias

from PIL import Image

from encoder.errors import HashgrainError, Reason
from encoder.images.decoding.decode import RejectedImage, decode
from encoder.images.limits import Limits
from indexer.opened import Opened
from indexer.service.pictures import check_row
from indexer.storage.pictures import Place

SIDES: Final = (96, 192, 384, 1024)
"""Sides in pixels of the square that a thumbnail fits into: a mark, a card, a card on a sharp screen, a whole window."""
QUALITY: Final = 85
"""Of JPEG; at this size the eye finds no difference to more."""
FORGET_FAILURES: Final = 10.0
"""Seconds: a disk may come back, and a page that shows 60 broken pictures should not read them anew at every look."""
MOST_FAILURES: Final = 1000

Key: TypeAlias = tuple[Place, int]


@dataclass(frozen=True, slots=True)
class _Failure:
    error: HashgrainError
    until: float
    """By the monotonic clock."""


class Thumbnails:
    """Thumbnails by the place of their picture, so that they outlive a change of generation. Any number of threads may share it.

    Args:
        limits: what a picture may be.
        most_bytes: of all that are kept; those not looked at for longest go first.
    """

    def __init__(self, limits: Limits, most_bytes: int = 64 << 20) -> None:
        self.limits, self.most_bytes = limits, most_bytes
        self.bytes = 0
        """Of all that are kept now."""
        self._kept: OrderedDict[Key, bytes] = OrderedDict()
        self._failed: OrderedDict[Key, _Failure] = OrderedDict()
        self._under_way: dict[Key, Future[bytes]] = {}
        self._lock = threading.Lock()

    def get(self, snapshot: Opened, row: int, side: int) -> bytes:
        """Return a JPEG of a row's picture that fits into a square of `side` pixels; small pictures are not enlarged.

        Who asks for what another thread is making waits for it.

        Raises:
            HashgrainError: `bad-value` for another side, and as `pictures.original`.
        """
        if side not in SIDES:
            raise HashgrainError(Reason.BAD_VALUE, f"side {side}; expected one of {', '.join(map(str, SIDES))}")
        check_row(snapshot, row)
        key = (snapshot.place(row), side)
        with self._lock:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return kept
            if (failure := self._failed.get(key)) is not None and time.monotonic() < failure.until:
                raise failure.error
            others = self._under_way.get(key)
            mine = self._under_way.setdefault(key, Future())
        return others.result() if others is not None else self._make(key, mine, snapshot, row)

    def _make(self, key: Key, mine: "Future[bytes]", snapshot: Opened, row: int) -> bytes:
        try:
            data = _thumbnail(snapshot.image(row), key[1], self.limits)
        except BaseException as err:
            with self._lock:
                del self._under_way[key]
                if isinstance(err, HashgrainError):
                    self._failed[key] = _Failure(err, time.monotonic() + FORGET_FAILURES)
                    self._failed.move_to_end(key)
                    if len(self._failed) > MOST_FAILURES:
                        self._failed.popitem(last=False)
            mine.set_exception(err)
            raise
        with self._lock:
            del self._under_way[key]
            self._failed.pop(key, None)
            self._kept[key] = data
            self.bytes += len(data)
            while self.bytes > self.most_bytes:
                self.bytes -= len(self._kept.popitem(last=False)[1])
        mine.set_result(data)
        return data


def _thumbnail(data: bytes, side: int, limits: Limits) -> bytes:
    """Return a JPEG without metadata that fits into a square."""
    try:
        image = decode(data, limits, at_least=side)
    except RejectedImage as err:
        raise HashgrainError(
            Reason.IMAGE_REJECTED, f"the picture cannot be shown ({err.reject}: {err.detail}); look at its file"
        ) from err
    scale = min(1.0, side / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    out = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()
