"""Overlap of an encoder's training data with the unseen classes or the clips of a benchmark.

A class that the encoder was trained on is not new to whatever is built on its features, so results with such
an overlap are marked in tables, reports and model cards. ``data/encoders.yaml`` lists encoders with their
training sets, and training sets with the benchmarks that they share classes or clips with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml

from sacma.errors import some_of
from sacma.frozen.labels import audioset, imagenet
from sacma.text.names import spelt_out

KNOWN, POSSIBLE = "†", "‡"
_LISTS = {"imagenet": imagenet, "audioset": audioset}
_SOURCES = {"mteb/ucf101-51va": "ucf", "mteb/vggsound": "vggsound"}
"""Data sets of the hub by another name than that of the benchmark that they hold."""


@dataclass(frozen=True)
class Overlap:
    """Overlap of training data with a benchmark.

    Attributes:
        mark: ``KNOWN`` where classes or clips are known to be in a training set, ``POSSIBLE`` where a set has
            no list, so that nobody can tell.
        reasons: sentences without a full stop, one for each encoder and training set.
    """

    mark: str
    reasons: tuple[str, ...]

    @property
    def note(self) -> str:
        """One line for footnotes and cards."""
        what = (
            "unseen classes or clips may not be new to the features"
            if self.mark == KNOWN
            else "nobody can tell whether unseen classes or clips are new to the features"
        )
        return f"{self.mark} {what}: {'; '.join(self.reasons)}"


@dataclass(frozen=True)
class EncoderFacts:
    """Licence and known training sets of an encoder."""

    licence: str
    trained_on: tuple[str, ...]


def known_encoders() -> dict[str, EncoderFacts]:
    """Facts of encoders by name."""
    entries = _facts()["encoders"]
    return {name: EncoderFacts(one["licence"], tuple(one["trained_on"])) for name, one in entries.items()}


def overlap(
    provenance: Mapping[str, Any], *, benchmark: str, features: str, split: str, unseen: Sequence[str]
) -> Overlap | None:
    """The overlap of the training data of features' encoders with a benchmark; None where none is known of.

    Args:
        provenance: of the features; names their encoders, and the data set that the clips are of.
        benchmark: its name, which counts as the data set where the provenance names none.
        features: name of the features; tells the encoders of published ones.
        split: the class split, some of which leave out classes that encoders were trained on.
        unseen: the unseen classes of the test.
    """
    if provenance.get("simulated"):
        return None
    facts = _facts()
    dataset = str(provenance.get("dataset") or benchmark).lower()
    dataset = _SOURCES.get(dataset, dataset)
    published = any(dataset in one.get("clips", []) for one in facts["training_sets"].values())
    published |= any(dataset in one.get("classes", []) for one in facts["training_sets"].values())
    apart = facts["kept_apart"].get(split, [])
    known: dict[str, list[str]] = {}  # training set and what it shares -> encoders
    possible: dict[str, list[str]] = {}
    for encoder in encoders_of(provenance, features):
        for name in facts["encoders"].get(encoder, {}).get("trained_on", ()):
            if name in apart:
                continue
            entry = facts["training_sets"][name]
            if dataset in entry.get("clips", []):
                known.setdefault(f"{name}, which has clips of this data set", []).append(encoder)
            elif dataset in entry.get("classes", []):
                known.setdefault(f"{name}, whose labels name classes of this data set", []).append(encoder)
            elif named := _named(unseen, entry.get("labels")):
                known.setdefault(f"{name}, whose labels name {some_of(named)}", []).append(encoder)
            elif entry.get("web") and published:
                possible.setdefault(f"{name}, of which no list is known", []).append(encoder)
    if known:
        return Overlap(KNOWN, _reasons(known))
    return Overlap(POSSIBLE, _reasons(possible)) if possible else None


def _reasons(shared: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    return tuple(f"{' and '.join(encoders)} learned from {what}" for what, encoders in shared.items())


def encoders_of(provenance: Mapping[str, Any], features: str) -> list[str]:
    """Names of the encoders of features, as ``data/encoders.yaml`` has them; empty where nothing tells.

    Args:
        provenance: of the features.
        features: their name.
    """
    made_by = [provenance[kind] for kind in ("audio", "video") if isinstance(provenance.get(kind), Mapping)]
    found = [_name(facts) for facts in made_by] or _facts()["features"].get(features, [])
    return [name for name in found if name]


def trained_on(made_by: Mapping[str, Any]) -> tuple[str, ...]:
    """Known training sets of the encoder that a provenance describes; empty where none are known."""
    facts = known_encoders().get(_name(made_by))
    return facts.trained_on if facts else ()


def _name(made_by: Mapping[str, Any]) -> str:
    """An encoder's name: that of its network on the hub, also where the hub's cache names a folder."""
    name = str(made_by.get("model") or made_by.get("name", ""))
    cached = re.search(r"models--([^/\\]+?)--([^/\\]+)", name)
    return f"{cached[1]}/{cached[2]}" if cached else name


def _named(classes: Iterable[str], listed: str | None) -> list[str]:
    """The classes whose name has a label of a list in it, as whole words."""
    if listed is None:
        return []
    labels = _LISTS[listed]()
    known = {_words(name) for name in labels.names[: labels.count]}
    return [name for name in classes if _parts(_words(name)) & known]


def _words(name: str) -> tuple[str, ...]:
    """The words of a name: ``PlayingCello`` and ``playing_cello`` have two."""
    return tuple(re.findall(r"\w+", spelt_out(name).casefold()))


def _parts(words: tuple[str, ...]) -> set[tuple[str, ...]]:
    """All runs of words that follow each other."""
    places = range(len(words))
    return {words[start : end + 1] for start in places for end in places if end >= start}


@lru_cache(maxsize=1)
def _facts() -> dict[str, Any]:
    text = (resources.files("sacma.frozen") / "data" / "encoders.yaml").read_text(encoding="utf-8")
    read: dict[str, Any] = yaml.safe_load(text)
    return read
