"""What is known of millions of names, in little memory: from 64-bit hashes, which tell the names of a shard apart, to numbers."""

from array import array
from bisect import bisect_left
from typing import Final

import numpy as np

from encoder.runtime.interpreter import let_go

NEWEST: Final = 1 << 16
"""Entries that are kept as Python objects, about 130 bytes each; most shards have fewer."""


class HashMap:
    """A number by hash. Of the entries beyond the newest each takes 16 bytes, and a look at it a microsecond or two.

    Those are kept in sorted parts, each at least twice as long as the next, which are joined as they become longer.

    Args:
        newest: entries that are not sorted yet, at most.
    """

    def __init__(self, newest: int = NEWEST) -> None:
        self._newest, self._new = newest, dict[int, int]()
        self._parts: list[tuple[array[int], array[int]]] = []

    def get(self, key: int) -> int | None:
        """Return the number of a hash, the one that was set last; None: it has none."""
        if (value := self._new.get(key)) is not None or not self._parts:
            return value
        for keys, values in reversed(self._parts):
            at = bisect_left(keys, key)
            if at < len(keys) and keys[at] == key:
                return values[at]
        return None

    def __contains__(self, key: int) -> bool:
        return key in self._new or (bool(self._parts) and self.get(key) is not None)

    def __setitem__(self, key: int, value: int) -> None:
        self._new[key] = value
        if len(self._new) >= self._newest:
            self._settle()

    def clear(self) -> None:
        """Let go of all entries, without keeping the interpreter's lock for long."""
        self._parts.clear()
        let_go(self._new)

    def _settle(self) -> None:
        """Sort the newest entries, together with the parts that are not much longer."""
        count = len(self._new)
        keys = np.fromiter(self._new.keys(), np.int64, count)
        values = np.fromiter(self._new.values(), np.int64, count)
        let_go(self._new)
        while self._parts and len(self._parts[-1][0]) < 2 * len(keys):
            older_keys, older_values = self._parts.pop()
            keys = np.concatenate([np.frombuffer(older_keys, np.int64), keys])
            values = np.concatenate([np.frombuffer(older_values, np.int64), values])
        order = np.argsort(keys, kind="stable")
        keys, values = keys[order], values[order]
        last = np.append(keys[1:] != keys[:-1], True)  # of equal hashes the one that was set last
        self._parts.append((array("q", keys[last].tobytes()), array("q", values[last].tobytes())))
