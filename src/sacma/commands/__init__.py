"""The commands: one function each. Its parameters are the command's options, its docstring is its help.

``parsers`` makes parsers of them. What is slow to import is imported inside the functions, so that help
comes at once; never under ``TYPE_CHECKING``, as jsonargparse runs such a block.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.console import Console

# Names of files and classes are shown as they are, whatever they look like.
# A pipe is taken to have 80 columns, too few for the tables.
console = Console(markup=False, emoji=False, width=None if sys.stdout and sys.stdout.isatty() else 120)


def summary(command: Callable[..., None]) -> str:
    """The first line of a command's help."""
    return (command.__doc__ or "").splitlines()[0]
