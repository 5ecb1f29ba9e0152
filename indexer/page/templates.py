"""Pages from templates: one file each, nothing of strangers raw in it."""

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from encoder.runtime.console import printable
from encoder.runtime.publish import write_bytes

if TYPE_CHECKING:
    from jinja2 import Template


def page_template(room: str, name: str) -> "Template":
    """Return a template of HTML; what is filled in is escaped, and control characters become visible.

    Args:
        room: the package that it lies in.
        name: of its file.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    return environment.from_string((files(room) / name).read_text("utf-8"))


def write_page(path: Path, html: str) -> None:
    """Write a page; it appears whole or not at all.

    Raises:
        HashgrainError: `write-failed`.
    """
    write_bytes(path, html.encode(errors="replace"))  # a file name on a command line need not be UTF-8


def _shown(value: object) -> object:
    """Keep controls out of the page: keys, labels and paths may be a stranger's."""
    markup = hasattr(value, "__html__")  # the page's own
    return printable(value.replace("\n", " ")) if isinstance(value, str) and not markup else value
