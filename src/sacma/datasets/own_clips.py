"""Benchmarks of a user's own clips: extracted features, split into the partitions of the protocol.

Classes are put into three groups, whose default sizes are those of UCF-GZSL, 30 : 12 : 9. Clips go to the
partitions by their class; clips of one group, and all parts of one file, go to the same.

    classes               clips
    train                 stage_1_train, some held out for stage_1_val_seen and some for stage_2_test_seen
    unseen in validation  stage_1_val_unseen, some held out for stage_2_test_seen
    unseen in the test    stage_2_test_unseen
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sacma.data.class_lists import PARTITIONS, write_class_split
from sacma.data.features import Features
from sacma.data.features_writer import FeaturesWriter
from sacma.data.groups import recordings
from sacma.data.paper import SPLITS, Published, published_benchmarks
from sacma.errors import SacmaError, printable, some_of
from sacma.files import remove, replacing
from sacma.text.encoders import open_encoder
from sacma.text.names import Spelling, check_distinct
from sacma.text.vectors import TextTable

_TRAIN, _VAL_SEEN, _VAL_UNSEEN, _TEST_SEEN, _TEST_UNSEEN = PARTITIONS
_SHARES = {"val_unseen": 12 / 51, "unseen": 9 / 51}
_NEEDED = {"train": 3, "val_unseen": 2, "unseen": 1}
"""Files of a class, by its group."""
_WHY = {
    "train": "to train, to validate and to test",
    "val_unseen": "to validate and to test",
    "unseen": "to test",
}
_LEAST = 4
"""Classes: two to train on, one unseen in validation, one unseen in the test."""


@dataclass(frozen=True)
class OwnBenchmark:
    """Result of ``make_benchmark``.

    Attributes:
        root: the folder with ``class-split/`` and ``features/``.
        name: of the benchmark, as ``--benchmark`` takes it.
        features: the folder under ``features/``.
        clips: partition -> its number of clips.
        classes: partition -> its classes.
        without_clips: classes of the features that have no clip and are left out.
    """

    root: Path
    name: str
    features: str
    clips: Mapping[str, int]
    classes: Mapping[str, tuple[str, ...]]
    without_clips: tuple[str, ...]


def make_benchmark(
    features: Features,
    out: Path,
    *,
    name: str | None = None,
    unseen: Sequence[str] | None = None,
    val_unseen: Sequence[str] | None = None,
    like: tuple[str, str] | None = None,
    held_out: float = 0.1,
    seed: int = 0,
    encoder: Mapping[str, Any],
    force: bool = False,
) -> OwnBenchmark:
    """Split features into the partitions of the two-stage protocol and write a benchmark folder.

    Args:
        features: clips with classes; partitions that they may have are not looked at.
        out: the folder to make.
        name: of the benchmark; by default that of the folder.
        unseen: classes of the test that nothing is trained on; by default 9 of 51, drawn by the seed.
        val_unseen: classes that stage 1 does not train on; by default 12 of 51, drawn from the rest.
        like: a published benchmark and its class split, whose classes are seen and unseen as published and
            named as there; others are left out. Its lists of clips are not used: those of seen classes are
            held out as for own clips.
        held_out: share of the files, or groups of clips, of a seen class for validation, and as many for the
            test; at least one.
        seed: of what is drawn.
        encoder: text encoder of the class vectors, as ``open_encoder`` takes it; underscores in
            class names are read as blanks.
        force: replace a folder that is there.

    Raises:
        SacmaError: too few classes or clips, an unknown class, one in both lists, a class that the encoder
            knows no vector for, or the folder is there already.
    """
    if not 0 < held_out < 0.5:
        raise SacmaError(f"{held_out} of the clips held out; choose a share above 0 and below 0.5")
    if out.exists() and any(out.iterdir()) and not (force and _is_benchmark(out)):
        advice = "replace it with --force" if _is_benchmark(out) else "it is no benchmark, so it stays"
        raise SacmaError(f"{out} is there already; choose another place ({advice})")
    facts = None if like is None else _published(like)
    name = _plain(name or (like[0] if like else out.resolve().name))
    folder = _plain(str(features.provenance.get("backbone") or features.path.resolve().name))
    files = recordings(features)
    members = defaultdict(list)  # class -> its clips
    for row, label in enumerate(features.labels.tolist()):
        members[features.classes[label]].append(row)
    distinct = {of: len({files[row] for row in rows}) for of, rows in members.items()}
    check_distinct(members, str(features.path))
    random = np.random.default_rng(seed)
    if facts is None:
        groups = _groups(distinct, unseen, val_unseen, random)
    else:
        groups = _published_groups(distinct, facts, like[1] if like else "main")
        members = defaultdict(list, {of: members[of] for of in groups})
    partitions: dict[int, str] = {}  # clip -> its partition
    for of in sorted(members):
        partitions |= class_partitions(members[of], files, groups[of], held_out, random)
    text_names = {of: _text_name(of) for of in sorted(members)}
    if facts is not None:
        known = Spelling(facts.text_names)
        text_names = {of: facts.text_names[known.find(of) or of] for of in text_names}
    opened = open_encoder(encoder)
    texts = tuple(dict.fromkeys(text_names.values()))
    table = TextTable(texts, opened(texts), f"class vectors of {name}", opened.provenance)
    chosen = {
        row: (clip, features.classes[int(features.labels[row])], partitions[row])
        for row, clip in enumerate(features.names)
        if row in partitions
    }
    clips, split = [*chosen.values()], like[1] if like else "main"
    every = features.groups()
    with replacing(out) as partial:
        write_features(partial / "features" / folder, features, chosen, tuple(text_names))
        table.write(partial / "features" / folder / "text" / f"word_embeddings_{name}_normed.npz")
        write_class_split(
            partial / "class-split", name, text_names, clips, [every[row] for row in chosen], split
        )
        remove(out)
    return OwnBenchmark(
        out,
        name,
        folder,
        {part: sum(where == part for _, _, where in clips) for part in PARTITIONS},
        {part: tuple(sorted({of for _, of, where in clips if where == part})) for part in PARTITIONS},
        tuple(of for of in features.classes if of not in members),
    )


def own_encoder(features: Features) -> dict[str, Any]:
    """Choose the text encoder for features: that of CLIP, with that of CLAP, for theirs; else GloVe."""
    made_by = [features.provenance.get(kind) for kind in ("video", "audio")]
    named = [facts.get("name") if isinstance(facts, dict) else None for facts in made_by]
    models = [facts.get("model") if isinstance(facts, dict) else None for facts in made_by]
    if named == ["clip", "clap"] and all(models):
        return {"encoder": "clip-clap", "model": f"{models[0]}+{models[1]}"}
    if named[0] == "clip":
        return {"encoder": "clip", "model": models[0]}
    return {"encoder": "glove"}


def _published(like: tuple[str, str]) -> Published:
    """The published facts of a benchmark, and a check of the name of its class split."""
    benchmark, split = like
    if benchmark not in published_benchmarks():
        raise SacmaError(
            f"no published class split of {printable(benchmark)}; there are: "
            f"{', '.join(published_benchmarks())}"
        )
    if split not in SPLITS:
        raise SacmaError(f"split {printable(split)} is unknown; expected {' or '.join(SPLITS)}")
    return published_benchmarks()[benchmark]


def _published_groups(files: Mapping[str, int], facts: Published, split: str) -> dict[str, str]:
    """Put the classes of a published split into its groups; others are left out."""
    spelling = Spelling(files)
    partitions = {"train": _TRAIN, "val_unseen": _VAL_UNSEEN, "unseen": _TEST_UNSEEN}
    groups: dict[str, str] = {}
    missing = []
    for group, partition in partitions.items():
        for name in facts.partition_classes(partition, split):
            of = spelling.find(name)
            if of is None or files[of] < _NEEDED[group]:
                missing.append(name)
            else:
                groups[of] = group
    if missing:
        raise SacmaError(
            f"too few clips of {some_of(missing)}, classes of the split {split} of {facts.title}; extract "
            "all parts of the data set"
        )
    return groups


def _groups(
    files: Mapping[str, int],
    unseen: Sequence[str] | None,
    val_unseen: Sequence[str] | None,
    random: np.random.Generator,
) -> dict[str, str]:
    """Put each class into ``train``, ``val_unseen`` or ``unseen``, given the number of its files.

    Classes with too few files for training are drawn as unseen first.
    """
    if len(files) < _LEAST:
        raise SacmaError(
            f"{len(files)} classes with clips; a benchmark needs at least {_LEAST}: two to train on, one "
            "unseen in validation and one unseen in the test"
        )
    order = sorted(
        random.permutation(sorted(files)).tolist(), key=lambda of: min(files[of], _NEEDED["train"])
    )
    groups: dict[str, str] = {}
    spelling = Spelling(files)
    for group, chosen in (("unseen", unseen), ("val_unseen", val_unseen)):
        for given in chosen or ():
            of = spelling.find(given)
            if of is None:
                raise SacmaError(
                    f"no clips of class {printable(given)}; there are {', '.join(sorted(files))}"
                )
            if of in groups:
                raise SacmaError(f"class {printable(of)} is named twice among the unseen ones; name it once")
            groups[of] = group
    for group, chosen in (("unseen", unseen), ("val_unseen", val_unseen)):
        if not chosen:
            free = [of for of in order if of not in groups]
            groups |= dict.fromkeys(free[: max(1, round(_SHARES[group] * len(files)))], group)
    groups = {of: groups.get(of, "train") for of in files}
    if list(groups.values()).count("train") < _LEAST - 2:
        raise SacmaError("fewer than two classes are left to train on; name fewer unseen ones")
    for of, group in sorted(groups.items()):
        if files[of] < _NEEDED[group]:
            raise SacmaError(
                f"class {printable(of)} has {files[of]} files, but {_NEEDED[group]} are needed "
                f"({_WHY[group]}); add some, or make it an unseen class"
            )
    return groups


def class_partitions(
    rows: Sequence[int], groups: Sequence[str], group: str, held_out: float, random: np.random.Generator
) -> dict[int, str]:
    """Clip -> partition for the clips of one class; groups are shuffled, their clips stay together."""
    distinct = random.permutation(sorted({groups[row] for row in rows})).tolist()
    out = max(1, round(held_out * len(distinct)))
    train, val_seen, test = {
        "train": (_TRAIN, out, out),
        "val_unseen": (_VAL_UNSEEN, 0, out),
        "unseen": (_TEST_UNSEEN, 0, 0),
    }[group]
    where = dict.fromkeys(distinct, train)
    where |= dict.fromkeys(distinct[:val_seen], _VAL_SEEN)
    where |= dict.fromkeys(distinct[val_seen : val_seen + test], _TEST_SEEN)
    return {row: where[groups[row]] for row in rows}


def write_features(
    folder: Path, features: Features, clips: Mapping[int, tuple[str, str, str]], classes: Sequence[str]
) -> None:
    """Write some clips of a set in other partitions: row -> its name, class and partition."""
    with FeaturesWriter(
        folder,
        classes,
        audio_width=features.audio.width,
        video_width=features.video.width,
        audio_step=features.audio.step_seconds,
        video_step=features.video.step_seconds,
        provenance=features.provenance,
        dtype=features.video.values.dtype,
    ) as writer:
        tracks = (features.audio, features.video)
        groups = features.groups()
        for row, (clip, of, partition) in clips.items():
            audio, video = (track.values[track.offsets[row] : track.offsets[row + 1]] for track in tracks)
            place = classes.index(of), PARTITIONS.index(partition)
            writer.add(clip, *place, audio, video, group=groups[row])


def _text_name(class_name: str) -> str:
    """Return a class name as text encoders read it: composed letters, blanks for underscores."""
    return " ".join(unicodedata.normalize("NFC", class_name).replace("_", " ").split())


def _plain(name: str) -> str:
    """Return a name without characters that are awkward in file names and options."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "own"


def _is_benchmark(folder: Path) -> bool:
    return (folder / "class-split").is_dir() and (folder / "features").is_dir()
