"""What an encoding run counts: images seen = rows + rejects, per shard and in total, and how many rejects are too many."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from encoder.codes.header import CodeHeader
from encoder.errors import Reject
from encoder.images.decoding.jpeg_header import Way
from encoder.runtime.console import Advance
from encoder.runtime.telemetry import Stage, Telemetry

_IN_WORDS: Final = {
    Way.NOT_JPEG: "not JPEG",
    Way.PROGRESSIVE: "progressive",
    Way.COLOUR: "in other colours than sRGB's",
    Way.ODD: "rare or damaged",
    Way.REFUSED: "that nvJPEG refused",
    Way.NO_DECODER: "for want of a hardware decoder",
}


@dataclass(slots=True)
class EncodeReport:
    """What a run did: seen = rows + rejects."""

    shards: int = 0
    skipped: int = 0
    """Shards whose code file was there and still true; their images count below."""
    seen: int = 0
    rows: int = 0
    rejects: Counter[Reject] = field(default_factory=Counter)
    bad_labels: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Files in archives that are neither images nor labels, by kind."""
    taken: int = 0
    """Images whose code an earlier run made."""
    ways: Counter[Way] = field(default_factory=Counter)
    """Images that were decoded for a GPU, by the way they went."""
    dropped: int = 0
    """Images whose codes were there before this run and are no longer, since they are gone or now rejected."""
    removed: list[str] = field(default_factory=list)
    """Names of code files that were removed."""
    gone: list[str] = field(default_factory=list)
    """Names of code files that stay though their shards are no longer there."""
    damaged: dict[str, str] = field(default_factory=dict)
    """Why, by shard path."""
    seconds: float = 0.0
    encoded: int = 0
    """Images seen in this run, without the skipped shards."""
    bytes: int = 0
    """Of their files."""
    devices: int = 1
    threads: int = 1
    """That decode, and on a CPU compute; each device has one more, which reads and writes, and a GPU one for each other stage."""
    gpu: float | None = None
    """Share of time in which the GPUs were busy, where their driver reports it."""
    telemetry: Telemetry = field(default_factory=Telemetry)
    """Where the time went."""

    def add(self, header: CodeHeader, reasons: Counter[Reject]) -> None:
        """Count a shard in."""
        self.shards += 1
        self.seen += header.seen
        self.rows += header.rows
        self.bad_labels += header.bad_labels
        self.rejects += reasons
        self.left_out.update(header.skipped)
        if header.shard.damage:
            self.damaged[header.shard.path] = header.shard.damage

    @property
    def bad(self) -> int:
        """Return the rejects, without those that were skipped for their content."""
        return sum(count for reject, count in self.rejects.items() if reject.bad)

    def shares(self) -> dict[str, float]:
        """Return the share of the threads' time that went into each stage, and into waiting."""
        alone = [Stage.READ, Stage.WRITE]
        if self.ways:
            alone = [Stage.NVJPEG, Stage.FORWARD, Stage.READ, Stage.HASH, Stage.WRITE]
        of_workers = {
            stage: self._share(stage, self.threads) for stage in (Stage.DECODE, Stage.FORWARD) if stage not in alone
        }
        of_others = {stage: self._share(stage, self.devices) for stage in alone}
        return of_workers | {"waiting": max(0.0, 1 - sum(of_workers.values()))} | of_others

    def decoded(self) -> str:
        """Return in words how images were decoded for a GPU: `93.1% on the GPU; on the CPU 5.9% progressive, 1.0% not JPEG`."""
        total = self.ways.total()
        others = [
            f"{count / total:.1%} {_IN_WORDS[way]}" for way, count in self.ways.most_common() if way is not Way.NVJPEG
        ]
        return f"{self.ways[Way.NVJPEG] / total:.1%} on the GPU" + (
            f"; on the CPU {', '.join(others)}" if others else ""
        )

    def _share(self, stage: Stage, threads: int) -> float:
        return self.telemetry.seconds[stage] / (threads * self.seconds) if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class EncodeProgress:
    """Where a run stands."""

    shards: int
    shards_total: int
    images: int
    bad: int
    bytes: int
    """Bytes of the shards that are dealt with, for a time of arrival."""
    bytes_total: int

    def show(self, advance: Advance) -> None:
        """Move a progress display."""
        shards = f"{self.shards}/{self.shards_total} shards"
        advance(self.bytes, self.bytes_total, f"{shards}, {self.images:,} images, {self.bad:,} rejected")
