"""Edits of JSON content: each field removed, and replaced by values of other types."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

from sacma.errors import SacmaError

VALUES: tuple[Any, ...] = (None, True, -1, 0.5, 10**400, float("nan"), "text", [], {}, [[None]], {"a": {}})
REMOVED = object()


def refusal(action: Callable[[], object]) -> str | None:
    """The message of the ``SacmaError`` that an action raises; None if it succeeds."""
    try:
        action()
    except SacmaError as error:
        return str(error)
    return None


def fields(content: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each field; of a list, the paths of its first element."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield (*above, name)
            yield from fields(value, (*above, name))
    elif isinstance(content, list) and content:
        yield (*above, 0)
        yield from fields(content[0], (*above, 0))


def edited(content: Any) -> Iterator[tuple[str, Any, str]]:
    """Each edit of ``content``: the field, its new value (or ``REMOVED``) and the JSON text."""
    for path in fields(content):
        for value in (REMOVED, *VALUES):
            changed = copy.deepcopy(content)
            place = changed
            for name in path[:-1]:
                place = place[name]
            if value is REMOVED:
                del place[path[-1]]
            else:
                place[path[-1]] = value
            yield ".".join(map(str, path)), value, json.dumps(changed)
