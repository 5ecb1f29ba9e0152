"""What decided which images of a shard became rows, and with what labels: a code file made by other rules is made again."""

from collections.abc import Collection
from dataclasses import dataclass

from encoder.errors import Reject
from encoder.images.limits import Limits

CONTENT = frozenset({Reject.SAME_CONTENT, Reject.NEAR_CONTENT})
"""Of images that were skipped since another one has nearly what is in them."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What decided which images became rows."""

    limits: Limits = Limits()
    skip: str = "none"
    """Which images were skipped for their content: none, exact, or near:RADIUS in bits."""
    labels: str = ""
    """Digest of a table of labels, or "" without one."""
    decode: int = 1
    """Version of the decode; a code file of version 1 does not say."""

    def hold_for(self, wanted: "Rules", rejects: Collection[Reject]) -> bool:
        """Whether rows made by these rules are those that `wanted` would make.

        Args:
            wanted: rules of a run.
            rejects: why images were rejected under these rules: a higher limit changes nothing where nothing was over it.
        """
        return (
            (self.decode, self.labels) == (wanted.decode, wanted.labels)
            and _holds(self.limits.max_bytes, wanted.limits.max_bytes, Reject.TOO_LARGE in rejects)
            and _holds(self.limits.max_pixels, wanted.limits.max_pixels, Reject.TOO_MANY_PIXELS in rejects)
            and (self.skip == wanted.skip or (wanted.skip == "none" and CONTENT.isdisjoint(rejects)))
        )

    def codes_hold_for(self, wanted: "Rules") -> bool:
        """Whether the code of an image that is a row by these rules is the one that it would have by `wanted`."""
        return self.decode == wanted.decode and self.limits.max_pixels <= wanted.limits.max_pixels


def _holds(limit: int, wanted: int, any_over: bool) -> bool:
    return limit == wanted or (limit < wanted and not any_over)
