"""AV-Shapes, the embedded benchmark: short clips with sound, rendered here, nothing to download.

51 classes are split 30 / 12 / 9 like UCF-GZSL. A class is five words: a shape and a motion, which are only
seen; a timbre and a rhythm, which are only heard; and whether sound and motion are in step ("together") or
not ("apart"), which takes both to tell. Its vector is the normalised sum of fixed codes of its words, so that
an unseen class is a new combination of known words. Size, colour, place, pitch, tempo, background and noise
vary from clip to clip.

docs/avshapes.md is the definition in words. It is a benchmark for software and sanity: its numbers say
nothing about real video. Whatever changes a pixel, a sample or a list of clips raises ``VERSION``.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacma.data.class_lists import write_class_split, write_table
from sacma.errors import SacmaError, requires
from sacma.files import cache_folder, remove, replacing
from sacma.media.backbones import Frames
from sacma.media.backbones.descriptors import AudioDescriptors, VideoDescriptors
from sacma.text.avshapes_words import (
    NAME,
    RHYTHMS,
    TEXT_PROVENANCE,
    TEXT_WIDTH,
    VERSION,
    WORDS,
    class_vector,
    class_words,
)

FEATURES = "descriptors"
SIZE = 48
"""Pixels along each side of a frame."""
FPS = 12
RATE = 8_000
"""Samples per second."""

TRAIN = (
    "bar bouncing hissing scattered together",
    "bar circling buzzing paired apart",
    "bar circling humming galloping together",
    "bar pulsing chirping galloping together",
    "bar pulsing ringing scattered apart",
    "circle bouncing humming paired together",
    "circle circling buzzing steady together",
    "circle sliding humming scattered apart",
    "circle spinning chirping scattered together",
    "circle spinning ringing steady apart",
    "square bouncing hissing galloping apart",
    "square bouncing hissing galloping together",
    "square circling chirping galloping apart",
    "square sliding buzzing steady apart",
    "square sliding ringing galloping together",
    "square spinning hissing scattered apart",
    "square spinning hissing scattered together",
    "star bouncing ringing paired apart",
    "star pulsing chirping steady apart",
    "star pulsing chirping steady together",
    "star pulsing hissing galloping together",
    "star sliding humming steady apart",
    "star spinning ringing scattered together",
    "triangle bouncing buzzing paired apart",
    "triangle bouncing buzzing paired together",
    "triangle circling humming galloping apart",
    "triangle pulsing hissing steady together",
    "triangle pulsing humming paired apart",
    "triangle sliding humming galloping together",
    "triangle sliding ringing steady apart",
)
"""The 30 classes that both stages train on."""

VAL_UNSEEN = (
    "bar spinning ringing paired apart",
    "circle sliding hissing galloping apart",
    "circle sliding hissing galloping together",
    "circle sliding humming steady together",
    "square circling buzzing galloping together",
    "square pulsing humming steady together",
    "square spinning humming paired together",
    "star bouncing chirping scattered apart",
    "star bouncing chirping scattered together",
    "star pulsing ringing galloping apart",
    "triangle circling buzzing steady apart",
    "triangle pulsing chirping scattered together",
)
"""The 12 classes that stage 1 has not seen and stage 2 trains on."""

TEST_UNSEEN = (
    "bar circling ringing paired together",
    "bar spinning humming scattered apart",
    "circle bouncing chirping galloping apart",
    "circle bouncing chirping galloping together",
    "square pulsing ringing steady apart",
    "star circling buzzing paired together",
    "star spinning buzzing steady apart",
    "triangle sliding hissing scattered apart",
    "triangle sliding hissing scattered together",
)
"""The 9 classes that nothing is trained on."""

CLASSES = tuple(sorted(TRAIN + VAL_UNSEEN + TEST_UNSEEN))

PARTITIONS: tuple[tuple[str, tuple[str, ...], range], ...] = (
    ("stage_1_train", TRAIN, range(16)),
    ("stage_1_val_seen", TRAIN, range(16, 20)),
    ("stage_1_val_unseen", VAL_UNSEEN, range(14)),
    ("stage_2_test_seen", TRAIN + VAL_UNSEEN, range(20, 23)),
    ("stage_2_test_unseen", TEST_UNSEEN, range(10)),
)
"""Partition, its classes, and the numbers of their clips in it, in the order of the feature files."""

_CLIPS_PER_SHARD = 24


@dataclass(frozen=True)
class ListedClip:
    """One clip of the benchmark: the ``number``-th of its class."""

    class_name: str
    partition: str
    number: int

    @property
    def name(self) -> str:
        return f"{_slug(self.class_name)}-{self.number:02d}"

    @property
    def seed(self) -> int:
        return clip_seed(self.class_name, self.number)


def listed_clips() -> list[ListedClip]:
    """All clips, in the order of the feature files."""
    return [
        ListedClip(class_name, partition, number)
        for partition, classes, numbers in PARTITIONS
        for class_name in classes
        for number in numbers
    ]


def clip_seed(class_name: str, number: int) -> int:
    """The seed of the ``number``-th clip of a class: the same on every machine, whoever renders it."""
    text = f"AV-Shapes {VERSION}/{class_name}/{number}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


# --- Rendering ----------------------------------------------------------------------------------------


def render_clip(
    class_name: str, seed: int, *, size: int = SIZE, fps: int = FPS
) -> tuple[Frames, float, NDArray[np.float32], int]:
    """Draw one clip and its sound.

    Seed and class decide everything; ``size`` and ``fps`` show the same scene larger or more smoothly.

    Args:
        class_name: a shape, a motion, a timbre, a rhythm, and "together" or "apart"; not only the 51.
        seed: 0 to 2**32 - 1; see ``clip_seed`` for those of the benchmark.
        size: pixels along each side.
        fps: frames per second.

    Returns:
        frames (F, size, size, 3), frames per second, waveform (S,) from -1 to 1, samples per second. Frame i
        is shown at i / fps seconds; pictures and sound are equally long, 2 to 8 s.

    Raises:
        SacmaError: the name is not made of the five words, or the seed is out of range.
    """
    words = class_words(class_name)
    if not 0 <= seed < 2**32:
        raise SacmaError(f"seed {seed} is out of range; expected 0 to {2**32 - 1}")
    scene = _scene(words, seed)
    return _frames(words, scene, seed, size, fps), float(fps), _waveform(words[2], scene, seed), RATE


@dataclass(frozen=True)
class _Scene:
    """What a clip is beside its class. Lengths are fractions of the side of a frame; y points down."""

    duration: float
    notes: NDArray[np.float64]
    """Seconds at which notes start, ascending."""
    strokes: NDArray[np.float64]
    """Seconds at which strokes of the motion start, ascending; those of the notes where both are in step."""
    radius: float
    centre: tuple[float, float]
    tilt: float
    reach: float
    """How far a stroke goes, 0 to 1 of what the motion allows."""
    clockwise: float
    colour: NDArray[np.float64]
    background: NDArray[np.float64]
    """(2, 3) colours between which the background runs, in the direction ``slope``."""
    slope: float
    grain: float
    pitch: float
    note_length: float
    loudness: float
    hiss: float
    """Level of the noise behind the sound."""
    hiss_colour: float


def _random(seed: int, purpose: str) -> np.random.RandomState:
    # The stream of RandomState is frozen; that of numpy's Generator may change from one release to the next.
    digest = hashlib.sha256(f"{VERSION}/{seed}/{purpose}".encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype=">u4").astype(np.uint32))


def _scene(words: Sequence[str], seed: int) -> _Scene:
    random = _random(seed, "scene")
    rhythm, binding = words[3:]
    duration = round(random.uniform(2.0, 8.0) * FPS) / FPS
    notes = _beats(rhythm, duration, random)
    strokes = notes if binding == "together" else _out_of_step(notes, duration, random)
    background = random.uniform(0.1, 0.9)
    contrast = random.uniform(0.35, 0.5) * (-1 if background > 0.5 else 1)
    return _Scene(
        duration=duration,
        notes=notes,
        strokes=strokes,
        radius=random.uniform(0.12, 0.18),
        centre=(random.uniform(-0.1, 0.1), random.uniform(-0.1, 0.1)),
        tilt=np.deg2rad(random.uniform(-12, 12)),
        reach=random.uniform(0.0, 1.0),
        clockwise=float(random.choice([-1.0, 1.0])),
        colour=np.clip(background + contrast + random.uniform(-0.15, 0.15, 3), 0, 1),
        background=np.clip(background + random.uniform(-0.1, 0.1, (2, 3)), 0, 1),
        slope=random.uniform(0, 2 * np.pi),
        grain=random.uniform(0.008, 0.03),
        pitch=float(np.exp(random.uniform(np.log(180), np.log(480)))),
        note_length=random.uniform(0.14, 0.22),
        loudness=random.uniform(0.2, 0.6),
        hiss=float(np.exp(random.uniform(np.log(0.001), np.log(0.012)))),
        hiss_colour=random.uniform(0, 1),
    )


def _beats(rhythm: str, duration: float, random: np.random.RandomState) -> NDArray[np.float64]:
    """Seconds of the beats: bars of 0.8 to 1.2 s; one in seven is silent, but never two in a row."""
    bar = random.uniform(0.8, 1.2)
    start = random.uniform(-0.5, 0.0) * bar
    beats: list[float] = []
    silent = True  # the first bar sounds
    while start < duration:
        places = _places(rhythm, random)
        silent = not silent and random.uniform() < 1 / 7
        if not silent:
            beats += [start + bar * place for place in places]
        start += bar
    heard = np.array([beat for beat in beats if 0 <= beat < duration - 0.1])
    return heard if len(heard) else _beats(rhythm, duration, random)  # all outside a short clip: once more


def _places(rhythm: str, random: np.random.RandomState) -> Sequence[float]:
    """Where in its bar, from 0 to 1, a rhythm has its beats."""
    if rhythm == "scattered":
        first = random.uniform(0.0, 0.55)
        return first, random.uniform(first + 0.2, 0.8)
    return {"steady": (0.0, 0.5), "paired": (0.0, 0.25), "galloping": (0.0, 0.5, 0.75)}[rhythm]


def _out_of_step(
    notes: NDArray[np.float64], duration: float, random: np.random.RandomState
) -> NDArray[np.float64]:
    """Beats of any rhythm and tempo, few of which fall within a tenth of a second of a note.

    The rhythm is any, not that of the notes: the pictures of a class that is apart must not show it.
    """
    best, fewest = notes, np.inf
    for _ in range(20):
        beats = _beats(RHYTHMS[random.randint(len(RHYTHMS))], duration, random)
        near = (np.abs(beats[:, None] - notes).min(axis=1) < 0.1).mean()
        if near < fewest:
            best, fewest = beats, near
        if fewest < 0.2:
            break
    return best


# Pictures: the scene is a distance to the outline for each pixel, the same at every size


_STROKE_SECONDS = 0.28


@dataclass(frozen=True)
class _Pose:
    """Where the shape is in each frame, (F,) each."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    angle: NDArray[np.float64]
    scale: NDArray[np.float64]


