"""Write docs/CLI.md from the commands themselves: `make docs`.

A test compares the file with what this writes, so a changed option shows up.
"""

from pathlib import Path

from typer import Typer
from typer.core import TyperCommand
from typer.main import get_command

from encoder.cli import app as encoder_app
from indexer.cli import app as indexer_app

PAGE = Path(__file__).parent / "CLI.md"
WIDTH = 110
"""Of a line of help, in characters."""
HEADER = """# Commands

What `--help` prints, written by `make docs`. [GUIDE.md](GUIDE.md) shows the commands at work.

Results go to stdout, progress and notices to stderr. Exit codes: 0 fine, 1 an error reported in one line, 2 wrong usage, 128 + n
stopped by signal n (the same command goes on from there).
"""


def reference() -> str:
    """Return the text of docs/CLI.md."""
    sections = [HEADER]
    for name, app in (("encoder", encoder_app), ("indexer", indexer_app)):
        for subcommand, command in _commands(app).items():
            title = f"{name} {subcommand}"
            sections.append(f"## {title}\n\n```\n{_help(command, title)}\n```\n")
    return "\n".join(sections)


def _commands(app: Typer) -> dict[str, TyperCommand]:
    group = get_command(app)
    return {
        name: command for name, command in getattr(group, "commands", {}).items() if isinstance(command, TyperCommand)
    }


def _help(command: TyperCommand, title: str) -> str:
    """Return the help of one command: plain text of a fixed width, whatever terminal there is."""
    command.rich_markup_mode = None
    context = command.context_class(command, info_name=title, terminal_width=WIDTH, max_content_width=WIDTH)
    return "\n".join(line.rstrip() for line in command.get_help(context).splitlines())


if __name__ == "__main__":
    PAGE.write_text(reference())
