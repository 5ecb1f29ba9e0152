"""An index behind HTTP, with FastAPI: POST an image, GET the neighbours of a key, GET a picture.

usage: HASHGRAIN_INDEX=index uvicorn examples.service:app
"""

import os
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool

import indexer
from indexer import ByImage, ByKey, HashgrainError, Query

app = FastAPI(title="hashgrain")
index = indexer.open(os.environ.get("HASHGRAIN_INDEX", "index"))


def hits_of(what: Query, level: str | None, k: int) -> list[dict[str, Any]]:
    try:
        return [hit.as_dict() for hit in index.query(what, level=level, k=k, exclude_self=True)]
    except HashgrainError as err:
        raise HTTPException(400, {"reason": err.reason, "message": str(err)}) from err


@app.post("/search")
async def search(image: Request, level: str | None = None, k: int = 10) -> list[dict[str, Any]]:
    return await run_in_threadpool(hits_of, ByImage(await image.body(), "upload"), level, k)


@app.get("/similar/{key:path}")
def similar(key: str, level: str | None = None, k: int = 10) -> list[dict[str, Any]]:
    return hits_of(ByKey(key), level, k)


@app.get("/picture/{row}")
def picture(row: int) -> Response:
    if not 0 <= row < index.ntotal:
        raise HTTPException(404, f"row {row} of {index.ntotal}")
    return Response(index.image(row), media_type="image/*")
