"""Opens the features of a benchmark folder; features in the official format are converted first."""

from __future__ import annotations

from pathlib import Path

from sacma.data.clips_file import CLIPS_FILE, INDEX_FILE
from sacma.data.features import Features, Track
from sacma.data.layout import PRESETS, Layout, features_folder, has_class_files, is_our_format
from sacma.errors import SacmaError
from sacma.progress import OnProgress


def open_features(
    layout: Layout,
    features: str,
    *,
    audio_step: float | None = None,
    video_step: float | None = None,
    on_progress: OnProgress | None = None,
) -> Features:
    """Open the features of a folder, converting official ones. Arguments as in ``Benchmark.open``."""
    folder = features_folder(layout.root, features)
    path = layout.root / "features" / folder
    if is_our_format(path):
        opened = Features.open(path)
        _same_step(path, "audio", opened.audio, audio_step)
        _same_step(path, "video", opened.video, video_step)
        return opened
    audio_seconds, video_seconds = _steps(layout, features, folder, audio_step, video_step)
    from sacma.data.official import importing  # readers of other formats, which our own does not need

    imported = importing.cached_import(
        layout.root,
        benchmark=layout.name,
        folder=folder,
        audio_step=audio_seconds,
        video_step=video_seconds,
        on_progress=on_progress,
    )
    return Features.open(imported / "features" / folder)


def import_benchmark(
    root: str | Path,
    out: str | Path,
    benchmark: str,
    features: str,
    *,
    audio_step: float | None = None,
    video_step: float | None = None,
    on_progress: OnProgress | None = None,
) -> Path:
    """Convert the official features of a folder into our format, in a new folder ``out`` of the same layout.

    Arguments are those of ``Benchmark.open``; see ``import_folder``.
    """
    layout = Layout.find(Path(root), benchmark, "main")
    folder = features_folder(layout.root, features)
    if is_our_format(layout.root / "features" / folder):
        raise SacmaError(f"{layout.root / 'features' / folder} is in our format already; use it as it is")
    audio_seconds, video_seconds = _steps(layout, features, folder, audio_step, video_step)
    from sacma.data.official import importing

    return importing.import_folder(
        layout.root,
        out,
        benchmark=layout.name,
        folder=folder,
        audio_step=audio_seconds,
        video_step=video_seconds,
        on_progress=on_progress,
    )


def _same_step(path: Path, modality: str, track: Track, given: float | None) -> None:
    if given is not None and given != track.step_seconds:
        raise SacmaError(
            f"{path / INDEX_FILE}: {modality} steps are {track.step_seconds} s, not {given} s; "
            f"leave --{modality}-step out"
        )


def _steps(
    layout: Layout, features: str, folder: str, audio_step: float | None, video_step: float | None
) -> tuple[float, float]:
    """Return the seconds of an audio and of a video step of official features: as given, else by folder name.

    The folder names are those of the official archives, so they count only for known benchmarks.
    """
    preset = PRESETS.get(features)
    if preset is None and layout.facts is not None:
        preset = next((known for known in PRESETS.values() if folder in known.folders), None)
    audio_step = preset.audio_step if audio_step is None and preset else audio_step
    video_step = preset.video_step if video_step is None and preset else video_step
    if audio_step is None or video_step is None:
        path = layout.root / "features" / folder
        if not has_class_files(path):
            raise SacmaError(f"{path}: no clips here; expected {CLIPS_FILE} or the folders audio/ and video/")
        raise SacmaError(
            f"{path}: the files do not say how long a step is; pass --audio-step and --video-step in seconds"
        )
    if not (0 < audio_step < float("inf") and 0 < video_step < float("inf")):
        raise SacmaError(f"steps of {audio_step} s and {video_step} s: expected positive numbers of seconds")
    return audio_step, video_step
