"""The commands: one function each. Its parameters are the command's options, its docstring is its help.

``parsers`` makes parsers of them. What is slow to import is imported inside the functions, so that help
comes at once; never under ``TYPE_CHECKING``, as jsonargparse runs such a block. A command that returns
something takes ``--json``, which prints that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.console import Console

Command = Callable[..., object]

# Names of files and classes are shown as they are, whatever they look like.
# A pipe is taken to have 80 columns, too few for the tables.
_WIDTH = None if sys.stdout and sys.stdout.isatty() else 120
console = Console(markup=False, emoji=False, width=_WIDTH)
"""For results."""
progress = Console(markup=False, emoji=False, width=_WIDTH)
"""For bars and notes while one waits; ``--quiet`` silences it."""
_EXAMPLES = "\n\nExamples:\n"


def speak(*, process: int, quiet: bool, as_json: bool) -> None:
    """Choose what is said, and where.

    Args:
        process: number of this process; of several that train together, the first speaks.
        quiet: no progress and no notes.
        as_json: standard output is kept for one JSON object, all else goes to standard error.
    """
    console.quiet = process > 0
    progress.quiet = process > 0 or quiet
    console.stderr = progress.stderr = as_json


def note(line: str) -> None:
    """Say a line on standard error, unless ``--quiet`` is given."""
    if not progress.quiet:
        print(line, file=sys.stderr)


def summary(command: Command) -> str:
    """The first line of a command's help."""
    return (command.__doc__ or "").splitlines()[0]


def examples(command: Command) -> list[str]:
    """The examples in a command's docstring, a line each."""
    _, _, after = (command.__doc__ or "").replace("\n    ", "\n").partition(_EXAMPLES)
    return [line.strip() for line in after.splitlines() if line.strip()]
