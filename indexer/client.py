"""An index behind HTTP as programs use it: what `indexer serve` serves, with the queries, answers and errors of an opened index."""

import http.client
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Unpack, cast
from urllib.parse import quote, urlencode, urlsplit

import numpy as np

from encoder.bits import Codes
from encoder.enum_names import named
from encoder.errors import HashgrainError, Reason, shown, why
from encoder.levels import Level, parse_level
from indexer.cutoffs import CutOff
from indexer.options import K, QueryOptions
from indexer.query import Answer, Asked, ByCode, ByExamples, ByImage, ByKey, Hit, Query, as_query, name_of
from indexer.settings import Engine
from indexer.wire import Changed, IndexInfo, Item, LabelFieldInfo, LevelInfo, as_bytes

TOGETHER: Final = 64
"""Queries of one request; what a service takes when it was not told otherwise."""
_CLOSED: Final = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)
"""How a kept connection ends that the service has closed meanwhile."""


class Client:
    """A service that answers queries. Any number of threads may share it.

        with Client("http://127.0.0.1:8360") as client:
            for hit in client.query(Path("photo.jpg"), level="fine", k=5):
                hit.key, hit.distance, hit.image()

    Args:
        url: where it listens, `http://host:port`, with the path of a proxy if there is one.
        token: the service's, where it asks for one.
        timeout: seconds that an answer may take, waiting for a busy service included.

    Raises:
        HashgrainError: `bad-value` for what is not such a URL.
    """

    def __init__(self, url: str, token: str | None = None, timeout: float = 30.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise HashgrainError(Reason.BAD_VALUE, f"{url!r} is not the URL of a service; give http://host:port")
        self.url, self.timeout = url.rstrip("/"), timeout
        self._kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._place, self._path = (parts.hostname, parts.port), parts.path.rstrip("/")
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._idle = list[http.client.HTTPConnection]()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that nobody uses now; the next request opens another."""
        while self._idle:
            self._idle.pop().close()

    @property
    def generation(self) -> str:
        """Name of the generation that the service answers from now."""
        return self.info().generation

    def query(self, what: Query, **options: Unpack[QueryOptions]) -> Answer:
        """Find the images nearest to one query, as `Index.query` does; the service chooses the engine.

        Raises:
            HashgrainError: those of `Index.query`; `busy` when the service is too busy, `index-missing` when it cannot be reached.
        """
        return self.query_batch([what], **options)[0]

    def query_batch(self, whats: Iterable[Query], **options: Unpack[QueryOptions]) -> list[Answer]:
        """Find the images nearest to each of several queries; keys and codes go together, each image by itself."""
        how = _options(options)
        queries = [as_query(what) for what in whats]
        answers: dict[int, Answer] = {}
        together = [at for at, query in enumerate(queries) if not isinstance(_start(query), ByImage)]
        for first in range(0, len(together), TOGETHER):
            part = together[first : first + TOGETHER]
            asked = {"queries": [_what(queries[at], how) | how for at in part]}
            said = self._json("POST", "/v1/batch", as_bytes(asked), "application/json")["responses"]
            answers |= {at: self._answer(queries[at], one) for at, one in zip(part, said, strict=True)}
        for at, query in enumerate(queries):
            if isinstance(start := _start(query), ByImage):
                values = {name: _text(value) for name, value in (_what(query, how) | how).items()}
                path = f"/v1/search?{urlencode(values)}"
                said = self._json("POST", path, _file_of(start), "application/octet-stream")
                answers[at] = self._answer(query, said)
        return [answers[at] for at in range(len(queries))]

    def info(self) -> IndexInfo:
        """Return what is served: levels, label fields, limits."""
        said = self._json("GET", "/v1/index")
        levels = {name: LevelInfo(**of) for name, of in said["levels"].items()}
        fields = {name: LabelFieldInfo(**of) for name, of in said["label_fields"].items()}
        return IndexInfo(**(said | {"levels": levels, "label_fields": fields}))

    def item(self, key: str) -> Item:
        """Return what is known of a key.

        Raises:
            HashgrainError: `key-unknown`.
        """
        return Item(**self._json("GET", f"/v1/items/{quote(key)}"))

    def find(self, key: str) -> int:
        """Return the row of a key, a number in the generation that is served now; as `Index.find`."""
        return self.item(key).row

    def image(self, row: int, generation: str | None = None) -> bytes:
        """Return the image file of a row.

        Args:
            row: a number.
            generation: in which it is one, as the answer that it comes from says; None: the one that is served now.

        Raises:
            HashgrainError: those of `Index.image`; `generation-missing` for one that is served no longer.
        """
        of = "" if generation is None else f"?generation={quote(generation)}"
        return self._request("GET", f"/v1/images/{row}{of}")

    def add(self, key: str, image: bytes | Path, labels: Mapping[str, Any] | None = None) -> Changed:
        """Have an image encoded and added, in the place of one that has its key; it is found from the next query on.

        Raises:
            HashgrainError: `not-allowed` where the service is not writable, `image-rejected`, `bad-value`, `busy`.
        """
        values = {"key": key} | ({} if labels is None else {"labels": json.dumps(dict(labels))})
        body = _file_of(ByImage(image))
        return Changed(**self._json("POST", f"/v1/items?{urlencode(values)}", body, "application/octet-stream"))

    def remove(self, key: str) -> Changed:
        """Remove an item: from the next query on it is not found.

        Raises:
            HashgrainError: `key-unknown`, `not-allowed`, `busy`.
        """
        return Changed(**self._json("DELETE", f"/v1/items/{quote(key)}"))

    def _answer(self, query: Asked, said: Mapping[str, Any]) -> Answer:
        one, name, generation = said["answers"][0], name_of(query), said["generation"]
        hits = tuple(
            Hit(
                query=name,
                level=Level(one["level"]),
                rank=hit["rank"],
                key=hit["key"],
                distance=hit["distance"],
                row=hit["row"],
                shard=hit["shard"],
                labels=hit["labels"],
                score=hit.get("score"),
                distances={Level(level): bits for level, bits in hit.get("distances", {}).items()},
                read_image=partial(self.image, hit["row"], generation),
            )
            for hit in one["hits"]
        )
        cutoff = None if (of := one.get("cutoff")) is None else CutOff(**of)
        return Answer(
            name,
            one["searched"],
            hits,
            tuple(one.get("survivors", ())),
            generation,
            one["eligible"],
            cutoff,
            one.get("nearest"),
        )

    def _json(self, method: str, path: str, body: bytes | None = None, kind: str | None = None) -> Any:
        said = self._request(method, path, body, kind)
        try:
            return json.loads(said)
        except ValueError as err:
            raise self._no_service(f"it did not answer with JSON: {shown(said[:80])}") from err

    def _request(self, method: str, path: str, body: bytes | None = None, kind: str | None = None) -> bytes:
        """Return the body of an answer, waiting while the service is busy."""
        headers = self._headers | ({} if kind is None else {"Content-Type": kind})
        until = time.monotonic() + self.timeout
        while True:
            answer, said = self._exchange(method, self._path + path, body, headers)
            if answer.status < 300:
                return said
            wait = float(answer.headers.get("Retry-After") or 1)
            if answer.status != 429 or time.monotonic() + wait > until:
                raise self._error(answer.status, said)
            time.sleep(wait)

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Send a request and read the answer; once more where a kept connection had ended before that."""
        while True:
            kept = True
            try:
                connection = self._idle.pop()
            except IndexError:
                kept, connection = False, self._kind(*self._place, timeout=self.timeout)
            try:
                connection.request(method, path, body, dict(headers))
                answer = connection.getresponse()
                said = answer.read()
            except (OSError, http.client.HTTPException) as err:
                connection.close()
                if not (kept and isinstance(err, _CLOSED)):
                    raise self._no_service(why(err) if isinstance(err, OSError) else shown(err)) from err
            else:
                self._idle.append(connection)
                return answer, said

    def _no_service(self, reason: str) -> HashgrainError:
        return HashgrainError(
            Reason.INDEX_MISSING, f"the service at {self.url} cannot be used ({reason}); start it, or give its URL"
        )

    def _error(self, status: int, said: bytes) -> HashgrainError:
        """Return the error that a problem stands for."""
        try:
            problem = json.loads(said)
            reason, detail = str(problem["reason"]), str(problem["detail"])
        except (ValueError, TypeError, KeyError):
            return self._no_service(f"it answered {status}: {shown(said[:80])}")
        known = {each.value for each in Reason}
        if reason in known:
            return HashgrainError(Reason(reason), detail)
        of = Reason.BUSY if status in {429, 503} else Reason.NOT_ALLOWED if status in {401, 403} else Reason.BAD_VALUE
        return HashgrainError(of, detail)


def _start(query: Asked) -> ByImage | ByKey | ByCode | None:
    return query.start if isinstance(query, ByExamples) else query


def _options(options: QueryOptions) -> dict[str, Any]:
    """Return the fields of a request that options of `Index.query` come to.

    Raises:
        TypeError: an option that does not exist.
        HashgrainError: `bad-value` for an engine: the service chooses it.
    """
    if unknown := options.keys() - QueryOptions.__annotations__:
        raise TypeError(f"query() got an unexpected keyword argument {min(unknown)!r}")
    engine = options.get("engine")
    if engine is not None and named(Engine, engine, "engine") is not Engine.AUTO:
        raise HashgrainError(Reason.BAD_VALUE, f"engine: {engine}; expected it left out: the service chooses")
    radius = options.get("radius")
    given: dict[str, Any] = dict(options) | {
        "k": options.get("k", K if radius is None else None),
        "exclude_self": options.get("exclude_self", False),
    }
    given.pop("engine", None)
    for name, value in given.items():
        if name == "level" and value is not None:
            given[name] = parse_level(value)
        elif isinstance(value, np.generic):
            given[name] = value.item()
        elif isinstance(value, Iterable) and not isinstance(value, str):
            given[name] = [one.item() if isinstance(one, np.generic) else one for one in value]
    return {name: value for name, value in given.items() if value is not None and value != []}


def _what(query: Asked, how: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a request that say what is looked for, but for a picture, which is the body."""
    fields: dict[str, Any] = {}
    if isinstance(query, ByExamples):
        fields |= {"positive": list(query.like), "negative": list(query.dislike)}
    match start := _start(query):
        case ByKey(key):
            fields["key"] = key
        case ByCode(code):
            by_level = code if isinstance(code, Mapping) else {_only_level(how): code}
            fields["codes"] = {level: _hex(values) for level, values in by_level.items()}
    if isinstance(start, ByImage | ByKey) and start.region is not None:
        region = start.region
        fields["region"] = [region.x, region.y, region.width, region.height]
        if start.region_mode is not None:
            fields["region_mode"] = str(start.region_mode)
    return {name: value for name, value in fields.items() if value != []}


def _only_level(how: Mapping[str, Any]) -> Level:
    """Return the level of a code that does not say its own."""
    if levels := cast("Sequence[str]", how.get("levels", ())):
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"a query is one code; give one at each of {', '.join(levels)}, by level ({{level: code}})",
        )
    return parse_level(how.get("level", Level.FUSED))


def _hex(code: Codes) -> str:
    given: object = code
    if not isinstance(given, np.ndarray) or given.dtype != np.uint8 or given.ndim != 1:
        raise HashgrainError(
            Reason.BAD_VALUE, f"a query's code is {shown(given)}; expected uint8[nbits / 8], lowest bit first"
        )
    return given.tobytes().hex()


def _text(value: object) -> str:
    """Return a value as a query string has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _file_of(query: ByImage) -> bytes:
    """Return the bytes of an image file; pixels become a PNG, which loses nothing."""
    match query.image:
        case bytes() as data:
            return data
        case Path() as path:
            try:
                return path.read_bytes()
            except (OSError, ValueError) as err:
                raise HashgrainError(
                    Reason.SHARD_MISSING, f"image {path} could not be read ({err}); give an image file"
                ) from err
        case pixels:
            import io

            from PIL import Image

            out = io.BytesIO()
            image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
            image.save(out, "PNG")
            return out.getvalue()
