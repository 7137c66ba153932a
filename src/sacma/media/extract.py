"""Clips to features: one clip, and a whole set of them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from sacma.errors import SacmaError
from sacma.media.backbones import Backbone, Steps
from sacma.media.decode import LIMITS, Clip, Limits
from sacma.media.recording import Played
from sacma.media.sources import ClipSource, name_of, opened

_T = TypeVar("_T")


@dataclass(frozen=True)
class ClipFeatures:
    """Features of one clip by a backbone.

    Attributes:
        audio: the steps of the sound, None where there is none.
        video: the steps of the pictures, None where there are none.
        notes: what was wrong with the file and did not stop it.
        seconds: length of the clip or of the part that was read, as the file says; None where it does not.
    """

    audio: Steps | None
    video: Steps | None
    notes: tuple[str, ...] = ()
    seconds: float | None = None


def extract_clip(
    path: ClipSource,
    backbone: Backbone,
    *,
    start: float | None = None,
    end: float | None = None,
    limits: Limits = LIMITS,
    advice: str = "",
    on_open: Callable[[float | None], None] | None = None,
) -> ClipFeatures:
    """The features of a clip, or of the part from ``start`` to ``end`` seconds.

    Decoding goes on in a thread while the encoder works.

    Args:
        path: the clip.
        backbone: encodes it.
        start: seconds where the part begins.
        end: seconds where it ends.
        limits: what a clip may ask of us.
        advice: added to the message where the backbone reads nothing of what is in the clip.
        on_open: called before anything is decoded, with the seconds of the clip as its header has them.

    Raises:
        SacmaError: see ``sacma.media.sources.opened``, ``Clip.frames``, ``Clip.waveform``.
    """
    audio, video = backbone.audio, backbone.video
    with opened(path, limits=limits) as clip:
        if on_open is not None:
            on_open(clip.seconds)
        sound = Ahead(partial(clip.waveform, rate=audio.rate, start=start, end=end))
        pictures = Ahead(partial(clip.frames, rate=video.rate, size=video.size, start=start, end=end))
        encoded = audio.encode(sound), video.encode(pictures)
        made = ClipFeatures(*encoded, tuple(clip.notes), part_seconds(clip, start=start, end=end))
        has = {"sound": (clip.has_audio, audio), "pictures": (clip.has_video, video)}
    if made.audio is None and made.video is None:
        unused = [what for what, (there, encoder) in has.items() if there and not encoder.step_seconds]
        if unused:
            raise SacmaError(
                f"{name_of(path)}: only {unused[0]} in it, which {backbone.name} does not use here{advice}"
            )
        raise SacmaError(
            f"{name_of(path)}: no sound and no pictures in the part asked for; choose another part or file"
        )
    return made


def part_seconds(clip: Clip | Played, *, start: float | None, end: float | None) -> float | None:
    """Length of a clip, or of its part from ``start`` to ``end``; None where the file does not say."""
    last = clip.seconds if end is None else end
    return None if last is None else last - (start or 0.0)


class Ahead(Iterable[_T]):
    """A stream that a thread reads some items ahead of its consumer.

    What goes wrong in the thread is raised where the stream is gone through.
    """

    def __init__(self, stream: Callable[[], Iterable[_T]], items: int = 16) -> None:
        self._stream, self._items = stream, items

    def __iter__(self) -> Iterator[_T]:
        ready: queue.Queue[Callable[[], _T] | None] = queue.Queue(self._items)
        left = threading.Event()

        def read() -> None:
            try:
                for item in self._stream():
                    ready.put(lambda item=item: item)  # type: ignore[misc]
                    if left.is_set():
                        return
            except BaseException as error:
                ready.put(partial(_raise, error))
            ready.put(None)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        over = False  # nothing comes any more, and nobody has to wait for it
        try:
            while (item := ready.get()) is not None:
                yield item()
            over = True
        finally:
            left.set()
            while not over and reader.is_alive():
                with suppress(queue.Empty):
                    ready.get(timeout=0.01)
            reader.join()


def _raise(error: BaseException) -> Any:
    raise error
