"""What an encoding run counts: images seen = rows + rejects, per shard and in total, and how many rejects are too many."""

from collections import Counter
from dataclasses import dataclass, field

from encoder.codefile import CodeHeader
from encoder.errors import HashgrainError, Reason, Reject
from encoder.telemetry import Stage, Telemetry

SHARE_NEEDS = 1000
"""Images seen before `--max-bad` as a share can end a run early."""


@dataclass(frozen=True, slots=True)
class MaxBad:
    """How many rejects a run may have: a count, or a share of the images seen."""

    count: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str) -> "MaxBad":
        """Read `100` (images), `1%` or `0.01` (share).

        Raises:
            HashgrainError: `bad-value`.
        """
        number = text.strip()
        try:
            if number.isdecimal():
                return cls(count=int(number))
            share = float(number.removesuffix("%")) / (100 if number.endswith("%") else 1)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise HashgrainError(
                Reason.BAD_VALUE, f"--max-bad {text!r} is no limit; give a count (100) or a share (1% or 0.01)"
            )
        return cls(share=share)

    def check(self, seen: int, rejects: int, *, final: bool) -> None:
        """Raise `too-many-bad` when the limit is passed."""
        over_count = self.count is not None and rejects > self.count
        over_share = self.share is not None and (final or seen >= SHARE_NEEDS) and rejects > self.share * seen
        if over_count or over_share:
            limit = f"{self.count:,}" if self.count is not None else f"{self.share:.2%}"
            raise HashgrainError(
                Reason.TOO_MANY_BAD,
                f"{rejects:,} of {seen:,} images were rejected, --max-bad allows {limit}; `encoder inspect --rejects` names them",
            )


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
    damaged: dict[str, str] = field(default_factory=dict)
    """Why, by shard path."""
    seconds: float = 0.0
    encoded: int = 0
    """Images seen in this run, without the skipped shards."""
    bytes: int = 0
    """Of their files."""
    devices: int = 1
    threads: int = 1
    """That decode and compute; each device has one more, which reads and writes."""
    gpu: float | None = None
    """Share of time in which the GPUs were busy, where their driver tells it."""
    telemetry: Telemetry = field(default_factory=Telemetry)
    """Where the time went."""

    def add(self, header: CodeHeader, reasons: Counter[Reject]) -> None:
        """Count a shard in."""
        self.shards += 1
        self.seen += header.seen
        self.rows += header.rows
        self.bad_labels += header.bad_labels
        self.rejects += reasons
        if header.shard.damage:
            self.damaged[header.shard.path] = header.shard.damage

    @property
    def bad(self) -> int:
        """Return the rejects, without those that were skipped for their content."""
        return sum(count for reject, count in self.rejects.items() if reject.bad)

    def shares(self) -> dict[str, float]:
        """Return the share of the threads' time that went into each stage, and into waiting."""
        of_workers = {stage: self._share(stage, self.threads) for stage in (Stage.DECODE, Stage.FORWARD)}
        of_readers = {stage: self._share(stage, self.devices) for stage in (Stage.READ, Stage.WRITE)}
        return of_workers | {"waiting": max(0.0, 1 - sum(of_workers.values()))} | of_readers

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
    """Bytes of the images that are done, for a time of arrival."""
    bytes_total: int
