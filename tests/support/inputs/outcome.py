"""What came out of a command, read from its files and its lines, and the same in short plain words."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import indexer
from encoder.codes.file import CodeFile, open_codes
from encoder.errors import HashgrainError, Reject
from encoder.images.labels.values import BadLabel, Labels, text_of
from encoder.levels import Level

NAMED = 4
"""Images, labels, values and bad labels that a line names."""
LONGEST = 40
"""Characters of a value that a line shows."""
OTHERS_WORDS = re.compile(
    r"(?<=not JSON): .*|(?<=not text in UTF-8): .*|: none of .*|^(?!error)\w*(?:[eE]rror|Exception): .*|(?<=footer is broken): [^;]*"
)
"""What changes with the versions of Pillow and Python, and what is said often enough."""
BYTES = re.compile(r"(?<=byte )\d[\d,]*|\d[\d,]* of \d[\d,]*(?= bytes)")
"""So do the sizes of files that they write."""
PROGRESS = re.compile(r"(?:encoding|building|fitting) \d+%|\S+ labels? could not be kept|building the index")
"""Lines to stderr that are not shown: bad labels are shown themselves."""


@dataclass
class Outcome:
    """What came out; code files are read once a command has ended."""

    command: str
    code: int
    """Exit code."""
    out: str
    err: str
    count: int = 0
    """Rows of all code files."""
    rows: dict[str, Labels] = field(default_factory=dict)
    """The labels of each image that has a code, by key."""
    kinds: dict[str, str] = field(default_factory=dict)
    """Of labels, by field."""
    rejects: dict[str, tuple[Reject, str]] = field(default_factory=dict)
    """Why an image has no code, by key."""
    bad_labels: list[BadLabel] = field(default_factory=list)
    """Labels that could not be kept as they are."""
    fine: dict[str, bytes] = field(default_factory=dict)
    """Code at the level fine, by key."""
    pictures: dict[str, bytes | None] = field(default_factory=dict)
    """What an index reads back from the shards, by key; None for what it does not find."""
    notes: list[str] = field(default_factory=list)
    """What a case found out beside that."""

    def read_codes(self, folder: Path) -> None:
        """Take in the code files of a folder."""
        for path in sorted(folder.glob("*.h5")):
            with open_codes(path) as file:
                self.count += file.header.rows
                labels = _labels_of(file)
                codes = file.codes(Level.FINE)
                for row, key in enumerate(file.keys()):
                    self.rows[key], self.fine[key] = labels[row], codes[row].tobytes()
                self.kinds |= {name: str(kind) for name, kind in file.label_fields().items()}
                self.rejects |= {row.key: (row.reject, row.detail) for row in file.rejects()}
                self.bad_labels += file.bad_labels()

    def read_index(self, folder: Path) -> None:
        """Read back the pictures of all rows of an index."""
        index = indexer.open(folder)
        for row in range(index.ntotal):
            try:
                picture = index.image(row)
            except HashgrainError:
                picture = None
            self.pictures[index.key(row)] = picture

    @property
    def skipped(self) -> dict[str, int]:
        """Files that were left out, by kind, as the command tells it."""
        told = re.search(r"skipped [\d,]+ files?: ([^;)\n]+)", self.out + self.err)
        kinds = [part.partition(" ") for part in told[1].split(", ")] if told else []
        return {kind: int(count.replace(",", "")) for count, _, kind in kinds}

    @property
    def done(self) -> int:
        """Shards whose codes were there already."""
        return _number(r"\((\d+) already done\)", self.out)

    @property
    def taken(self) -> int:
        """Images whose codes an earlier run made."""
        return _number(r"(\d+) images? had (?:its code|their codes) from an earlier run", self.out)

    @property
    def coded(self) -> int:
        """Images that the network saw in this run."""
        known = self.taken + len(self.rejects) if self.done == 0 else self.taken
        return max(0, _number(r"this run: (\d+) images?", self.out) - known)

    def same_codes(self, first: str, *others: str, most: int = 3) -> None:
        """Note, and demand, that images have one code: but for a few bits of 64, which arithmetic may turn."""
        codes = {key: int.from_bytes(self.fine[key]) for key in (first, *others)}
        apart = {other: (codes[first] ^ codes[other]).bit_count() for other in others}
        unlike = {other: bits for other, bits in apart.items() if bits > most}
        self.notes.append(
            f"{_listed(list(map(quoted, others)))}: the code of {quoted(first)}, give or take {most} of 64 bits"
        )
        assert not unlike, f"{unlike} bits from {first}"

    def check(
        self,
        *,
        code: int = 0,
        rows: int | None = None,
        keys: Collection[str] | None = None,
        rejects: Mapping[str, Reject] | None = None,
        skipped: Mapping[str, int] | None = None,
        labels: Mapping[str, Labels] | None = None,
        bad: Collection[str] = (),
        says: str = "",
        same: tuple[str, ...] = (),
    ) -> None:
        """Hold it against what is expected; what is not given is not held, but for exit code, rejects, skipped and bad labels.

        Args:
            code: the exit code.
            rows: how many images have a code.
            keys: which.
            rejects: why which image has none.
            skipped: files that are left out.
            labels: of images that have them, by key: these and no others, unless the value is `...`.
            bad: files or images whose labels could not be kept.
            says: what a line on stderr has in it.
            same: images that have one code.
        """
        told = f"{self.command}\n{self.out}{self.err}"
        assert self.code == code, told
        assert rows is None or self.count == rows, told
        assert keys is None or sorted(self.rows) == sorted(keys), told
        assert {key: reject for key, (reject, _) in self.rejects.items()} == (rejects or {}), told
        assert self.skipped == (skipped or {}), told
        for key, own in (labels or {}).items():
            assert self.rows[key] == own, f"{key}: {self.rows[key]}\n{told}"
        assert sorted({each.name for each in self.bad_labels}) == sorted(bad), (self.bad_labels, told)
        assert says in self.err, told
        assert "Traceback" not in self.err, told
        if same:
            self.same_codes(*same)

    def words(self, *, again: bool) -> str:
        """Return what came out in words.

        Args:
            again: whether a run came before, so that it matters what was done anew.
        """
        parts = []
        if " seen = " in self.out:
            parts += [counted(self.count, "row"), *[f"{self.coded} coded in this run"] * again, *self._about_images()]
        parts += self.notes
        if self.pictures:
            found = sum(picture is not None for picture in self.pictures.values())
            parts.append(f"index of {counted(len(self.pictures), 'row')}, {found} of whose pictures are read back")
        told = [line for line in self.err.splitlines() if line.strip() and not PROGRESS.match(line)]
        parts += [quoted(_own_words(line)) for line in told]
        if self.code:
            parts.append(f"exit code {self.code}")
        return "; ".join(parts)

    def _about_images(self) -> list[str]:
        parts = []
        why = {
            key: f"{reject} ({quoted(_own_words(detail))})" if _own_words(detail) else str(reject)
            for key, (reject, detail) in self.rejects.items()
        }
        for reason, keys in groupby(sorted(why, key=lambda key: (why[key], key)), key=lambda key: why[key]):
            parts.append(f"rejected {_listed([quoted(key) for key in keys])}: {reason}")
        if self.skipped:
            kinds = [f"{count:,} {kind}" for kind, count in self.skipped.items()]
            parts.append(f"skipped {', '.join(kinds)}")
        fields = [f"{quoted(name)} ({kind}: {self._values(name)})" for name, kind in sorted(self.kinds.items())]
        if fields:
            parts.append(f"label{'s' if len(fields) > 1 else ''} {_listed(fields)}")
        bad = [f"{quoted(each.name)} ({quoted(_own_words(each.why))})" for each in self.bad_labels]
        if bad:
            parts.append(f"not kept as they are: labels of {_listed(bad)}")
        return parts

    def _values(self, name: str) -> str:
        values = dict.fromkeys(text_of(labels[name]) for labels in self.rows.values() if name in labels)
        short = [value if len(value) <= LONGEST else f"{value[:LONGEST]}..." for value in values]
        return _listed([quoted(value) if value else "none" for value in short])


def counted(number: int, what: str) -> str:
    """Return a number of things."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def quoted(text: str) -> str:
    """Return text as code of Markdown, fit for a table."""
    ticks = "``" if "`" in text else "`"
    inside = text.replace("|", "\\|").replace("\n", " ")
    return f"{ticks} {inside} {ticks}" if "`" in text else f"`{inside}`"


def _listed(items: list[str]) -> str:
    more = f" and {len(items) - NAMED:,} more" if len(items) > NAMED else ""
    return ", ".join(items[:NAMED]) + more


def _own_words(line: str) -> str:
    return BYTES.sub("...", OTHERS_WORDS.sub("", line))


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text.replace(",", ""))
    return int(found[1]) if found else 0


def _labels_of(file: CodeFile) -> list[dict[str, Any]]:
    labels: list[dict[str, Any]] = [{} for _ in range(file.header.rows)]
    for name in file.label_fields():
        for own, value in zip(labels, file.label(name).to_list(), strict=True):
            if value is not None:
                own[name] = value
    return labels