def _poses(motion: str, scene: _Scene, times: NDArray[np.float64]) -> _Pose:
    """A stroke from each beat on: a hop, a slide across, part of a turn, a swelling, part of an orbit."""
    strokes = scene.strokes
    length = np.minimum(_STROKE_SECONDS, np.diff(strokes, append=np.inf))
    current = np.maximum(np.searchsorted(strokes, times, side="right") - 1, 0)
    part = np.clip((times - strokes[current]) / length[current], 0, 1)  # (F,) of the current stroke
    there_and_back = np.sin(np.pi * part)
    done = current + part * part * (3 - 2 * part)  # strokes made so far, starting and ending gently
    still = np.zeros_like(times)
    x, y = scene.centre[0] + still, scene.centre[1] + still
    angle, scale = scene.tilt + still, 1 + still
    if motion == "bouncing":
        y += 0.08 - (0.18 + 0.08 * scene.reach) * there_and_back
    elif motion == "sliding":
        x += scene.clockwise * (0.12 + 0.08 * scene.reach) * np.cos(np.pi * done)
    elif motion == "spinning":
        angle += scene.clockwise * np.deg2rad(50 + 40 * scene.reach) * done
    elif motion == "pulsing":
        scale += (0.35 + 0.25 * scene.reach) * there_and_back
    else:
        turned = scene.clockwise * np.deg2rad(55 + 35 * scene.reach) * done + scene.slope
        orbit = 0.12 + 0.06 * scene.reach
        x, y = x + orbit * np.cos(turned), y + orbit * np.sin(turned)
    return _Pose(x, y, angle, scale)


