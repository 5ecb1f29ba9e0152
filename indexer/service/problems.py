"""Errors as HTTP says them: a status for each reason, and a body as RFC 9457 has it."""

import itertools
import logging
import re
from collections.abc import Mapping
from dataclasses import asdict
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from starlette.responses import Response

from encoder.errors import HashgrainError, Reason
from encoder.runtime.console import printable
from indexer.service.lanes import OverloadedError
from indexer.wire import Problem, as_bytes

MEDIA_TYPE: Final = "application/problem+json"
MOST_DETAIL: Final = 1000
"""Characters of a detail: keys and filters in it are the client's."""
_LOG: Final = logging.getLogger(__name__)
_NUMBERS: Final = itertools.count(1)
_PATH: Final = re.compile(r"(?:(?<![a-z0-9+.-])[a-z][a-z0-9+.-]*:/)?(?:/[^\s/,;:'\"()]+)+/([^\s/,;:'\"()]*)")
"""A path of several parts, or a URL; the last part is kept. A scheme is looked for where a word begins: at every letter, a key
of 60,000 letters would hold up the loop for seconds."""

STATUS: Final[Mapping[Reason, int]] = MappingProxyType(
    {
        Reason.BAD_VALUE: 400,
        Reason.BUSY: 429,
        Reason.CODES_DAMAGED: 503,
        Reason.CODES_MISMATCH: 422,
        Reason.CODES_MISSING: 503,
        Reason.CODES_TWICE: 503,
        Reason.DUPLICATE_KEYS: 409,
        Reason.EXISTS: 409,
        Reason.FIT_IMPOSSIBLE: 503,
        Reason.GENERATION_MISSING: 410,
        Reason.IMAGE_REJECTED: 422,
        Reason.INDEX_DAMAGED: 503,
        Reason.INDEX_MISSING: 503,
        Reason.KEY_UNKNOWN: 404,
        Reason.LEAK: 503,
        Reason.LEVEL_UNKNOWN: 400,
        Reason.MODEL_INVALID: 422,
        Reason.MODEL_MISMATCH: 422,
        Reason.NOT_ALLOWED: 403,
        Reason.NO_RESOURCES: 503,
        Reason.PROCESS_DIED: 503,
        Reason.SHARD_CLASH: 409,
        Reason.SHARD_DAMAGED: 404,
        Reason.SHARD_MISSING: 404,
        Reason.SLICE_DOWN: 503,
        Reason.TOO_MANY_BAD: 422,
        Reason.TOO_NEW: 503,
        Reason.TRAINING_DIVERGED: 503,
        Reason.WEIGHTS_UNAVAILABLE: 503,
        Reason.WRITE_FAILED: 507,
    }
)
"""Of every reason; those that a service cannot meet are as those of a broken index."""


class RefusedError(Exception):
    """A request that the service does not take, whatever the index.

    Args:
        status: of HTTP.
        reason: a word for programs.
        detail: what was done, the value, what was expected.
        headers: that the answer has beside those of every problem.
    """

    def __init__(
        self, status: int, reason: str, detail: str, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        super().__init__(detail)
        self.status, self.reason, self.headers = status, reason, headers


def problem(err: Exception) -> Response:
    """Return the answer of a request that failed; the error is let go of."""
    try:
        return _problem(err)
    finally:
        let_go(err)


def let_go(err: BaseException) -> None:
    """Take away what an error knows of where it came from.

    The frames there hold the request's picture, and a future that holds the error, in a cycle: a picture would stay until the next
    collection of garbage, and it may have 32 MiB.
    """
    cause: BaseException | None = err
    while cause is not None:
        cause.__traceback__ = None
        cause = cause.__cause__ or cause.__context__


def _problem(err: Exception) -> Response:
    if isinstance(err, HashgrainError):
        status = STATUS[err.reason]
        again = status == HTTPStatus.TOO_MANY_REQUESTS or err.reason is Reason.SLICE_DOWN
        retry = {"Retry-After": "1"} if again else {}
        return refusal(RefusedError(status, err.reason, without_paths(str(err)), retry))
    if isinstance(err, OverloadedError):
        detail = f"{err.lane}: as much is waiting as may; ask again in {err.retry_after} s"
        return refusal(RefusedError(429, "overloaded", detail, {"Retry-After": str(err.retry_after)}))
    if isinstance(err, RefusedError):
        return refusal(err)
    number = next(_NUMBERS)
    _LOG.error("fault %d of the service", number, exc_info=err)
    return refusal(RefusedError(500, "fault", f"a fault of the service; its log has it as fault {number}"))


def refusal(err: RefusedError) -> Response:
    """Return a refusal as HTTP has it."""
    detail = printable(str(err))[:MOST_DETAIL]
    body = Problem(f"urn:hashgrain:{err.reason}", HTTPStatus(err.status).phrase, err.status, detail, err.reason)
    return Response(as_bytes(asdict(body)), err.status, {"Cache-Control": "no-store", **err.headers}, MEDIA_TYPE)


def without_paths(message: str) -> str:
    """Return a message with the last part of each path alone: an index of a stranger is not to list the disk."""
    return _PATH.sub(r"\1", message)
