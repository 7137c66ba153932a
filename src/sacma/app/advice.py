"""Advice for visitors of the page in place of that of the commands, which names options that it lacks."""

from __future__ import annotations

import re

from sacma.media.decode import Limits


def for_visitors(message: str, limits: Limits) -> str:
    """The message of an error, or a note, with advice that a visitor can follow.

    Args:
        message: of a ``SacmaError``, or a note: what is wrong, and after the last semicolon what to do.
        limits: of the page.

    Returns:
        The message, or what is wrong with other advice where it names options of commands.
    """
    shorter = f"set Start and End closer, or cut it to {limits.seconds:g} s or less"
    smaller = "cut or scale it down and drop it again"
    instead = {
        r"choose a part by start and end, or raise the limit": shorter,
        r"raise the limit if the file is to be trusted": smaller,
        r"use a run of another method, or leave the names out": "give names of that list alone",
        r"so it takes the names of their table alone unless.*": "so it takes the names of their table alone",
        r": get [^;]* with sacma models .*": "",
    }
    for advice, better in instead.items():
        message = re.sub(advice, better, message)
    what, _, advice = message.rpartition("; ")
    return what if what and re.search(r"--\w|\braise\b|\blinks\b|\bsacma models\b", advice) else message
