"""Sidecars: files of labels beside an image. Which image they belong to, and what is in them.

A sidecar shares its image's name: all of it (`IMG.jpg.json`), the name without the ending (`IMG.json`), or, as webdataset has it,
the name up to its first dot (`0001.json` for `0001.left.jpg` and `0001.right.jpg`). Endings may be written in any case.
"""

import codecs
import json
import re
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from encoder.images.labels.values import BadLabels, Labels, flatten
from encoder.runtime.hash_map import HashMap
from encoder.runtime.interpreter import let_go

SIDECARS: Final = (".json", ".cls", ".txt")
MAX_SIDECAR_BYTES = 1 << 20
MAX_WAITING = 64 << 20
"""Bytes of memory for sidecars of an archive whose image may yet come: about 50,000; one normally stands beside its image."""

_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")


class Sidecar(NamedTuple):
    """What the name of a sidecar says."""

    stem: str
    """What it shares with the name of its image: one of `stems_of`."""
    suffix: str
    """In lower case."""


def sidecar_of(name: str) -> Sidecar | None:
    """Return what the name of a file says of it as a sidecar, POSIX style; None where it is none."""
    stem = _without_ending(name)
    suffix = name[len(stem) :].lower()
    return Sidecar(stem, suffix) if suffix in SIDECARS else None


def stems_of(image: str) -> tuple[str, ...]:
    """Return what the sidecars of an image are called without their ending, the least specific first.

    `a/0001.left.jpg` has `a/0001`, `a/0001.left` and `a/0001.left.jpg`. Labels of a later one win.
    """
    begin, without = image.rfind("/") + 1, _without_ending(image)
    dot = image.find(".", begin)
    if dot == len(without):  # one dot, as in nearly all names
        return (without, image)
    up_to_dot = image[:dot] if dot > begin else without
    return tuple(dict.fromkeys((up_to_dot, without, image)))


def read_sidecar(name: str, data: bytes | None) -> tuple[Labels, list[str]]:
    """Read the labels in a sidecar.

    Args:
        name: of the file. `.json`: an object, see `labels.flatten`. `.cls`: one class, a whole number or a name, as label `cls`.
            `.txt`: a caption, as label `caption`.
        data: its content: UTF-8, or UTF-16 or UTF-32 with a byte-order mark; None for more than `MAX_SIDECAR_BYTES`.

    Returns:
        The labels, and a line for each reason why something is not among them.
    """
    if data is None:
        return {}, [f"larger than {MAX_SIDECAR_BYTES:,} bytes"]
    try:
        text = _decoded(data)
        if not name.lower().endswith(".json"):
            return flatten(_one_value(name, text.strip()))
        content = _JSON.decode(text)
    except RecursionError:
        return {}, ["nested too deep"]
    except ValueError as err:
        return {}, [f"not {'JSON' if isinstance(err, json.JSONDecodeError) else 'text in UTF-8'}: {err}"]
    if not isinstance(content, dict):
        return {}, ["not a JSON object"]
    return flatten(content)


def _decoded(data: bytes) -> str:
    encoding = next((name for mark, name in _ENCODINGS if data.startswith(mark)), "utf-8")
    return data.decode(encoding)


def _one_value(name: str, text: str) -> dict[str, object]:
    if not text:
        return {}
    if name.lower().endswith(".txt"):
        return {"caption": text}
    return {"cls": int(text) if _INTEGER.fullmatch(text) else text}


def _integer(digits: str) -> int | str:
    """Return a whole number; one of thousands of digits stays text, since it takes time that grows with their square."""
    return int(digits) if len(digits) <= 20 else digits


_JSON: Final = json.JSONDecoder(parse_int=_integer)


class FolderSidecars:
    """The sidecars in a folder, by the images they belong to.

    Args:
        names: of the files in the folder.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._by_stem = defaultdict[str, list[tuple[int, str]]](list)
        for name in names:
            if sidecar := sidecar_of(name):
                self._by_stem[sidecar.stem].append((SIDECARS.index(sidecar.suffix), name))

    def of(self, image: str) -> list[str]:
        """Return the names of an image's sidecars, in the order in which their labels are taken: later ones win."""
        return [name for stem in stems_of(image) for _, name in sorted(self._by_stem.get(stem, ()))]


@dataclass(slots=True)
class _Waiting:
    """Labels of the sidecars with one stem, for images yet to come."""

    names: list[str] = field(default_factory=list)
    labels: Labels = field(default_factory=dict)
    used: bool = False
    nbytes: int = 500
    """About how much memory they take, with what holds them."""

    def add(self, name: str, labels: Labels) -> None:
        """Take the labels of another one."""
        self.names.append(name)
        self.labels |= labels
        self.nbytes += sum(map(sys.getsizeof, (name, labels, *labels, *labels.values())))


class ArchiveSidecars:
    """Brings the images and sidecars of an archive together, in whatever order its members come.

    It holds two hashes per image, and sidecars of at most `MAX_WAITING` bytes. Of several values of a field the last one in
    the archive counts; of sidecars that all came before their image, that of the most specific name.

    Args:
        bad: counts sidecars without an image, but not captions: any text file may be called `.txt`.
    """

    def __init__(self, bad: BadLabels) -> None:
        self.texts = 0
        """Files `.txt` without an image, known once it is closed."""
        self._bad = bad
        self._names = HashMap()  # hashes of whole names, and of names without their endings
        self._up_to_dot = defaultdict[str, list[str]](list)
        self._waiting = OrderedDict[str, _Waiting]()
        self._nbytes = 0

    def image(self, name: str) -> Labels:
        """Take note of an image, and return the labels of its sidecars that came before."""
        stems = stems_of(name)
        without = stems[-2] if len(stems) > 1 else name
        self._names[hash(name)] = 1
        self._names[hash(without)] = 1
        if len(stems) > 2:
            self._up_to_dot[stems[0]].append(without)
        labels: Labels = {}
        for stem in stems if self._waiting else ():
            if waiting := self._waiting.get(stem):
                waiting.used = True
                labels |= waiting.labels
        return labels

    def sidecar(self, name: str, labels: Labels) -> list[str]:
        """Take the labels of a sidecar, and keep them for images that come later.

        Returns:
            The images that it belongs to and that came before, each by its name without the ending; one whose whole name the
            sidecar has (`IMG.jpg.json`) by that.
        """
        stem = _without_ending(name)
        owners = [stem] if hash(stem) in self._names else []
        owners += self._up_to_dot.get(stem, ())
        waiting = self._waiting.pop(stem, None) or _Waiting()
        self._nbytes -= waiting.nbytes if waiting.names else 0
        waiting.add(name, labels)
        waiting.used |= bool(owners)
        self._waiting[stem] = waiting
        self._nbytes += waiting.nbytes
        while self._nbytes > MAX_WAITING:
            self._let_go(f"no image has its name within {MAX_WAITING >> 20} MiB of other labels")
        return owners

    def close(self) -> None:
        """Count what still waits at the end of the archive."""
        while self._waiting:
            self._let_go("no image has its name")
        self._names.clear()
        let_go(self._up_to_dot)

    def _let_go(self, why: str) -> None:
        _, waiting = self._waiting.popitem(last=False)
        self._nbytes -= waiting.nbytes
        for name in () if waiting.used else waiting.names:
            if name.lower().endswith(".txt"):
                self.texts += 1
            else:
                self._bad.add(name, why)


def _without_ending(name: str) -> str:
    """Return a name up to its last dot; all of it where its last part has none, or only a leading one."""
    dot = name.rfind(".")
    return name[:dot] if dot > name.rfind("/") + 1 else name
