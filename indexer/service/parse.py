"""Requests from JSON and query strings: the plain data of `wire.py`, checked. The only place that needs pydantic."""

from types import UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints
from urllib.parse import parse_qsl

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from encoder.errors import HashgrainError, Reason
from encoder.levels import Level
from indexer.service.settings import ServeSettings
from indexer.wire import BatchRequest, SearchRequest

T = TypeVar("T")

for _type in (SearchRequest, BatchRequest):  # nothing that nobody has named gets in, no NaN, no text for a number
    with_config(ConfigDict(extra="forbid", allow_inf_nan=False))(_type)
SEARCH: Final = TypeAdapter(SearchRequest)
BATCH: Final = TypeAdapter(BatchRequest)


MOST_FIELDS: Final = 64
"""Of a query string."""


def _is_list(kind: object) -> bool:
    if get_origin(kind) in {Union, UnionType}:
        return any(map(_is_list, get_args(kind)))
    return get_origin(kind) is tuple


LISTS: Final = frozenset(name for name, kind in get_type_hints(SearchRequest).items() if _is_list(kind))
"""Fields that hold several values, which a query string has with commas between them."""


def search_request(body: bytes, settings: ServeSettings) -> SearchRequest:
    """Return the request of a JSON body.

    Raises:
        HashgrainError: `bad-value`.
    """
    return _checked(_parsed(SEARCH, body), settings, picture=False)


def batch_request(body: bytes, settings: ServeSettings) -> BatchRequest:
    """Return the requests of a JSON body.

    Raises:
        HashgrainError: `bad-value`.
    """
    batch = _parsed(BATCH, body)
    if not 1 <= len(batch.queries) <= settings.most_queries:
        raise _bad("queries", len(batch.queries), f"1 to {settings.most_queries} of them")
    for request in batch.queries:
        _checked(request, settings, picture=False)
    return batch


def picture_request(query_string: bytes, settings: ServeSettings) -> SearchRequest:
    """Return the request of a query string, whose picture is the body.

    Raises:
        HashgrainError: `bad-value`.
    """
    values: dict[str, Any] = {}
    try:
        pairs = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise _bad("fields of the query string", "more", f"{MOST_FIELDS} at most") from None
    for name, text in pairs:
        if name in values:
            raise _bad(name, text, "given once")
        values[name] = text.split(",") if name in LISTS else text
    try:
        return _checked(SEARCH.validate_python(values), settings, picture=True)
    except ValidationError as err:
        raise _of(err) from None


def _parsed(adapter: "TypeAdapter[T]", body: bytes) -> T:
    try:
        return adapter.validate_json(body, strict=True)
    except ValidationError as err:
        raise _of(err) from None


def _of(err: ValidationError) -> HashgrainError:
    first = err.errors(include_url=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"])) or "the body"
    more = f" (and {err.error_count() - 1} more)" if err.error_count() > 1 else ""
    return HashgrainError(
        Reason.BAD_VALUE, f"{where[:80]}: {first['msg'][:200]}; got {str(first['input'])[:80]!r}{more}"
    )


def _checked(request: SearchRequest, settings: ServeSettings, *, picture: bool) -> SearchRequest:
    """Refuse what is more than the service does for one request, and what does not say what is looked for."""
    named = [name for name in ("key", "codes") if getattr(request, name) is not None]
    if len(named) + picture > 1 or not (named or picture or request.positive):
        given = ", ".join([*named, *(["a picture"] if picture else [])]) or "none of them"
        raise _bad("what is looked for", given, "one of key, codes, positive, or a picture as the body")
    answers = answers_of(request)
    for name, value, least, most in (
        ("offset", request.offset, 0, settings.most_hits),
        (
            "k + offset, at all levels side by side",
            answers * ((request.k or 0) + request.offset),
            0,
            settings.most_hits,
        ),
        ("k", request.k, 1, settings.most_hits),
        ("rerank", request.rerank, 1, settings.most_hits),
        ("budgets", max(request.budgets or (1,)), 1, 10 * settings.most_hits),
        ("weights", max(request.weights or (1,)), 0, 1000),
        ("characters of where", len(request.where or ""), 0, settings.most_where),
        ("positive", len(request.positive), 0, settings.most_examples),
        ("negative", len(request.negative), 0, settings.most_examples),
        ("levels", len(request.levels), 0, 8),
    ):
        if value is not None and not least <= value <= most:
            raise _bad(name, value, f"{least:,} to {most:,}")
    for name in ("radius", "nprobe"):
        if (value := getattr(request, name)) is not None and not 0 <= value < 1 << 31:
            raise _bad(name, value, "a whole number from 0 on")
    return request


def answers_of(request: SearchRequest) -> int:
    """Return how many answers a request has at most: one, or one for each level side by side."""
    return (len(request.levels) or len(Level)) if request.combine == "each" else 1


def _bad(name: str, value: object, expected: str) -> HashgrainError:
    return HashgrainError(Reason.BAD_VALUE, f"{name}: {str(value)[:80]}; expected {expected}")
