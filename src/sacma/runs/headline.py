"""The settings of a run in one line. A number means nothing without them, so they are shown with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def headline(result: Mapping[str, Any]) -> str:
    """Method, data and settings of a run in one line.

    Args:
        result: the content of ``result.json`` or ``summary.json``.
    """
    return (
        f"{result['method']} ({result['variant']}) on {result['benchmark']}, {result['features']} features "
        f"({result['feature_scaling']}), {result['split']} split, {result['text_alignment']} class vectors "
        f"({result['text']}), {result['bias_search']} bias search"
    )
