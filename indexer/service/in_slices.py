"""A service whose index is held by a cluster: this process answers, fans out and merges; it maps no key and no code."""

import hashlib
import platform
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Final

from encoder.errors import HashgrainError, Reason
from encoder.plural import plural
from encoder.runtime.cluster import connected
from encoder.runtime.console import notice
from encoder.runtime.files import is_url
from encoder.runtime.publish import write_bytes
from indexer.index import Index
from indexer.service.metrics import Gauges
from indexer.service.server import serve
from indexer.service.settings import ServeSettings
from indexer.settings import Trust
from indexer.slices.cut import cut
from indexer.slices.holding import SliceSettings
from indexer.slices.line_fan import LineFan, Replicas
from indexer.slices.local_copy import bring, needed, read_pointer
from indexer.slices.ray_slices import SlicePlan, new_secret, started
from indexer.slices.sliced import SlicedSnapshot
from indexer.storage.current import POINTER, read_current

LOOK_EVERY: Final = 5.0
"""Seconds between two requests for the pointer of an index at a URL."""


def serve_in_slices(
    index: str,
    settings: ServeSettings,
    plan: SlicePlan,
    *,
    model: Path | None = None,
    trust: Trust = Trust(),
    with_model: bool = True,
) -> None:
    """Serve an index whose slices are held by a Ray cluster, until a signal ends it and them.

    Args:
        index: folder that every node sees, or a URL.
        settings: how to serve.
        plan: slices, replicas and cluster.
        model: model file for query images, in place of the index's own.
        trust: what of the index is believed.
        with_model: whether pictures can be queries.

    Raises:
        HashgrainError: `bad-value` where Ray is not installed, no cluster answers, or an index at a URL is to be changed or not
            copied; `slice-down` where Ray cannot start the slices; as `indexer.service.server.serve`.
    """
    if is_url(index) and (settings.writable is not None or plan.copy_to is None):
        raise HashgrainError(
            Reason.BAD_VALUE,
            f"{index} is a URL: it is only read, and copied; give a folder for the copies, or a folder for it",
        )
    with _ended_by_signal(), ExitStack() as stack:
        folder = stack.enter_context(local_folder(index))
        manifest = read_current(folder)[1]
        parts = cut(manifest, plan.slices)
        if len(parts) < plan.slices:
            notice(f"{index} has {plural(len(parts), 'segment')}, so it is held in as many slices")
            plan = replace(plan, slices=len(parts))
        largest = max(sum(manifest.files[name][0] for name in needed(manifest, part)) for part in parts)
        ray = stack.enter_context(connected(plan.address))
        notice(f"Ray starts {plural(plan.slices * plan.replicas, 'process')} that hold {plural(plan.slices, 'slice')}")
        stored = index if is_url(index) else str(folder)
        plan = replace(plan, name=name_of(stored, settings.port))
        base = SliceSettings(stored, 0, plan.slices, new_secret(), plan.copy_to, settings.warm_bytes, trust)
        replicas = stack.enter_context(started(ray, plan, base, largest))
        opened = in_slices(folder, replicas, plan, model=model, trust=trust)
        serve(opened, replace(settings, warm_bytes=0), with_model=with_model, gauges=gauges_of(replicas))


def in_slices(folder: Path, replicas: Replicas, plan: SlicePlan, *, model: Path | None, trust: Trust) -> Index:
    """Open the current generation of an index over those who hold its slices, once each has somebody who does.

    Raises:
        HashgrainError: `index-missing`, `index-damaged`; `slice-down` when one that was there is gone again.
    """
    while not all(replicas.up):
        time.sleep(0.1)
    pointer = read_pointer(str(folder))
    generation, manifest = read_current(folder, pointer)
    parts = cut(manifest, plan.slices)
    fan = LineFan(replicas, pointer, parts, partial=plan.partial).at(pointer, parts)
    opened = SlicedSnapshot(folder, generation, manifest, pointer, fan, plan.slices, trust=trust)
    return Index.of(opened, model)


def name_of(index: str, port: int) -> str:
    """Return what the applications of Serve are called: the same when the same command is started here again, after a kill."""
    return f"hashgrain-{hashlib.sha256(f'{index} {platform.node()} {port}'.encode()).hexdigest()[:8]}"


def gauges_of(replicas: Replicas) -> Gauges:
    """Return what is to be seen of slices in `/metrics`."""
    return {"hashgrain_slices_down": ("Slices that nothing holds now.", lambda: float(replicas.up.count(0)))}


@contextmanager
def local_folder(index: str) -> Iterator[Path]:
    """Yield the folder of an index, or what a service reads itself of one at a URL, manifest and model, kept up to date."""
    if not is_url(index):
        yield Path(index).absolute()
        return
    stop = threading.Event()
    with TemporaryDirectory(prefix="hashgrain-mirror-") as scratch:
        folder = Path(scratch)
        _follow(index, folder)

        def watch() -> None:
            while not stop.wait(LOOK_EVERY):
                with suppress(HashgrainError):  # it is asked again
                    _follow(index, folder)

        thread = threading.Thread(target=watch, name="mirror", daemon=True)
        thread.start()
        try:
            yield folder
        finally:
            stop.set()
            thread.join(LOOK_EVERY)


def _follow(url: str, folder: Path) -> None:
    pointer, there = read_pointer(url), folder / POINTER
    if not there.is_file() or there.read_bytes() != pointer:
        bring(url, pointer, folder, None)
        write_bytes(there, pointer)


@contextmanager
def _ended_by_signal() -> Iterator[None]:
    """Let SIGTERM unwind what the block holds, as Ctrl-C does: processes of a cluster would else go on without anybody."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
