"""Arguments that several commands take, and the remedies that they share."""

from pathlib import Path
from typing import Annotated

import typer

from encoder.errors import HashgrainError, Reason, why
from indexer.settings import Verify

DEFAULT_CODES, DEFAULT_INDEX = Path("codes"), Path("index")
IndexPath = Annotated[Path, typer.Option("--index", help="Folder of the index.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
Keep = Annotated[int, typer.Option(min=1, help="Generations that stay on the disk, the newest included.")]
NOTICES = 10
"""Lines about labels that an addition shows at most."""
INDEX = {
    Reason.INDEX_DAMAGED: "indexer build CODES --out INDEX --overwrite",
    Reason.INDEX_MISSING: "--index, indexer build CODES --out INDEX",
}
HowVerified = Annotated[
    Verify,
    typer.Option(
        "--verify", help="Which files are proven by their SHA-256 when first used: quick: up to 32 MiB; full: all."
    ),
]
ModelPath = Annotated[Path | None, typer.Option("--model", help="Model file, instead of the index's own.")]
ImagesUnder = Annotated[
    list[Path] | None,
    typer.Option(
        "--images-under",
        help="Folder that pictures of rows may be read from; repeatable.",
        show_default="the shards of an index that you built",
    ),
]
AllowUrl = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-url", help="Scheme of URLs (https) that pictures may be read from; repeatable.", show_default=False
    ),
]


def read_token(path: Path) -> str:
    """Return the token in a file.

    Raises:
        HashgrainError: `bad-value`.
    """
    try:
        return path.read_text().strip()
    except (OSError, ValueError) as err:
        raise HashgrainError(
            Reason.BAD_VALUE, f"token file {path} could not be read ({why(err)}); give a file of one line"
        ) from err
