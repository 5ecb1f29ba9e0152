"""An index as programs use it: opened once, searched from any number of threads, with the model that codes query images."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np

from encoder.errors import HashgrainError, Reason, shown, why
from encoder.images.limits import Limits
from encoder.runtime.locks import ForkLock
from encoder.runtime.publish import sha256_of
from indexer.answer import answer_queries
from indexer.options import QueryOptions, plan
from indexer.query import Answer, Query, as_query
from indexer.settings import Trust
from indexer.snapshot import Snapshot

if TYPE_CHECKING:
    from encoder.model.image_encoder import ImageEncoder


class Index(Snapshot):
    """The current generation of an index folder, and the encoder of its queries.

    Any number of threads may share it. A forked process may go on with it (searches take one thread there until the scan
    is loaded). Pickling it, as starting a process by spawn does, opens the same generation again there.

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
        super().__init__(path, pointer=pointer, notify=notify, trust=trust)
        self.limits = limits or self.manifest.limits
        self._own_limits = limits
        self._model, self._notify = model, notify
        self._encoder: ImageEncoder | None = None
        self._loading = ForkLock()

    def __reduce__(self) -> tuple[object, ...]:
        return partial(Index, trust=self.trust), (self.path, self._model, self._own_limits, self._pointer)

    @property
    def encoder(self) -> "ImageEncoder":
        """The model that made the codes, loaded when first used and kept.

        Raises:
            HashgrainError: `model-invalid`, `model-mismatch`.
        """
        with self._loading:
            if self._encoder is None:
                import encoder

                self._encoder = encoder.load(self._model_path(), precision=self.manifest.precision)
            return self._encoder

    def query(self, what: Query, **options: Unpack[QueryOptions]) -> Answer:
        """Find the images nearest to one query.

        Args:
            what: `ByImage`, `ByKey` or `ByCode`; a plain `Path`, `bytes`, PIL image or uint8[height, width, 3] is an image.
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
        settings = plan(options, self.manifest.bits)
        given: object = whats
        if isinstance(given, str | bytes | np.ndarray) or not isinstance(given, Iterable):
            raise HashgrainError(
                Reason.BAD_VALUE, f"{shown(given)} is not several queries; give a list of them, or one to query"
            )
        queries = [as_query(what) for what in whats]
        return answer_queries(self, queries, settings, lambda: self.encoder, self.limits)

    def reopen(self) -> "Index":
        """Return this index while it is the current generation, else the one that took its place, opened."""
        if self.is_current:
            return self
        newer = Index(self.path, self._model, self._own_limits, notify=self._notify, trust=self.trust)
        same = (newer.manifest.fingerprint, newer.manifest.precision)
        if same == (self.manifest.fingerprint, self.manifest.precision):
            newer._encoder = self._encoder
        return newer

    def _model_path(self) -> Path:
        """Return the model file to code images with, proven to be the one that made the index's codes."""
        if self._model is None and self.manifest.model is None:
            raise HashgrainError(
                Reason.MODEL_INVALID,
                f"{self.path} holds no model, none stood beside its code files; give the one that made them",
            )
        path = self._model or self.folder / str(self.manifest.model)
        try:
            found = sha256_of(path)
        except (OSError, ValueError) as err:
            raise HashgrainError(
                Reason.MODEL_INVALID,
                f"model file {path} could not be read ({why(err)}); give the one that made the codes",
            ) from err
        if found != self.manifest.fingerprint and self._model is None:
            raise HashgrainError(
                Reason.INDEX_DAMAGED,
                f"the model of index {self.path} is damaged: {path} does not match its SHA-256; build the index again",
            )
        if found != self.manifest.fingerprint:
            raise HashgrainError(
                Reason.MODEL_MISMATCH,
                f"model {path} has fingerprint {found[:12]}, the codes of {self.path} were made by "
                f"{self.manifest.fingerprint[:12]}; give that one, or none where the index has its own",
            )
        return path
