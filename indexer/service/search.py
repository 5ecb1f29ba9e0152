"""A request to an answer in bytes: parsed on the loop, encoded and searched in the lanes, written where it was found."""

import time
from collections.abc import Awaitable, Callable, Sequence

from encoder.errors import HashgrainError, Reason
from encoder.images.region import Region
from indexer.index import Index
from indexer.service.encoding import Picture, PictureCodes
from indexer.service.guard import Receive
from indexer.service.searching import Task, group_of, is_heavy, query_of
from indexer.service.state import State
from indexer.wire import SearchRequest


async def search(state: State, receive: Receive, asked: SearchRequest, picture: bytes | None, began: float) -> bytes:
    """Answer one query.

    Args:
        state: of the service.
        receive: of the request, for who goes away.
        asked: what is looked for, and how.
        picture: what is looked for where that is a picture.
        began: `time.perf_counter` when the request came.

    Raises:
        HashgrainError: as `Index.query`, and `model-invalid` where no model is loaded.
        OverloadedError, ClientGoneError: see `Lane.submit`.
    """
    index = state.holder.current
    ms: dict[str, float] = {"receive": 1e3 * (time.perf_counter() - began)}
    codes = None
    if picture is not None or asked.region is not None:
        codes = await _encoded(state, receive, index, asked, picture, ms)
    task = Task(index, asked, query_of(asked, codes), began, ms)
    lane = state.lanes.heavy if is_heavy(asked) else state.lanes.quick
    answer, _ = await lane.submit(task, group_of(index, asked), gone(receive))
    return answer


async def search_batch(state: State, receive: Receive, asked: Sequence[SearchRequest], began: float) -> bytes:
    """Answer several queries of equal options as one batch.

    Raises:
        HashgrainError: `bad-value` where their options differ; as `search`.
        OverloadedError, ClientGoneError: see `Lane.submit`.
    """
    index = state.holder.current
    if len({group_of(index, one) for one in asked}) > 1:
        raise HashgrainError(Reason.BAD_VALUE, "queries of one batch differ in their options; expected equal ones")
    receiving = 1e3 * (time.perf_counter() - began)
    tasks = [Task(index, one, query_of(one, None), began, {"receive": receiving}) for one in asked]
    answer, _ = await state.lanes.batch.submit(tasks, None, gone(receive))
    return answer


async def _encoded(
    state: State, receive: Receive, index: Index, asked: SearchRequest, picture: bytes | None, ms: dict[str, float]
) -> PictureCodes:
    """Have a picture encoded, or a region of it or of a row's, and write down how long that took."""
    if not state.has_model:
        raise HashgrainError(
            Reason.MODEL_INVALID, "this service has no model, so pictures cannot be queries; give a key or a code"
        )
    region = None if asked.region is None else Region(*asked.region)
    if picture is None:
        key = asked.key or ""
        picture, _ = await state.lanes.pictures.submit(lambda: index.image(index.find(key)), gone=gone(receive))
    work = Picture(index, picture, region, asked.region_mode)
    codes, waited = await state.lanes.encode.submit(work, work.group, gone(receive))
    ms |= {"encode_wait": 1e3 * waited, "decode": 1e3 * codes.decode, "encode": 1e3 * codes.forward}
    return codes


def gone(receive: Receive) -> Callable[[], Awaitable[None]]:
    """Return what returns when the client is not there any more; a request that has been read has nothing else to say."""

    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    return left
