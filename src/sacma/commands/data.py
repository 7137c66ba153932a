"""``sacma data``: look at benchmarks, check, convert, fetch, render, simulate, split and make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sacma.commands import console, progress
from sacma.errors import SacmaError


def info() -> None:
    """Table 1 of the paper, classes and clips of the three benchmarks, and the same of YT8M-GZSL.

    Examples:
        sacma data info
    """
    from sacma.data.paper import info_table

    console.print(info_table())


def check(
    root: Path,
    benchmark: str,
    features: str,
    split: str = "main",
    audio_step: float | None = None,
    video_step: float | None = None,
    share: float | None = None,
) -> None:
    """Compare a folder with the published class and clip counts, and its content with its checksums.

    Args:
        root: folder that holds class-split/ and features/.
        benchmark: ucf, vggsound, activitynet, yt8m or another NAME.
        features: selavi, c3d-vggish, yt8m or the name of a folder under features/.
        split: main or cls.
        audio_step: seconds per audio step, where the folder does not say.
        video_step: seconds per video step, where the folder does not say.
        share: of the clips that the folder has on purpose, such as 0.1; simulated features say it themselves.

    Examples:
        sacma data check --root data/ucf --benchmark ucf --features selavi
    """
    from sacma.data.checks import check

    report = check(
        root, benchmark, features, split=split, audio_step=audio_step, video_step=video_step, share=share
    )
    for line in report.lines():
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    if not report.ok:
        raise SacmaError(f"{root} is not what {benchmark} should hold; the lines above say where")


def import_features(
    root: Path,
    out: Path,
    benchmark: str,
    features: str,
    audio_step: float | None = None,
    video_step: float | None = None,
) -> dict[str, Any]:
    """Convert official features into our format, once; an interrupted import goes on where it stopped.

    Args:
        root: folder that holds class-split/ and features/, as downloaded.
        out: folder to make, in the same layout; it can then be used as --root.
        benchmark: ucf, vggsound, activitynet, yt8m or another NAME.
        features: selavi, c3d-vggish, yt8m or the name of a folder under features/.
        audio_step: seconds per audio step, where the folder does not say.
        video_step: seconds per video step, where the folder does not say.

    Examples:
        sacma data import --root downloaded/ucf --out data/ucf --benchmark ucf --features selavi
    """
    from sacma.commands.show import counting
    from sacma.data.conversion import import_benchmark

    with counting(progress, "importing") as on_progress:
        made = import_benchmark(
            root,
            out,
            benchmark,
            features,
            audio_step=audio_step,
            video_step=video_step,
            on_progress=on_progress,
        )
    console.print(f"imported: {made}", soft_wrap=True)
    return {"folder": str(made)}


def download(benchmark: str, features: str, out: Path, addresses: Path | None = None) -> dict[str, Any]:
    """Fetch and unpack a published archive of features; an interrupted download goes on where it stopped.

    Args:
        benchmark: ucf, vggsound or activitynet.
        features: selavi or c3d-vggish for sequences, averaged for time averages.
        out: folder for the archive and what is in it.
        addresses: YAML file with other addresses, as published links die.

    Examples:
        sacma data download --benchmark ucf --features selavi --out downloaded
    """
    from sacma.commands.show import downloading
    from sacma.data.download import download

    with downloading(progress) as on_progress:
        done = download(benchmark, features, out, addresses=addresses, on_progress=on_progress)
    console.print(f"unpacked: {done.root}", soft_wrap=True)
    if not done.verified:
        console.print("no checksum is known for this archive, so none was compared")
    if done.missing:
        console.print(f"not in the archive: {', '.join(done.missing)}", soft_wrap=True)
    return {"folder": str(done.root), "verified": done.verified, "missing": list(done.missing)}


def render(out: Path, clips: int = 12, size: int = 256) -> None:
    """Write some clips of AV-Shapes as mp4 files, to look at and listen to.

    Args:
        out: folder for the files.
        clips: how many.
        size: width and height in pixels.

    Examples:
        sacma data render --out shapes --clips 6
    """
    from sacma.datasets.avshapes import write_examples

    for path in write_examples(out, clips, size=size):
        console.print(str(path), soft_wrap=True)


def simulate(
    like: Literal["ucf", "vggsound", "activitynet"],
    root: Path,
    text: Path | None = None,
    clips_share: float = 1.0,
    noise: list[float] | float = 1.0,
    aligned: float | None = None,
    seed: int = 0,
    features: str = "simulated",
) -> None:
    """Write a benchmark with the classes and clip counts of a published one and made-up features.

    Args:
        like: whose classes, clip counts and sequence lengths it has.
        root: folder to write class-split/ and features/ to; it can then be used as --root.
        text: table of class vectors, or an official folder that has one; by default one that is under
            root/features/ already, else vectors are made up.
        clips_share: share of the clips of each class, above 0 and at most 1.
        noise: standard deviation within a class relative to that between classes; of a list such as
            [0.5,1,2,4], each level is written to a folder of its own.
        aligned: share of the class vector's direction in the features, from 0 to 1, for features that share a
            space with the class vectors, as those of joint encoders do.
        seed: of all draws but the map.
        features: name of the folder under features/; it must begin with simulated.

    Examples:
        sacma data simulate --like ucf --root simulated
        sacma data simulate --like ucf --root simulated --noise [0.5,1,2]
    """
    from sacma.commands.show import counting
    from sacma.data.features import Features
    from sacma.datasets.simulated import simulate

    levels = noise if isinstance(noise, list) else [noise]
    for level in levels:
        name = features if len(levels) == 1 else f"{features}-{level:g}"
        with counting(progress, f"simulating {name}") as on_progress:
            folder = simulate(
                like,
                root,
                text=text,
                clips_share=clips_share,
                noise=level,
                aligned=aligned,
                seed=seed,
                features=name,
                on_progress=on_progress,
            )
        made = Features.open(folder)
        console.print(f"simulated: {folder}, {len(made)} clips, noise {level:g}", soft_wrap=True)
    console.print(f"class vectors: {made.provenance['class_vectors']}", soft_wrap=True)
    console.print("its figures say nothing about real videos; see docs/explanation/simulation.md")


def split(
    features: Path,
    out: Path | None = None,
    unseen: str | None = None,
    val_unseen: str | None = None,
    like: Literal["ucf", "vggsound", "activitynet"] | None = None,
    split: Literal["main", "cls"] = "main",
    name: str | None = None,
    encoder: str | None = None,
    model: str | None = None,
    held_out: float = 0.1,
    seed: int = 0,
    force: bool = False,
) -> dict[str, Any]:
    """Make a two-stage benchmark of extracted features, to train on one's own classes.

    Args:
        features: folder that sacma extract wrote.
        out: folder to make, the --root of sacma train; by default FEATURES-benchmark.
        unseen: classes of the test that nothing is trained on, "cat, playing flute", or @FILE with one a
            line; by default 9 of 51, drawn by the seed.
        val_unseen: classes that stage 1 does not train on; by default 12 of 51, drawn from the rest.
        like: a published benchmark whose class split is taken; its seen clips are held out as for own clips.
        split: of the published benchmark, main or cls.
        name: of the benchmark, by default that of the folder, or the published one.
        encoder: of the class names: clip, clip-clap, sentence, glove, word2vec, fasttext, table or avshapes;
            by default glove, for features of clip-clap the text encoders of its two models.
        model: of the encoder: a file or folder, for clip and sentence also a hub name.
        held_out: share of the clips of a seen class for validation, and as many for the test.
        seed: of what is drawn.
        force: replace a benchmark that is there.

    Examples:
        sacma data split features
        sacma data split features --unseen 'cat, playing flute' --force
        sacma data split features --like ucf --out UCF
    """
    from sacma.commands import show as screen
    from sacma.data.features import Features
    from sacma.datasets.own_clips import make_benchmark, own_encoder
    from sacma.text.names import read_names

    if like is not None and (unseen, val_unseen) != (None, None):
        raise SacmaError("--like beside --unseen or --val-unseen; the published split names both")
    opened = Features.open(features)
    made = make_benchmark(
        opened,
        out or features.with_name(f"{features.name}-benchmark"),
        name=name,
        unseen=None if unseen is None else read_names(unseen),
        val_unseen=None if val_unseen is None else read_names(val_unseen),
        like=None if like is None else (like, split),
        held_out=held_out,
        seed=seed,
        encoder=own_encoder(opened) if encoder is None else {"encoder": encoder, "model": model},
        force=force,
    )
    screen.show_own_benchmark(console, made)
    if like is not None:
        console.print(
            f"classes: as in the {split} split of {like}; clips of seen classes held out here, by seed "
            f"{seed}, not by the published lists",
            soft_wrap=True,
        )
    return {
        "root": str(made.root),
        "benchmark": made.name,
        "features": made.features,
        "clips": dict(made.clips),
    }


def youtube8m(
    shards: Path,
    out: Path,
    topics: str = "yt8m",
    vocabulary: Path | None = None,
    per_class: int = 400,
    encoder: str = "sentence",
    model: str | None = None,
    keep_going: bool = False,
) -> None:
    """Make a two-stage benchmark of shards of YouTube-8M; an interrupted one goes on when repeated.

    Args:
        shards: folder of *.tfrecord files, video level or frame level, or one such file.
        out: folder to make, with class-split/ and features/; it can then be used as --root.
        topics: yt8m for 89 topics with their listed videos of the validation part, yt8m-large for a larger
            set by a rule, or a CSV file with the column topic and, if wanted, part.
        vocabulary: Google's vocabulary.csv, which all but yt8m need.
        per_class: most videos of a class, where none are listed.
        encoder: of the class names: clip, sentence, glove, word2vec, fasttext or table.
        model: of the encoder: a file or folder, for clip and sentence also a hub name.
        keep_going: leave out shards that cannot be used and topics without videos, and name them.

    Examples:
        sacma data youtube8m shards/ --out data/yt8m
    """
    from sacma.commands.show import counting, show_youtube8m
    from sacma.datasets.youtube8m.folder import convert
    from sacma.datasets.youtube8m.topics import topic_set

    chosen = topic_set(topics, vocabulary)
    with counting(progress, "shards") as on_progress:
        made = convert(
            shards,
            out,
            chosen,
            encoder={"encoder": encoder, "model": model},
            per_class=per_class,
            keep_going=keep_going,
            on_progress=on_progress,
        )
    show_youtube8m(console, made)
