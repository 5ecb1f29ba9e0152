"""An index behind HTTP, with FastAPI: POST an image, GET the neighbours of a key, GET a picture.

usage: HASHGRAIN_INDEX=index uvicorn examples.service:app
"""

import os
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

import indexer
from indexer import ByImage, ByKey, HashgrainError

app = FastAPI(title="hashgrain")
index = indexer.open(os.environ.get("HASHGRAIN_INDEX", "index"))


@app.exception_handler(HashgrainError)
def refused(_: Request, error: HashgrainError) -> JSONResponse:
    return JSONResponse({"reason": error.reason, "message": str(error)}, 400)


@app.post("/search")
async def search(image: Request, level: str | None = None, k: int = 10) -> list[dict[str, Any]]:
    photo = ByImage(await image.body(), "upload")
    return [hit.as_dict() for hit in await run_in_threadpool(lambda: index.query(photo, level=level, k=k))]


@app.get("/similar/{key:path}")
def similar(key: str, level: str | None = None, k: int = 10) -> list[dict[str, Any]]:
    return [hit.as_dict() for hit in index.query(ByKey(key), level=level, k=k, exclude_self=True)]


@app.get("/picture/{key:path}")
def picture(key: str) -> Response:
    return Response(index.image(index.find(key)), media_type="image/*")
