"""The command that serves an index. Arguments in, one function call, lines out."""

import os
from pathlib import Path
from typing import Annotated

import typer

from encoder.errors import Reason
from encoder.runtime.console import notice
from indexer.common_cli import DEFAULT_INDEX, AllowUrl, ImagesUnder, ModelPath, read_token
from indexer.settings import ServeEngine, Trust

REMEDIES = {
    "serve": {
        Reason.BAD_VALUE: "--token-file, --host 127.0.0.1, --port",
        Reason.INDEX_DAMAGED: "indexer build CODES --out INDEX --overwrite",
        Reason.INDEX_MISSING: "indexer build CODES --out INDEX",
        Reason.MODEL_INVALID: "--model, --no-model",
        Reason.MODEL_MISMATCH: "--model, --no-model",
        Reason.WRITE_FAILED: "--writable",
    }
}
"""What an error's remedy is called on the command line."""


def serve(
    index: Annotated[
        str, typer.Argument(help="Folder of the index; with --engine ray one that every node sees, or a URL.")
    ] = str(DEFAULT_INDEX),
    host: Annotated[
        str, typer.Option(help="Address to listen at; one beyond this machine takes a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0: any that is free.")] = 8360,
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token that every request has to know.", show_default=False)
    ] = None,
    host_name: Annotated[
        list[str] | None,
        typer.Option(
            help="Name that the service is called by, behind a proxy for instance; repeatable.", show_default=False
        ),
    ] = None,
    images_under: ImagesUnder = None,
    allow_url: AllowUrl = None,
    writable: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the shards and codes of images that clients may add; they may remove any, then.",
            show_default="clients change nothing",
        ),
    ] = None,
    model: ModelPath = None,
    with_model: Annotated[
        bool,
        typer.Option("--with-model/--no-model", help="Whether pictures can be queries, else keys and codes alone."),
    ] = True,
    engine: Annotated[
        ServeEngine, typer.Option(help="local: this process holds the index; ray: processes of a Ray cluster do.")
    ] = ServeEngine.LOCAL,
    address: Annotated[
        str | None,
        typer.Option(help="Head of the Ray cluster.", show_default="RAY_ADDRESS, else a cluster of this machine alone"),
    ] = None,
    slices: Annotated[int, typer.Option(min=1, help="Slices of whole segments that the index is held in (ray).")] = 1,
    replicas: Annotated[int, typer.Option(min=1, help="Processes that hold each slice (ray).")] = 1,
    copy_to: Annotated[
        Path | None,
        typer.Option(
            help="Folder of each node's own disk that a slice's files are copied to, once (ray).",
            show_default="mapped where they are",
        ),
    ] = None,
    partial: Annotated[
        bool,
        typer.Option("--partial", help="Answer of the other slices, and say so, while one is down; else 503 (ray)."),
    ] = False,
) -> None:
    """Serve an index over HTTP, with a page to search it by: stop it with Ctrl-C.

    Example: indexer serve index --port 8360
    """
    # OpenMP's threads that wait by spinning would keep the cores from searches, and from each other where there are too few
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from indexer.index import Index
    from indexer.service.server import serve as run_serve
    from indexer.service.settings import ServeSettings

    settings = ServeSettings(
        host=host,
        port=port,
        token=None if token_file is None else read_token(token_file),
        host_names=tuple(host_name or ()),
        writable=writable,
    )
    beside = {"--address": address, "--copy-to": copy_to, "--slices": slices > 1, "--replicas": replicas > 1}
    given = [name for name, value in (beside | {"--partial": partial}).items() if value]
    if given and engine is not ServeEngine.RAY:
        raise typer.BadParameter(f"{', '.join(given)}: of a cluster; give --engine ray, too", param_hint=given[0])
    if writable is not None and (images_under or allow_url):
        images_under = [*(images_under or ()), writable]
    trust = Trust(images_under=images_under, allow_url=allow_url or ())
    if engine is ServeEngine.RAY:
        from indexer.service.in_slices import serve_in_slices
        from indexer.slices.ray_slices import SlicePlan

        copies = None if copy_to is None else str(copy_to.absolute())
        plan = SlicePlan(slices, replicas, partial=partial, copy_to=copies, address=address)
        serve_in_slices(index, settings, plan, model=model, trust=trust, with_model=with_model)
        return
    run_serve(Index(Path(index), model, notify=notice, trust=trust), settings, with_model=with_model)
