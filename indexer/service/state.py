"""What the endpoints stand on: the index that is served, who does the work, and how the service is."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from indexer.service.encoding import Picture, PictureCodes, QueryEncoder
from indexer.service.health import Health
from indexer.service.holder import Holder
from indexer.service.items import Change, Changer
from indexer.service.lanes import Lane, LaneBounds
from indexer.service.metrics import Metrics
from indexer.service.searching import Searcher, Task
from indexer.service.settings import ServeSettings
from indexer.service.static import Page
from indexer.service.thumbnails import Thumbnails
from indexer.wire import Changed


class Lanes:
    """Who does what. Quick queries never stand behind slow ones, nor these behind pictures."""

    def __init__(self, settings: ServeSettings, encoder: QueryEncoder, metrics: Metrics) -> None:
        searcher, patience = Searcher(settings, metrics), settings.patience
        run = searcher.run
        self.quick: Lane[Task, bytes] = Lane(
            "quick", run, LaneBounds(settings.waiting_quick, 64, patience=patience), metrics
        )
        self.heavy: Lane[Task, bytes] = Lane(
            "heavy", run, LaneBounds(settings.waiting_heavy, 4, patience=patience), metrics
        )
        self.encode: Lane[Picture, PictureCodes] = Lane(
            "encode",
            encoder.encode,
            LaneBounds(settings.waiting_encode, 8, patience=patience),
            metrics,
        )

        self.batch: Lane[Sequence[Task], bytes] = Lane(
            "batch", searcher.run_batches, LaneBounds(settings.waiting_batch, patience=patience), metrics
        )
        self.pictures: Lane[Callable[[], Any], Any] = Lane(
            "pictures", _each, LaneBounds(settings.waiting_pictures, 1, 2, patience=patience), metrics
        )

        self.explain: Lane[Callable[[], Any], Any] = Lane(
            "explain", _each, LaneBounds(settings.waiting_explain, patience=patience), metrics
        )
        self.change: Lane[Change, Changed] | None = None
        """None: nothing can be changed."""
        if settings.writable is not None:
            most, changer = settings.waiting_change, Changer(settings.writable, encoder.limits)
            self.change = Lane(
                "change", changer.run, LaneBounds(most, most, patience=settings.change_patience), metrics
            )

    def all(self) -> "tuple[Lane[Any, Any], ...]":
        """Return all of them."""
        change = () if self.change is None else (self.change,)
        return self.quick, self.heavy, self.encode, self.batch, self.pictures, self.explain, *change


def _each(functions: Sequence[Callable[[], Any]]) -> list[Any]:
    outcomes = list[Any]()
    for function in functions:
        try:
            outcomes.append(function())
        except Exception as err:  # noqa: BLE001 - who asked for it gets it
            outcomes.append(err)
    return outcomes


@dataclass(slots=True)
class State:
    """What endpoints stand on."""

    settings: ServeSettings
    holder: Holder
    lanes: Lanes
    encoder: QueryEncoder
    thumbnails: Thumbnails
    metrics: Metrics
    page: Page
    has_model: bool
    health: Health = field(default_factory=Health)
    few: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "few"))
    """For what is asked now and then, and takes milliseconds."""
    infos: dict[str, bytes] = field(default_factory=dict)
    """`IndexInfo` of the generation that was asked for last."""
