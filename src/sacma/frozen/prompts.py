"""Prompts: sentences around a class name that a joint encoder reads.

    plain             the name and nothing else
    clipclap-actions  those of ClipClap for UCF and ActivityNet (Kurzendoerfer et al., CVPR workshops
                      2024): 48 for pictures, 30 for sound
    clipclap-sounds   those of ClipClap for VGGSound: 8 for pictures, 9 for sound
    TEMPLATES         own ones: a text with {} for the name, several separated by |, or @FILE with one a line

The sets are made by rule, with the published slips: "a example", and one "the person" where "the" belongs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from sacma.errors import SacmaError, printable
from sacma.files import read_text
from sacma.frozen.descriptions import ClassName

_SHOWN = ("a photo", "a video", "a example", "a demonstration")
_HEARD = ("", "a example of ", "a demonstration of ")


def prompted(name: ClassName, prompts: str, modalities: Sequence[str]) -> tuple[str, ...]:
    """The texts that are encoded for a class: its name, then its descriptions, each in every prompt.

    Args:
        name: with its descriptions; those of the glossary are not used.
        prompts: see the head of this file.
        modalities: ``audio`` alone takes the prompts for sound, all else those for pictures.

    Raises:
        SacmaError: no such prompts, or a template without {}.
    """
    heard = tuple(modalities) == ("audio",)
    subjects = (name.texts[0], *name.descriptions)
    return tuple(t.replace("{}", one) for one in subjects for t in templates(prompts, heard=heard))


@lru_cache(maxsize=8)
def templates(prompts: str, *, heard: bool) -> tuple[str, ...]:
    """Texts with {} for the name; see ``prompted``."""
    if prompts in NAMED:
        return NAMED[prompts](heard)
    given = read_text(Path(prompts[1:])).splitlines() if prompts.startswith("@") else prompts.split("|")
    own = tuple(line.strip() for line in given if line.strip())
    if not own or any("{}" not in line for line in own):
        raise SacmaError(
            f"prompts {printable(prompts)}: expected {', '.join(NAMED)}, or texts with {{}} for the name, "
            "separated by |"
        )
    return own


def _plain(heard: bool) -> tuple[str, ...]:
    return ("{}",)


def _actions(heard: bool) -> tuple[str, ...]:
    if not heard:
        doing = ("", "using ", "doing ", "during ", "performing ", "practicing ")
        return tuple(
            f"{shown} of {article} person {verb}{{}}."
            for shown in _SHOWN
            for article in ("a", "the")
            for verb in doing
        )
    made = [
        f"{start}{person} {{}} can be heard." for person in ("a person", "the person") for start in _HEARD
    ]
    for verb in ("using", "doing", "performing", "practicing"):
        made += [
            f"{start}{person} {verb} {{}} can be heard."
            for person in ("a person", "the person")
            for start in _HEARD
            if start or person == "a person"
        ]
    made += [
        f"{start}{person} during {{}} can be heard."
        for person in ("a person", "the person")
        for start in _HEARD
        if start
    ]
    return tuple(made)


def _sounds(heard: bool) -> tuple[str, ...]:
    if heard:
        return tuple(f"{start}{name} can be heard." for name in ("a {}", "the {}", "{}") for start in _HEARD)
    without = [f"{shown} of {{}}." for shown in _SHOWN]
    article = [f"{shown} of the {{}}." for shown in _SHOWN]
    article[0] = "a photo of the person {}."  # as published
    return (*without, *article)


NAMED: dict[str, Callable[[bool], tuple[str, ...]]] = {
    "plain": _plain,
    "clipclap-actions": _actions,
    "clipclap-sounds": _sounds,
}
