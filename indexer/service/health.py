"""Whether a service answers requests."""

from dataclasses import dataclass


@dataclass(slots=True)
class Health:
    """From the start to the end of a service."""

    starting: str = "the index is being read"
    """What the service still waits for; empty when the first query would be answered as fast as the hundredth."""
    draining: bool = False
    """It goes away: what is under way is answered, and nothing should be sent any more."""

    @property
    def waits_for(self) -> str:
        """Why nothing should be sent, in words; empty where it may be."""
        return "the service is going away" if self.draining else self.starting
