"""Many clips, one after another or in several processes: answers as they come, and what a kill leaves.

With a file to write, each finished clip is a line of ``FILE.unfinished`` first. The same command goes on
after the last whole line of it; at the end it is removed.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from sacma.datasets.hub_clips import HubClips
from sacma.errors import SacmaError, one_line, printable
from sacma.files import remove, replacing, write_text
from sacma.learn import is_learned, load_model
from sacma.media.decode import Limits
from sacma.media.listing import ClipFile
from sacma.predict import ZeroShot, load, zero_shot
from sacma.predict.mteb import Tally, write_result
from sacma.predict.outputs import STREAMED, Outcome, document, rows

_OF_LEARNED: tuple[str, ...] = ("audio_weights", "reject")
_OF_FROZEN: tuple[str, ...] = ("audio_weights", "prompts", "reject", "precision")
_OF_RUNS: tuple[str, ...] = ("backbone", "audio_weights", "video_weights", "encoder", "bias", "near_unknown")
_AHEAD = 2
"""Clips per process that are handed out before they are asked for."""


@dataclass(frozen=True)
class Request:
    """Question about each clip, and the model that answers it.

    Attributes:
        run: folder of a run or of a learned model; None for a frozen model.
        model: the frozen model, or folder of a learned one.
        classes: names, as the model's ``candidates`` takes them.
        skip_unknown: leave names out that the model has no vector for.
        asked: arguments of ``predict``.
        options: arguments of what opens the model; those that are None are not given.
        limits: what a clip may ask of us.
    """

    run: str | None
    model: str | None
    classes: tuple[str, ...] | None
    skip_unknown: bool
    asked: dict[str, Any]
    options: dict[str, Any]
    limits: Limits

    def digest(self, clips: Sequence[ClipFile]) -> str:
        """Of all that an answer depends on."""
        listed = [(str(clip.path), clip.start, clip.end) for clip in clips]
        told = {**asdict(self), "clips": listed}
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()

    def open(self) -> Any:
        """The model.

        Raises:
            SacmaError: it cannot be opened, or an option is not one of its.
        """
        given = {name: value for name, value in self.options.items() if value is not None}
        learned = next((place for place in (self.run, self.model) if is_learned(place)), None)
        if learned is not None:
            why, takes = f"with {learned}, a model that sacma learn made; leave it out", _OF_LEARNED
        elif self.run is None:
            why, takes = "without --run; it is an option of trained runs", _OF_FROZEN
        else:
            why, takes = "with --run; it is an option of frozen models", _OF_RUNS
        if other := [name for name in given if name not in (*takes, "device")]:
            raise SacmaError(f"--{other[0].replace('_', '-')} {why}")
        if learned is not None:
            if self.run is not None and self.model is not None:
                raise SacmaError(f"--run {self.run} and --model {self.model}; give one of them")
            return load_model(learned, limits=self.limits, **given)
        if self.run is None:
            return zero_shot(self.model, limits=self.limits, **given)
        if self.model is not None and "encoder" not in given:
            raise SacmaError(
                f"--model {self.model} without --encoder; say which encoder it is of, such as fasttext"
            )
        if "encoder" in given:
            given["encoder"] = {"encoder": given["encoder"], "model": self.model}
        return load(self.run, limits=self.limits, **given)


class Asker:
    """A model that is open, with the names that it is asked for.

    Args:
        request: what is asked.
        on_names: called with the names encoded and all names, by a frozen model.

    Raises:
        SacmaError: see ``Request.open``; or a name cannot be used.
    """

    def __init__(self, request: Request, *, on_names: Callable[[int, int], None] | None = None) -> None:
        self.request = request
        self.predictor = request.open()
        self.unknown: dict[str, str] = {}
        names: Sequence[str] | None = request.classes
        if request.skip_unknown and names is not None:
            names = self._known(names)
        given = None if names is None else list(names)
        options = {"on_progress": on_names} if on_names and isinstance(self.predictor, ZeroShot) else {}
        self.candidates: Any = self.predictor.candidates(given, **options)

    def _known(self, names: Sequence[str]) -> Sequence[str]:
        """The names that the model has vectors for; the others are kept with the reason."""
        for name in names:
            try:
                self.predictor.candidates([name])
            except SacmaError as error:
                self.unknown[name] = one_line(error)
        known = [name for name in names if name not in self.unknown]
        if not known:
            raise SacmaError(f"none of the names is known: {next(iter(self.unknown.values()))}")
        return known

    def ask(self, clip: ClipFile) -> Outcome:
        """Return the outcome of a clip."""
        name = str(clip.path)
        try:
            made = self.predictor.predict(
                clip.source, self.candidates, start=clip.start, end=clip.end, **self.request.asked
            )
        except SacmaError as error:
            return Outcome(name, failure=str(error))
        return Outcome(name, made)


def outcomes(asker: Asker, clips: Sequence[ClipFile], *, jobs: int = 1) -> Iterator[Outcome]:
    """Yield the outcome of each clip, in the order of the clips.

    Args:
        asker: answers by itself where one process is enough.
        clips: the clips.
        jobs: processes; each opens the model for itself.

    Raises:
        SacmaError: a process was lost.
    """
    if jobs < 2 or len(clips) < 2:
        yield from map(asker.ask, clips)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(
        min(jobs, len(clips)), multiprocessing.get_context("spawn"), _begin, (asker.request, threads)
    ) as pool:
        rest, waiting = iter(clips), deque[Future[Outcome]]()
        try:
            for clip in rest:
                waiting.append(pool.submit(_ask, clip))
                if len(waiting) >= _AHEAD * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise SacmaError(
                "a process of --jobs ended, perhaps for want of memory; repeat the command with fewer"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_here: dict[str, Asker] = {}
"""The model of a process of ``--jobs``."""


def _begin(request: Request, threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    _here["asker"] = Asker(request)


def _ask(clip: ClipFile) -> Outcome:
    return _here["asker"].ask(clip)


class OfHub:
    """Answers for the clips of a data set, and how many are right.

    Args:
        asker: answers.
        hub: the data set, open.
    """

    def __init__(self, asker: Asker, hub: HubClips) -> None:
        self._asker, self._hub = asker, hub
        self._tally, self._began = Tally(), time.monotonic()

    def outcomes(self) -> Iterator[Outcome]:
        """Yield the outcome of each clip, by its name in the set; its file is removed after that."""
        for name, clip in self._hub.files():
            one = self._asker.ask(clip)
            made = one.prediction
            answers = [] if made is None else [answer.name for answer in made.answers]
            self._tally.add(name.partition("/")[0], clip.class_name, answers)
            self._hub.release(clip)
            yield Outcome(
                name,
                None if made is None else replace(made, clip=name),
                None if one.failure is None else one.failure.replace(str(clip.path), name),
            )

    def told(self, mteb: Path | None) -> list[str]:
        """Lines about how many are right; a result in MTEB's form goes to the folder ``mteb``."""
        lines = [
            f"{100 * self._tally.accuracy:.1f} % of {sum(self._tally.clips.values())} clips named rightly"
        ]
        if mteb is None:
            return lines
        predictor = self._asker.predictor
        frozen = isinstance(predictor, ZeroShot)
        written = write_result(
            mteb,
            self._tally,
            dataset=self._hub.name,
            revision=self._hub.revision,
            model=predictor.model.name if frozen else str(self._asker.request.run),
            hears=not frozen or "audio" in predictor.model.modalities,
            seconds=time.monotonic() - self._began,
        )
        return [*lines, f"result: {written}"]


