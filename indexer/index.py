"""An index as programs use it: opened once, searched from any number of threads, with the model that codes query images."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, Unpack

import numpy as np

from encoder.errors import HashgrainError, Reason, shown, why
from encoder.images.limits import Limits
from encoder.runtime.locks import ForkLock
from encoder.runtime.publish import sha256_of
from indexer.answer import Found, answer_queries, find_rows
from indexer.opened import Opened
from indexer.options import QueryOptions, plan
from indexer.query import Answer, Asked, Query, as_query
from indexer.settings import CombineSettings, LevelSettings, Trust
from indexer.snapshot import Snapshot
from indexer.storage.manifest import Manifest
from indexer.storage.segment import Segment

if TYPE_CHECKING:
    from encoder.model.image_encoder import ImageEncoder


P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Answering(Protocol[T]):
    """What answers queries, see `answer_queries`."""

    def __call__(
        self,
        index: Opened,
        queries: Sequence[Asked],
        settings: LevelSettings | CombineSettings,
        encoder: "Callable[[], ImageEncoder]",
        limits: Limits,
    ) -> list[T]:
        """Answer them as one batch."""


def _of_opened(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate["Index", P], R]:
    """Return a method of the generation that is open when it is called, which has its own way to do it."""

    @wraps(method)
    def call(index: "Index", /, *args: P.args, **kwargs: P.kwargs) -> R:
        found: R = getattr(index.snapshot, method.__name__)(*args, **kwargs)
        return found

    return call


class Index:
    """The newest generation of an index folder when it was opened or last refreshed, and the encoder of its queries.

    Any number of threads may share it, one that refreshes it among them: a query that is under way goes on with the
    generation it began with. A forked process may go on with it (searches take one thread there until the scan is loaded).
    Pickling it, as starting a process by spawn does, opens the same generation again there.

    Args:
        path: folder of the index.
        model: model file for query images, in place of the copy in the index; has to be the one that made the codes.
        limits: what a query image may be, and an image that is shown; None: what was encoded might be.
        pointer: as in `Snapshot`.
        notify: called with a line for a person when a GPU hands over to the scan; a pickled copy has none.
        trust: what of the index is believed.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`.
    """

    def __init__(
        self,
        path: Path,
        model: Path | None = None,
        limits: Limits | None = None,
        pointer: bytes | None = None,
        notify: Callable[[str], None] = lambda _: None,
        trust: Trust = Trust(),
    ) -> None:
        self.path, self.trust, self._model, self._limits, self._notify = path, trust, model, limits, notify
        self._opened: Opened = Snapshot(path, pointer=pointer, notify=notify, trust=trust, limits=limits)
        self._encoder: tuple[tuple[str, str], ImageEncoder] | None = None
        self._loading, self._refreshing = ForkLock(), ForkLock()

    @classmethod
    def of(cls, opened: Opened, model: Path | None = None) -> "Index":
        """Return an index of a generation that is open already, whoever holds its rows.

        Args:
            opened: the generation.
            model: as above.
        """
        index = object.__new__(cls)
        index.path, index.trust, index._model, index._limits = opened.path, opened.trust, model, None
        index._notify, index._opened, index._encoder = lambda _: None, opened, None
        index._loading, index._refreshing = ForkLock(), ForkLock()
        return index

    def __reduce__(self) -> tuple[object, ...]:
        return partial(Index, trust=self.trust), (self.path, self._model, self._limits, self._opened.pointer)

    @property
    def snapshot(self) -> Opened:
        """The generation that is open; unlike this object it does not change when that is refreshed."""
        return self._opened

    @property
    def generation(self) -> str:
        """Name of the generation that is open."""
        return self._opened.generation

    @property
    def manifest(self) -> Manifest:
        """What the generation says of itself."""
        return self._opened.manifest

    @property
    def folder(self) -> Path:
        """Folder of the generation."""
        return self._opened.folder

    @property
    def segments(self) -> list[Segment]:
        """Its segments, opened, in row order; not of an index whose rows others hold."""
        if not isinstance(self._opened, Snapshot):
            raise TypeError(f"the segments of {self.path} are held by other processes")
        return self._opened.segments

    @property
    def ntotal(self) -> int:
        """Number of rows, removed ones too: rows keep their numbers."""
        return self._opened.ntotal

    @property
    def is_current(self) -> bool:
        """Whether no newer generation has taken its place, nor another index; reads the pointer, a file of one line."""
        return self._opened.is_current

    @property
    def unverified(self) -> dict[str, int]:
        """Files in use that were checked by their size alone, with their bytes."""
        return self._opened.unverified

    @property
    def has_model(self) -> bool:
        """Whether images can be queries: a model stood beside the code files, or was given."""
        return self._model is not None or self._opened.manifest.model is not None

    @property
    def limits(self) -> Limits:
        """What a query image may be, and an image that is shown."""
        return self._limits or self._opened.manifest.limits

    level = _of_opened(Snapshot.level)
    live_rows = _of_opened(Opened.live_rows)
    search = _of_opened(Opened.search)
    combine = _of_opened(Opened.combine)
    passing = _of_opened(Snapshot.passing)
    contains = _of_opened(Opened.contains)
    cutoff = _of_opened(Opened.cutoff)
    eligible = _of_opened(Opened.eligible)
    histogram = _of_opened(Opened.histogram)
    find = _of_opened(Opened.find)
    codes = _of_opened(Opened.codes)
    key = _of_opened(Opened.key)
    labels = _of_opened(Opened.labels)
    shard = _of_opened(Opened.shard)
    describe = _of_opened(Opened.describe)
    image = _of_opened(Opened.image)
    image_reader = _of_opened(Opened.image_reader)

    @property
    def model_path(self) -> Path:
        """The model file that made the codes.

        Raises:
            HashgrainError: `model-invalid`, `model-mismatch`, `index-damaged`.
        """
        return self._model_path(self._opened)

    @property
    def encoder(self) -> "ImageEncoder":
        """The model that made the codes, loaded when first used and kept.

        Raises:
            HashgrainError: `model-invalid`, `model-mismatch`.
        """
        return self._encoder_of(self._opened)

    def _encoder_of(self, opened: Opened) -> "ImageEncoder":
        """Return the model that made the codes of a generation."""
        made_by = (opened.manifest.fingerprint, opened.manifest.precision)
        with self._loading:
            if self._encoder is None or self._encoder[0] != made_by:
                import encoder

                loaded = encoder.load(self._model_path(opened), precision=opened.manifest.precision)
                self._encoder = (made_by, loaded)
            return self._encoder[1]

    def query(self, what: Query, **options: Unpack[QueryOptions]) -> Answer:
        """Find the images nearest to one query.

        Args:
            what: `ByImage`, `ByKey`, `ByCode` or `ByExamples`; a plain `Path`, `bytes`, PIL image or uint8[height, width, 3] is
                an image.
            options: see `QueryOptions`.

        Returns:
            The hits, nearest first.

        Raises:
            HashgrainError: `key-unknown`, `image-rejected`, `shard-missing`, `level-unknown`, `model-mismatch`,
                `model-invalid`, `bad-value`.
        """
        return self.query_batch([what], **options)[0]

    def query_batch(self, whats: Iterable[Query], **options: Unpack[QueryOptions]) -> list[Answer]:
        """Find the images nearest to each of several queries, which together take less time than one by one; as `query`."""
        return self._each(answer_queries, whats, options)

    def rows_batch(self, whats: Iterable[Query], **options: Unpack[QueryOptions]) -> list[Found]:
        """Find the rows nearest to each of several queries, for who says himself what there is to know of them; as `query`."""
        return self._each(find_rows, whats, options)

    def _each(self, answer: "Answering[T]", whats: Iterable[Query], options: QueryOptions) -> list[T]:
        opened = self._opened
        settings = plan(options, opened.manifest.bits)
        given: object = whats
        if isinstance(given, str | bytes | np.ndarray) or not isinstance(given, Iterable):
            raise HashgrainError(
                Reason.BAD_VALUE, f"{shown(given)} is not several queries; give a list of them, or one to query"
            )
        queries = [as_query(what) for what in whats]
        return answer(
            opened, queries, settings, lambda: self._encoder_of(opened), self._limits or opened.manifest.limits
        )

    def refresh(self) -> bool:
        """Go to the newest generation, and say whether there was a newer one than that which was open.

        What is unchanged stays open, on a GPU too; only what changed is opened. Row numbers are those of a generation.

        Raises:
            HashgrainError: `index-missing`, `index-damaged`; then the one that was open stays.
        """
        with self._refreshing:
            if self._opened.is_current:
                return False
            self._opened = self._opened.newest()
            return True

    def reopen(self) -> "Index":
        """Return this index while it is the current generation, else the one that took its place, opened; both go on.

        As with `refresh`, what is unchanged is not opened again.
        """
        if self.is_current:
            return self
        newer = object.__new__(Index)
        newer.__dict__ |= self.__dict__ | {
            "_opened": self._opened.newest(),
            "_loading": ForkLock(),
            "_refreshing": ForkLock(),
        }
        return newer

    def _model_path(self, opened: Opened) -> Path:
        """Return the model file to code images with, proven to be the one that made the index's codes."""
        if self._model is None and opened.manifest.model is None:
            raise HashgrainError(
                Reason.MODEL_INVALID,
                f"{self.path} holds no model, none stood beside its code files; give the one that made them",
            )
        path = self._model or opened.folder / str(opened.manifest.model)
        try:
            found = sha256_of(path)
        except (OSError, ValueError) as err:
            raise HashgrainError(
                Reason.MODEL_INVALID,
                f"model file {path} could not be read ({why(err)}); give the one that made the codes",
            ) from err
        if found != opened.manifest.fingerprint and self._model is None:
            raise HashgrainError(
                Reason.INDEX_DAMAGED,
                f"the model of index {self.path} is damaged: {path} does not match its SHA-256; build the index again",
            )
        if found != opened.manifest.fingerprint:
            raise HashgrainError(
                Reason.MODEL_MISMATCH,
                f"model {path} has fingerprint {found[:12]}, the codes of {self.path} were made by "
                f"{opened.manifest.fingerprint[:12]}; give that one, or none where the index has its own",
            )
        return path
