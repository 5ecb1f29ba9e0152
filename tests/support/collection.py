"""The files that the documents name, drawn small."""

import json
import re
from pathlib import Path

from tests.support.pictures import encoded, write_tar

ROOT = Path(__file__).parents[2]


def blocks(document: str, language: str) -> list[str]:
    """Return the code blocks of a document in one language."""
    text = (ROOT / document).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def draw_collection(folder: Path) -> None:
    """Write shards/train-*.tar, tiny/train-*.tar, photos/cat and dog, photo.jpg, other.jpg, extra.jpg, list.txt, marks.jsonl."""
    for part in range(3):
        write_tar(folder / f"shards/train-{part:04d}.tar", _members("train", 64 * part, 64))
        write_tar(folder / f"tiny/train-{part:04d}.tar", _members("tiny", 1000 + 16 * part, 16))
    for number in range(160):
        name = ("dog", "cat")[number % 2]
        path = folder / "photos" / name / f"{name}-{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(500 + number))
    for name, seed in (("photo.jpg", 17), ("other.jpg", 18), ("extra.jpg", 2000)):
        (folder / name).write_bytes(encoded(seed))
    (folder / "list.txt").write_text("extra.jpg\n")
    (folder / "marks.jsonl").write_text('{"key": "cat/cat-01.jpg", "mark": "keep"}\n')


def _members(name: str, first: int, count: int) -> list[tuple[str, bytes]]:
    """Return pictures with labels; every fortieth is the same picture."""
    members = []
    for number in range(first, first + count):
        fine, coarse = number % 8, number % 2
        labels = {"fine": fine, "coarse": coarse, "class": f"class {fine}", "kind": f"kind {coarse}"}
        members.append((f"{name}-{number:05d}.jpg", encoded(number if number % 40 else 0)))
        members.append((f"{name}-{number:05d}.json", json.dumps(labels).encode()))
    return members
