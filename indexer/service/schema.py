"""The OpenAPI document: what may be asked, what is answered, with examples. Types are those of `wire.py`."""

from importlib.metadata import version
from typing import Any, Final

from pydantic import TypeAdapter

from encoder.images.region import RegionMode
from encoder.levels import Level
from indexer.service.settings import ServeSettings
from indexer.service.thumbnails import SIDES
from indexer.wire import (
    BatchRequest,
    BatchResponse,
    Changed,
    Explanation,
    IndexInfo,
    Item,
    Problem,
    SearchRequest,
    SearchResponse,
    as_bytes,
)

TYPES: Final[tuple[type, ...]] = (
    SearchRequest,
    BatchRequest,
    SearchResponse,
    BatchResponse,
    Explanation,
    IndexInfo,
    Item,
    Changed,
    Problem,
)
REQUESTS: Final = frozenset({SearchRequest, BatchRequest})
REFERENCE: Final = "#/components/schemas/{model}"
BY_KEY: Final = {"key": "photos/0001.jpg", "level": "fused", "k": 3}
BY_CODE: Final = {"codes": {"fine": "26e5f09bcd31a427"}, "level": "fine", "radius": 12}
ANSWER: Final = {
    "generation": "gen-000001",
    "rows": 1000,
    "query": {"name": "key:photos/0001.jpg", "codes": {"fused": "26e5f09bcd31a427"}, "labels": {"class": "cat"}},
    "answers": [
        {
            "level": "fused",
            "searched": "fused",
            "hits": [
                {
                    "key": "photos/0007.jpg",
                    "row": 6,
                    "rank": 1,
                    "distance": 3,
                    "labels": {"class": "cat"},
                    "shard": "photos-0000.tar",
                }
            ],
            "eligible": 1000,
        }
    ],
    "ms": {"wait": 0.1, "search": 0.3, "hits": 0.1, "total": 0.6},
    "batch": 1,
}
PROBLEM: Final = {
    "type": "urn:hashgrain:key-unknown",
    "title": "Not Found",
    "status": 404,
    "detail": "key 'photos/9999.jpg' is not among the 1,000 of index; keys are spelled as in the shards",
    "reason": "key-unknown",
}
LEFT_TO_JSON: Final = frozenset({"key", "codes"})
"""Fields of a search that a query string does not have: what is looked for there is the body."""


def document(settings: ServeSettings) -> bytes:
    """Return the OpenAPI document as JSON."""
    _, schemas = TypeAdapter.json_schemas(
        [(kind.__name__, "validation" if kind in REQUESTS else "serialization", TypeAdapter(kind)) for kind in TYPES],
        ref_template=REFERENCE,
    )
    components: dict[str, Any] = {"schemas": schemas["$defs"]}
    paths: dict[str, dict[str, Any]] = {}
    for path, method, of in _operations(schemas["$defs"]):
        paths.setdefault(path, {})[method] = _operation(*of)
    made = paths["/v1/items"]["post"]["responses"]
    made["201"] = made.pop("200")
    content: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "hashgrain",
            "version": version("hashgrain"),
            "description": "Image search by binary codes. Every failure is a problem as RFC 9457 has it.",
        },
        "paths": paths,
        "components": components,
    }
    if settings.token is not None:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        content["security"] = [{"token": []}]
    return as_bytes(content)


def _operation(
    summary: str, parameters: list[dict[str, Any]], body: dict[str, Any] | None, answer: dict[str, Any]
) -> dict[str, Any]:
    problem = {"application/problem+json": {"schema": _of(Problem), "example": PROBLEM}}
    operation: dict[str, Any] = {
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done.", "content": answer},
            "4XX": {"description": "The request cannot be answered; `detail` says why.", "content": problem},
            "429": {
                "description": "Too much is waiting.",
                "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}},
                "content": problem,
            },
            "503": {"description": "Not ready, or the index cannot be read.", "content": problem},
        },
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": body}
    return operation


