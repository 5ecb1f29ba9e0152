"""How to encode, in plain data: no torch, so that `--help` is quick."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from encoder.codes.rules import Rules
from encoder.enum_names import take_names
from encoder.errors import HashgrainError, Reason
from encoder.images.limits import DECODE_VERSION, Limits
from encoder.levels import Level
from encoder.model.spec import Precision

SHARE_NEEDS = 1000
"""Images seen before `--max-bad` as a share can end a run early."""


class SkipDuplicates(StrEnum):
    """Which images are skipped."""

    NONE = "none"
    EXACT = "exact"
    """Those whose file has the bytes of an earlier one; they are not even decoded."""
    NEAR = "near"
    """These, and those whose fine code is within a radius of an earlier one's."""


class EncodeEngine(StrEnum):
    """Who hands shards to devices."""

    LOCAL = "local"
    """This process, to devices of this machine."""
    RAY = "ray"
    """Ray, to those of a cluster."""


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
                Reason.BAD_VALUE, f"max_bad {text!r} is not a limit; give a count (100) or a share (1% or 0.01)"
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
                f"{rejects:,} of {seen:,} images were rejected, {limit} may be; allow more, and the code files will name them",
            )


@dataclass(frozen=True, slots=True)
class EncodeSettings:
    """How to encode."""

    batch: int | None = None
    """Images the network sees at once; None: as `ImageEncoder.batch` says."""
    workers: int | None = None
    """Threads; None: one per core, shared among the devices."""
    device: str = "auto"
    """One, several with commas between, or `all`."""
    precision: Precision = Precision.AUTO
    limits: Limits = field(default_factory=Limits)
    max_bad: MaxBad = field(default_factory=MaxBad)
    labels_table: Path | None = None
    """A table of labels, see `encoder.images.labels.table_files`."""
    labels_key: str | None = None
    """Its column of keys; None: `key`, else `file_name`."""
    prefix_keys: bool = False
    """Put "SHARD/" before each key, for shards whose keys start over."""
    overwrite: bool = False
    """Replace code files that another model or another shard made, or that have more levels; what holds is kept all the same."""
    levels: tuple[Level, ...] | None = None
    """Which to code; None: all that the model has. Stages above the highest are not computed."""
    skip: SkipDuplicates = SkipDuplicates.NONE
    """Which images are skipped because their content came before, in this run or in code files that are kept."""
    near_radius: int = 3
    """In bits of the fine code, for SkipDuplicates.NEAR."""
    prune: bool = False
    """Remove the code files of shards that are no longer there, also of those that were not named."""
    profile: Path | None = None
    """Where a trace of the run is written."""

    engine: EncodeEngine = EncodeEngine.LOCAL
    address: str | None = None
    """Of the cluster, as `encoder.runtime.cluster.connected` takes it."""

    def __post_init__(self) -> None:
        take_names(self)

    def rules(self, labels: str = "") -> Rules:
        """Return what decides which images become rows; `labels` is the digest of a table of labels."""
        skip = f"near:{self.near_radius}" if self.skip is SkipDuplicates.NEAR else str(self.skip)
        return Rules(self.limits, skip, labels, DECODE_VERSION)