def _frames(words: Sequence[str], scene: _Scene, seed: int, size: int, fps: int) -> Frames:
    times = np.arange(round(scene.duration * fps)) / fps
    pose = _poses(words[1], scene, times)
    grain = _random(seed, "grain")
    grid = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32)
    out = np.empty((len(times), size, size, 3), np.uint8)
    block = max(1, 250_000 // size**2)  # frames at once: large pictures need no more memory than small ones
    for start in range(0, len(times), block):
        rows = slice(start, start + block)
        picture = _picture(words[0], scene, pose, rows, grid)
        noise = grain.standard_normal(picture.shape).astype(np.float32)
        out[rows] = np.clip((picture + np.float32(scene.grain) * noise) * 255 + 0.5, 0, 255)
    return out


def _picture(
    shape: str, scene: _Scene, pose: _Pose, rows: slice, grid: NDArray[np.float32]
) -> NDArray[np.float32]:
    """(F, H, W, 3) the frames ``rows`` without grain."""

    def column(values: NDArray[np.float64]) -> NDArray[np.float32]:
        return values[rows, None, None].astype(np.float32)

    x, y = grid[None, None, :] - column(pose.x), grid[None, :, None] - column(pose.y)
    cos, sin = np.cos(column(pose.angle)), np.sin(column(pose.angle))
    unit = np.float32(scene.radius) * column(pose.scale)
    u, v = (
        (x * cos + y * sin) / unit,
        (y * cos - x * sin) / unit,
    )  # (F, H, W), shapes have a radius of about 1
    sharpness = unit * len(grid)
    inside = np.clip(0.5 - _distance(shape, u, v) * sharpness, 0, 1)
    mark = np.clip(0.5 - (np.hypot(u - np.float32(0.45), v) - np.float32(0.25)) * sharpness, 0, 1)
    inside = (inside * (1 - mark))[..., None]  # a hole beside the middle: a circle that spins is seen to
    slope = np.cos(scene.slope) * grid[None, :] + np.sin(scene.slope) * grid[:, None] + 0.5
    low, high = scene.background.astype(np.float32)
    behind = low + (high - low) * slope[..., None].astype(np.float32)
    return np.asarray(behind + (scene.colour.astype(np.float32) - behind) * inside, dtype=np.float32)


def _distance(shape: str, u: NDArray[np.float32], v: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far points lie outside the outline, negative inside; all are about as large as the unit circle."""
    if shape == "circle":
        return np.hypot(u, v) - np.float32(1)
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) - np.float32(0.89)
    if shape == "bar":
        return np.maximum(np.abs(u) - np.float32(1.75), np.abs(v) - np.float32(0.45))
    if shape == "triangle":
        half, root = np.float32(0.5), np.float32(np.sqrt(0.75))
        return np.maximum(v, root * np.abs(u) - half * v) - np.float32(0.78)
    # star: five tips at 1.6, dents at 0.72; one edge between a tip and a dent, mirrored ten times
    tip, dent, tenth = np.float32(1.6), np.float32(0.72), np.float32(np.pi / 5)
    angle = np.abs(np.mod(np.arctan2(u, -v) + tenth, 2 * tenth) - tenth)  # 0 towards a tip
    far = np.hypot(u, v)
    edge_x, edge_y = dent * np.cos(tenth) - tip, dent * np.sin(tenth)
    outward = (far * np.cos(angle) - tip) * edge_y - far * np.sin(angle) * edge_x
    return np.asarray(outward / np.hypot(edge_x, edge_y), dtype=np.float32)


# Sound


def _waveform(timbre: str, scene: _Scene, seed: int) -> NDArray[np.float32]:
    random = _random(seed, "sound")
    samples = round(scene.duration * RATE)
    white = random.standard_normal(samples + 7)
    dull = np.convolve(white, np.full(8, 8**-0.5), mode="valid")  # the same power, mostly below 500 Hz
    out = scene.hiss * (scene.hiss_colour * dull + (1 - scene.hiss_colour) * white[:samples])
    for start in np.round(scene.notes * RATE).astype(int):
        pitch = scene.pitch * random.uniform(0.97, 1.03)
        note = _note(timbre, pitch, scene.note_length, random)[: samples - start]
        out[start : start + len(note)] += scene.loudness * random.uniform(0.7, 1.0) * note
    return np.clip(out, -1, 1).astype(np.float32)


def _note(timbre: str, pitch: float, length: float, random: np.random.RandomState) -> NDArray[np.float64]:
    """One note, (S,), with a peak of 1."""
    t = np.arange(round(length * RATE)) / RATE
    turns = 2 * np.pi * pitch * t
    if timbre == "humming":  # nearly a sine
        note = np.sin(turns) + 0.15 * np.sin(2 * turns)
    elif timbre == "buzzing":  # a saw tooth, all harmonics below 3.8 kHz
        orders = np.arange(1, int(3800 / pitch) + 1)
        note = (np.sin(orders[:, None] * turns) / orders[:, None]).sum(axis=0)
    elif timbre == "ringing":  # a bell: partials that are no harmonics, the higher the sooner gone
        ratios = np.array([[1.0], [2.76], [5.4]])
        note = (np.sin(ratios * turns) * np.exp(-6 * ratios * t) / ratios**0.5).sum(axis=0)
    elif timbre == "hissing":  # noise without its low part
        note = np.diff(random.standard_normal(len(t) + 1))
    else:  # chirping: up from the pitch to three times it
        note = np.sin(turns * (1 + t / length))
    note = note * np.minimum(1, t / 0.01) * np.minimum(1, (length - t) / 0.03)
    return np.asarray(note / np.abs(note).max())


# --- The benchmark folder -----------------------------------------------------------------------------


def prepare(on_progress: Callable[[int, int], None] | None = None) -> Path:
    """The folder of the benchmark, rendered and described once and then kept in the cache (under a minute).

    The work is spread over the processors, whose number does not change the result. A run that was
    interrupted goes on where it stopped; two at a time do no harm.

    Args:
        on_progress: called with the clips done and all clips.

    Returns:
        A root with ``class-split/`` and ``features/descriptors/``.

    Raises:
        SacmaError: the cache folder cannot be written to.
    """
    root = cache_folder() / f"{NAME}-{VERSION}-{_fingerprint()}"
    if _complete(root):
        return root
    shards = root.with_name(f"{root.name}.shards")
    _render_all(shards, on_progress)
    if root.exists() and not _complete(root):
        remove(root)
    try:
        with replacing(root) as partial:
            _write_root(partial, shards)
    except SacmaError:
        if not _complete(root):  # else another process was first, with the same content
            raise
    remove(shards)
    return root


def _complete(root: Path) -> bool:
    return (root / "features" / FEATURES / "clips.json").is_file() and (root / "class-split").is_dir()


def _fingerprint() -> str:
    """Changes with the definition, so that a new one never meets old files."""
    versions = (AudioDescriptors().version, VideoDescriptors().version)
    text = sorted(TEXT_PROVENANCE.items())
    definition = (VERSION, versions, WORDS, PARTITIONS, TEXT_WIDTH, text, SIZE, FPS, RATE)
    return hashlib.sha256(repr(definition).encode()).hexdigest()[:8]


def _shard_path(shards: Path, shard: int) -> Path:
    return shards / f"{shard:03d}.npz"


def _shard_count() -> int:
    return -(-len(listed_clips()) // _CLIPS_PER_SHARD)


def _render_all(shards: Path, on_progress: Callable[[int, int], None] | None) -> None:
    """Render the shards that are not there yet, in this process and in others where they can be started."""
    count, clips = _shard_count(), len(listed_clips())
    workers = min(_processors(), count)
    others = [process for worker in range(1, workers) if (process := _start_worker(shards, worker, workers))]

    def report() -> None:
        if on_progress is not None:
            done = sum(_shard_path(shards, shard).is_file() for shard in range(count))
            on_progress(min(done * _CLIPS_PER_SHARD, clips), clips)

    try:
        # The others go up from their own first shard. When this process is through with its share, it takes
        # from the far end what they have not come to, so that nothing waits for a slow or a dead one.
        for shard in (*range(0, count, workers), *reversed(range(count))):
            _render_shard(shards, shard)
            report()
    finally:
        for process in others:
            process.kill()
            process.wait()


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _start_worker(shards: Path, worker: int, workers: int) -> subprocess.Popen[bytes] | None:
    # A program of its own, not a fork: safe beside threads and devices, and scripts need no main guard.
    command = [
        sys.executable,
        "-m",
        "sacma.datasets.avshapes.folder",
        str(shards),
        str(worker),
        str(workers),
        str(os.getpid()),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    quiet: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    try:
        return subprocess.Popen(command, env=environment, **quiet)
    except OSError:  # no interpreter to start, no process left: this process does it all
        return None


def _work(arguments: Sequence[str]) -> None:
    """What a process started by ``_start_worker`` does; it ends when the one that started it is gone."""
    shards, worker, workers, parent = Path(arguments[0]), *map(int, arguments[1:])
    for shard in range(worker, _shard_count(), workers):
        if os.getppid() != parent:
            return
        _render_shard(shards, shard)


def _render_shard(shards: Path, shard: int) -> None:
    """Describe some clips and keep that: ``audio`` and ``video`` (N, D), and the lengths (clips,) of each."""
    target = _shard_path(shards, shard)
    if target.is_file():
        return
    start = shard * _CLIPS_PER_SHARD
    described = [_described(clip) for clip in listed_clips()[start : start + _CLIPS_PER_SHARD]]
    arrays: dict[str, Any] = {}
    for name, values in zip(("audio", "video"), zip(*described, strict=True), strict=True):
        arrays[name] = np.concatenate(values)
        arrays[f"{name}_lengths"] = np.array([len(value) for value in values])
    with replacing(target) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def _described(clip: ListedClip) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    frames, fps, waveform, rate = render_clip(clip.class_name, clip.seed)
    audio = AudioDescriptors()(waveform, rate)
    video = VideoDescriptors()(frames, np.arange(len(frames)) / fps)
    return audio.values, video.values


def _shard_values(shards: Path) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    for shard in range(_shard_count()):
        _render_shard(shards, shard)  # there already, unless another process has finished and tidied up
        with np.load(_shard_path(shards, shard), allow_pickle=False) as arrays:
            parts = [np.split(arrays[n], np.cumsum(arrays[f"{n}_lengths"])[:-1]) for n in ("audio", "video")]
        yield from zip(*parts, strict=True)


def _write_root(root: Path, shards: Path) -> None:
    from sacma.data.class_lists import PARTITIONS as ORDER
    from sacma.data.features_writer import FeaturesWriter  # here, lest each worker loads torch
    from sacma.text.vectors import TextTable

    _write_class_split(root / "class-split")
    folder = root / "features" / FEATURES
    vectors = np.stack([class_vector(name) for name in CLASSES])
    table = TextTable(CLASSES, vectors, NAME, TEXT_PROVENANCE)
    table.write(folder / "text" / f"word_embeddings_{NAME}_normed.npz")
    audio, video = AudioDescriptors(), VideoDescriptors()
    with FeaturesWriter(
        folder,
        CLASSES,
        audio_width=audio.width,
        video_width=video.width,
        audio_step=audio.step_seconds,
        video_step=video.step_seconds,
        provenance=_provenance(),
    ) as writer:
        for clip, (heard, seen) in zip(listed_clips(), _shard_values(shards), strict=True):
            writer.add(clip.name, CLASSES.index(clip.class_name), ORDER.index(clip.partition), heard, seen)


def _provenance() -> dict[str, Any]:
    extractors = {"audio": AudioDescriptors(), "video": VideoDescriptors()}
    facts = ("name", "version", "licence", "checksum")
    return {
        "source": f"AV-Shapes {VERSION}, rendered",
        "definition": _fingerprint(),
        **{kind: {fact: getattr(made_by, fact) for fact in facts} for kind, made_by in extractors.items()},
    }


def _write_class_split(folder: Path) -> None:
    clips = [(clip.name, clip.class_name, clip.partition) for clip in listed_clips()]
    write_class_split(folder, NAME, {name: name for name in CLASSES}, clips)


# --- Clips to look at ---------------------------------------------------------------------------------


def write_examples(out: Path, clips: int, *, size: int = 256) -> list[Path]:
    """Write clips of the benchmark as mp4 files, one class after another, then the next clip of each class.

    Beside them stands ``clips.csv``, path and class of each, as ``sacma extract`` reads it.

    Raises:
        SacmaError: PyAV is missing, ``clips`` is below 1, or the folder cannot be written to.
    """
    if clips < 1:
        raise SacmaError(f"{clips} clips to write; choose at least 1")
    written = []
    for place in range(clips):
        number, position = divmod(place, len(CLASSES))
        name = CLASSES[position]
        target = out / f"{_slug(name)}-{number:02d}.mp4"
        write_mp4(name, clip_seed(name, number), target, size=size)
        written.append(target)
    rows = [(target.name, CLASSES[place % len(CLASSES)]) for place, target in enumerate(written)]
    write_table(out / "clips.csv", ("path", "class"), rows)
    return written


def write_mp4(class_name: str, seed: int, target: Path, *, size: int = 256, fps: int = 24) -> None:
    """Render a clip and write it as mp4: H.264, or MPEG-4 where PyAV has no encoder for it, and AAC.

    Raises:
        SacmaError: PyAV is missing, ``size`` is odd, or the file cannot be written.
    """
    with requires("media", "writing mp4 files needs PyAV"):
        import av
    if size < 16 or size % 2:
        raise SacmaError(f"a picture of {size} pixels cannot be encoded; choose an even number from 16 on")
    frames, _, waveform, rate = render_clip(class_name, seed, size=size, fps=fps)
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with replacing(target) as partial, av.open(str(partial), "w", format="mp4") as container:
        pictures: Any = container.add_stream(codec, rate=fps)
        pictures.width = pictures.height = size
        pictures.pix_fmt = "yuv420p"
        sound: Any = container.add_stream("aac", rate=rate, layout="mono")
        for frame in frames:
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(pictures.encode(None))
        heard = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
        heard.sample_rate = rate
        container.mux(sound.encode(heard))
        container.mux(sound.encode(None))


def _slug(class_name: str) -> str:
    return class_name.replace(" ", "-")


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        _work(sys.argv[1:])