def _operations(schemas: dict[str, Any]) -> list[tuple[str, str, tuple[Any, ...]]]:
    """Return every operation: path, method, and its summary, parameters, body and answer."""
    picture = {"schema": {"type": "string", "format": "binary"}}
    pictures = {f"image/{kind}": picture for kind in ("jpeg", "png", "webp")} | {"application/octet-stream": picture}
    by_json = {
        "application/json": {
            "schema": _of(SearchRequest),
            "examples": {"by key": {"value": BY_KEY}, "by code": {"value": BY_CODE}},
        }
    }
    several = {"application/json": {"schema": _of(BatchRequest), "example": {"queries": [BY_KEY]}}}
    row = _parameter("row", "path", {"type": "integer", "minimum": 0}, "Of an answer.")
    generation = _parameter("generation", "query", {"type": "string"}, "That the answer named.")
    side = _parameter("side", "query", {"enum": list(SIDES)}, "Pixels of the square that it fits into.")
    count = _parameter("count", "query", {"type": "integer", "minimum": 1, "maximum": 60}, "How many.")
    key = _parameter("key", "path", {"type": "string", "minLength": 1}, "Of an image that the index holds.")
    new_key = _parameter("key", "query", {"type": "string", "minLength": 1, "maxLength": 512}, "Of the image.") | {
        "required": True
    }
    labels = _parameter("labels", "query", {"type": "string"}, "A JSON object.")
    looked = _parameter("query", "query", {"type": "string"}, "Key of what was looked for.")
    explained = [
        _parameter("hit", "query", {"type": "string"}, "Key of the hit."),
        _parameter(
            "level", "query", {"enum": [str(level) for level in Level]}, "Which code; none: fused, or the only one."
        ),
        _parameter("region", "query", {"type": "string"}, "x,y,width,height of the part that was looked for."),
        _parameter("region_mode", "query", {"enum": [str(mode) for mode in RegionMode]}, "How it became a code."),
    ]
    return [
        (
            "/v1/search",
            "post",
            (
                "Find what looks like a picture, a row of the index, a code, or several rows",
                _options(schemas["SearchRequest"]),
                by_json | pictures,
                {"application/json": {"schema": _of(SearchResponse), "example": ANSWER}},
            ),
        ),
        ("/v1/batch", "post", ("Answer up to 64 queries of equal options", [], several, _json(BatchResponse))),
        ("/v1/index", "get", ("What is served", [], None, _json(IndexInfo))),
        (
            "/v1/random",
            "get",
            (
                "Rows at random",
                [count],
                None,
                {"application/json": {"schema": {"type": "array", "items": _of(Item)}}},
            ),
        ),
        ("/v1/items/{key}", "get", ("What is known of a key", [key], None, _json(Item))),
        (
            "/v1/items",
            "post",
            ("Add an image, or replace the one of its key", [new_key, labels], pictures, _json(Changed)),
        ),
        ("/v1/items/{key}", "delete", ("Remove an image", [key], None, _json(Changed))),
        ("/v1/images/{row}", "get", ("The image file of a row", [row, generation], None, {"image/*": picture})),
        (
            "/v1/thumbnails/{row}",
            "get",
            ("The image of a row, small", [row, generation, side], None, {"image/jpeg": picture}),
        ),
        ("/v1/explain", "get", ("What a hit is near a key for", [looked, *explained], None, _json(Explanation))),
        ("/v1/explain", "post", ("What a hit is near a picture for", explained, pictures, _json(Explanation))),
        ("/healthz", "get", ("Whether the process lives", [], None, {"application/json": {}})),
        ("/readyz", "get", ("Whether requests should be sent here", [], None, {"application/json": {}})),
        ("/metrics", "get", ("For Prometheus", [], None, {"text/plain": {}})),
    ]


def _options(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters of a search by picture: the fields of a request."""
    return [
        {"name": name, "in": "query", "schema": of, "description": of.get("description", ""), "explode": False}
        for name, of in schema["properties"].items()
        if name not in LEFT_TO_JSON
    ]


def _parameter(name: str, place: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "schema": schema,
        "description": description,
    }


def _json(kind: type) -> dict[str, Any]:
    return {"application/json": {"schema": _of(kind)}}


def _of(kind: type) -> dict[str, Any]:
    return {"$ref": REFERENCE.format(model=kind.__name__)}
