"""Figures of a day's work on real clips: learn, add classes, correct, search, name the parts of a film.

    sacma models get yamnet
    python docs/results/real_input.py CLIPS [--draws 20] [--films 6]

``CLIPS`` has a folder of clips for each class, at least eight classes. The label bridge is beneath.

- Teaching: half of the clips of seven classes are learned; asked for are all other clips. Four more classes
  come by name, then by one clip each; then the first three mistakes are corrected. Draws differ in classes
  and clips.
- Search: each class name is asked as text, each clip as an example; see ``search_figures.py``.
- Films: thirty clips behind each other, no two neighbours of one class; for each true boundary the distance
  to the nearest change of the name is told. Draws differ in clips and order.

Intervals are at 95 %: over draws by Student's t, over questions by drawing them again.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from search_figures import interval, rows

import sacma
from sacma.files import read_json, write_json
from sacma.frozen.catalogue import sound_labels
from sacma.frozen.scores import Names
from sacma.learn import Learned, is_learned, learn, load_model, taught
from sacma.learn.learning import measured
from sacma.learn.store import LOG, clip_id
from sacma.media.listing import ClipFile, find_clips
from sacma.metrics.significance import mean_interval

OLD, NEW = 7, 4
FILM = 30
RATE, FRAMES = 16_000, 4
"""Samples and frames a second of a joined film."""


def spelt(clip: ClipFile) -> str:
    """Class name of a clip, as it is asked for."""
    return clip.class_name.replace("_", " ")


def over_draws(values: Sequence[float]) -> str:
    """Mean and its interval."""
    low, high = mean_interval(values)
    return f"{np.mean(values):.1f} ({low:.1f} to {high:.1f})"


# --- Teaching -----------------------------------------------------------------------------------------


def teaching(listed: Sequence[ClipFile], folder: Path, draws: int) -> Iterator[str]:
    """Rows of the table about teaching."""
    done = is_learned(folder / "all") and (folder / "all" / LOG).is_file()
    first = load_model(folder / "all") if done else learn(listed, folder / "all").model
    for name, share in measured(first).items():
        yield f"| all clips, {name} | clips held back | {share} |"
    steps: dict[str, list[float]] = {}
    clips = 0
    for seed in range(draws):
        place = folder / f"draw-{seed}"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(first.path / "clips", place / "clips")
        clips += one_draw(listed, place, np.random.default_rng(seed), steps)
    asked = f"the others, about {clips / draws:.0f}"
    for step, values in steps.items():
        yield f"| {step} | {asked} | {over_draws(values)} % |"


def one_draw(
    listed: Sequence[ClipFile], folder: Path, random: np.random.Generator, steps: dict[str, list[float]]
) -> int:
    """Teach once; percent right go to ``steps``. Returns the number of test clips of all classes."""
    order = random.permutation(sorted({spelt(clip) for clip in listed})).tolist()
    members = {name: shuffled([c for c in listed if spelt(c) == name], random) for name in order}
    old, new = order[:OLD], order[OLD : OLD + NEW]
    given = [clip for name in old for clip in members[name][: len(members[name]) // 2]]
    tests = {name: members[name][len(members[name]) // 2 :] for name in old}
    tests |= {name: members[name][1:] for name in new}
    model = learn(given, folder).model

    def told(step: str, names: Sequence[str]) -> list[tuple[Path, str]]:
        asked = model.candidates()
        wrong = [
            (clip.path, name) for name in names for clip in tests[name] if best(model, clip, asked) != name
        ]
        count = sum(len(tests[name]) for name in names)
        steps.setdefault(step, []).append(100 * (1 - len(wrong) / count))
        return wrong

    told("seven instruments", old)
    for name in new:
        model.add_class(name)
    told("and four more by name", old + new)
    for name in new:
        model.add_clips(name, [members[name][0].path])
    wrong = told("and one clip of each of the four", old + new)
    count = sum(len(some) for some in tests.values())
    corrected = sorted(wrong)[:3]
    tests = {name: [c for c in some if (c.path, name) not in corrected] for name, some in tests.items()}
    told("the same, on clips that are not corrected", old + new)
    for path, name in corrected:
        model.correct(path, name)
    told("after three corrections, on these clips", old + new)
    return count


def best(model: Learned, clip: ClipFile, names: Names) -> str:
    """Best name of a clip whose features are kept."""
    return model.answer(model.store.features(clip_id(clip.path, None, None)), names).best.name


def shuffled(clips: Sequence[ClipFile], random: np.random.Generator) -> list[ClipFile]:
    """The clips in another order."""
    return [clips[place] for place in random.permutation(len(clips))]


# --- Search -------------------------------------------------------------------------------------------


def searching(library: Path) -> Iterator[str]:
    """Rows of the table about search."""
    asked = (
        ("a name", "names", None),
        ("a clip", "examples", None),
        ("the sound of a clip", "examples", "audio"),
    )
    with sacma.open_library(library) as opened:
        for shown, how, modality in asked:
            found = rows(opened, how, modality)
            mean, low, high = interval([100 * first for first, _ in found])
            yield f"| {shown} | {len(found)} questions | {mean:.0f} ({low:.0f} to {high:.0f}) % |"


# --- Films --------------------------------------------------------------------------------------------


def films(listed: Sequence[ClipFile], folder: Path, count: int) -> Iterator[str]:
    """Rows of the table about films."""
    zero_shot = sacma.zero_shot("label-bridge")
    means, late, every, elsewhere = [], [], [], []
    for seed in range(count):
        kept = folder / f"film-{seed}.json"
        if not kept.is_file():
            write_json(kept, distances(zero_shot, drawn(listed, np.random.default_rng(seed)), folder))
        found = read_json(kept)
        off = np.array(found["off"])
        elsewhere.append(found["elsewhere"])
        means.append(float(np.abs(off).mean()))
        late.append(float(off.mean()))
        every.extend(np.abs(off).tolist())
        print(f"film {seed}: off by {means[-1]:.2f} s on average", flush=True)
    low, high = mean_interval(means)
    yield f"| boundaries, off on average | {count} films | {np.mean(means):.2f} ({low:.2f} to {high:.2f}) s |"
    low, high = mean_interval(late)
    mean = f"{np.mean(late):+.2f} ({low:+.2f} to {high:+.2f})"
    yield f"| boundaries, late on average | {count} films | {mean} s |"
    near = 100 * np.mean(np.array(every) <= 0.5)
    yield f"| boundaries within 0.5 s | {len(every)} boundaries | {near:.0f} % |"
    yield f"| changes told elsewhere | {count} films | {np.mean(elsewhere):.1f} a film |"


def distances(model: sacma.ZeroShot, clips: Sequence[ClipFile], folder: Path) -> dict[str, Any]:
    """Seconds from each true boundary of a film to the nearest change of the name, or end of the film.

    ``elsewhere`` counts the changes that are more than a second from all true boundaries.
    """
    truth = np.array(join_clips(folder / "film.mp4", [clip.path for clip in clips]))
    found = model.predict(folder / "film.mp4", sorted({spelt(clip) for clip in clips}), window=3.0)
    changes = np.array([part.start for part in found.timeline[1:]])
    told = changes if len(changes) else np.array([0.0, found.windows[-1].end])
    off = [float(told[np.abs(told - moment).argmin()] - moment) for moment in truth]
    return {"off": off, "elsewhere": sum(bool(np.abs(truth - one).min() > 1) for one in changes)}


def drawn(listed: Sequence[ClipFile], random: np.random.Generator) -> list[ClipFile]:
    """Clips of a film: no two neighbours of one class."""
    rest = shuffled(listed, random)
    clips = [rest.pop()]
    while len(clips) < FILM:
        clips.append(rest.pop(next(k for k in range(len(rest)) if spelt(rest[k]) != spelt(clips[-1]))))
    return clips


def join_clips(path: Path, clips: Sequence[Path]) -> list[float]:
    """Write clips behind each other; seconds where each but the first begins."""
    import av

    ends = [0.0]
    with av.open(str(path), "w") as film:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        pictures: Any = film.add_stream(codec, rate=FRAMES)
        pictures.width = pictures.height = 224
        pictures.pix_fmt, pictures.bit_rate = "yuv420p", 2_000_000
        sound: Any = film.add_stream("aac", rate=RATE, layout="mono")
        done = heard = 0
        for clip in clips:
            shown, wave = _decoded(clip)
            seconds = int(wave.shape[1] / RATE * FRAMES) / FRAMES
            ends.append(ends[-1] + seconds)
            while done < ends[-1] * FRAMES:
                moment = done / FRAMES - ends[-2]
                picture = [one for time, one in shown if time <= moment + 1e-3][-1]
                film.mux(pictures.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                done += 1
            block = np.ascontiguousarray(wave[:, : round(seconds * RATE)])
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = RATE, heard
            heard += frame.samples
            film.mux(sound.encode(frame))
        film.mux(pictures.encode(None))
        film.mux(sound.encode(None))
    return ends[1:-1]


def _decoded(clip: Path) -> tuple[list[tuple[float, Any]], Any]:
    """Frames of a clip with their times, and its sound (1, S)."""
    import av

    with av.open(str(clip)) as source:
        frames = [(float(frame.time), frame.to_ndarray(format="rgb24")) for frame in source.decode(video=0)]
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
    with av.open(str(clip)) as source:
        blocks = [one.to_ndarray() for frame in source.decode(audio=0) for one in resampler.resample(frame)]
    return frames, np.concatenate(blocks, axis=1)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--films", type=int, default=6)
    parser.add_argument("--library", type=Path, help="made by sacma index; without it search is left out")
    parser.add_argument("--folder", type=Path, help="keeps what is done; the same command goes on there")
    asked = parser.parse_args()
    bridge = taught.open_frozen("label-bridge", audio_weights=sound_labels())
    taught.open_frozen = lambda *_, **__: bridge  # type: ignore[assignment]  # opened once
    listed = [clip for clip in find_clips([asked.clips]) if clip.path.suffix == ".mp4"]
    print(f"{len(listed)} clips of {len({spelt(clip) for clip in listed})} classes")
    print("| step | on | right, or off |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if asked.draws:
            print(*teaching(listed, folder, asked.draws), sep="\n", flush=True)
        if asked.library is not None:
            print(*searching(asked.library), sep="\n", flush=True)
        if asked.films:
            print(*films(listed, folder, asked.films), sep="\n", flush=True)


if __name__ == "__main__":
    main()