class Answers:
    """A file of answers that is written while they come, and survives a kill.

    Args:
        out: the file.
        kind: its format.
        digest: of the request; None for one that begins anew after a kill.

    Raises:
        SacmaError: another request was interrupted there, or the file cannot be written.
    """

    def __init__(self, out: Path, kind: str, digest: str | None) -> None:
        self.out, self.kind = out, kind
        self.journal = out.with_name(f"{out.name}.unfinished")
        self.done = self._before(digest)
        with replacing(self.journal) as partial:
            lines = [json.dumps({"request": digest}) + "\n", *(one.line() for one in self.done)]
            partial.write_text("".join(lines), encoding="utf-8")
        if kind in STREAMED:
            write_text(out, document(kind, self.done))
        self._journal: IO[str] = self.journal.open("a", encoding="utf-8")
        self._rows: IO[str] | None = out.open("a", encoding="utf-8") if kind in STREAMED else None

    def _before(self, digest: str | None) -> list[Outcome]:
        """Rows that an interrupted command finished."""
        if digest is None or not self.journal.is_file():
            return []
        first, *lines = self.journal.read_text(encoding="utf-8", errors="replace").split("\n")
        try:
            same = json.loads(first)["request"] == digest
        except (ValueError, KeyError, TypeError):
            return []
        if not same:
            raise SacmaError(
                f"{self.journal} is of a command that was interrupted and asked for something else; repeat "
                "that one, or remove the file"
            )
        found = []
        for line in lines[:-1]:  # what follows the last end of a line was cut short
            try:
                found.append(Outcome.of_line(line))
            except ValueError as error:
                raise SacmaError(f"{self.journal}: damaged ({printable(str(error))}); remove it") from error
        return found

    def add(self, outcome: Outcome) -> None:
        """Write what became of the next clip.

        Raises:
            SacmaError: the disk is full; what was written before stays.
        """
        try:
            self._journal.write(outcome.line())
            self._journal.flush()
            if self._rows is not None:
                self._rows.write(rows(self.kind, outcome))
                self._rows.flush()
        except OSError as error:
            raise SacmaError(
                f"cannot write {self.out}: {error.strerror or error}; free some space and repeat the command"
            ) from error
        if self.kind not in STREAMED:  # others are not needed again
            self.done.append(outcome)

    def finish(self) -> None:
        """Write the file, for formats that are written at the end, and forget what was kept for a kill."""
        self.close()
        if self.kind not in STREAMED:
            write_text(self.out, document(self.kind, self.done))
        remove(self.journal)

    def close(self) -> None:
        """Close the files."""
        for file in (self._journal, self._rows):
            if file is not None:
                file.close()

    def __enter__(self) -> Answers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
