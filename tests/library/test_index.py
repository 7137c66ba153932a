"""Libraries: made, kept up to date, interrupted, damaged, written by two."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clip_files import write_clip
from commands import sacma
from sacma import open_library
from sacma.errors import SacmaError
from sacma.library.index import Update, update
from sacma.library.maker import Making
from sacma.library.store import FILE, Store, only_writer

pytest.importorskip("av")


def again(folder: Path, **options: object) -> Update:
    return update(folder / "library", [folder / "clips"], Making(jobs=1), **options)  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    with open_library(folder / "library") as library:
        return sorted(clip.path.name for clip in library.clips)


def test_it_keeps_the_features_of_each_clip(made: Path) -> None:
    from sacma.media.backbones import open_backbone
    from sacma.media.extract import extract_clip

    with open_library(made / "library") as library:
        assert len(library) == 3
        assert {clip.path.name: clip.class_name for clip in library.clips}["b.mp4"] == "high"
        for clip in library.clips:
            kept, wanted = library.features(clip), extract_clip(clip.path, open_backbone("descriptors"))
            for name in ("audio", "video"):
                one, other = getattr(kept, name), getattr(wanted, name)
                assert (one is None) == (other is None)
                assert one is None or np.allclose(one.values, other.values, atol=1e-6)
                assert one is None or np.allclose(one.seconds, other.seconds)


def test_nothing_is_read_again(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sacma.library.index.Maker", None)  # no model is opened
    done = again(own)
    assert (done.same, done.nothing) == (3, True)
    os.utime(own / "clips/low/a.mp4", (1, 1))
    done = again(own)
    assert (done.same, done.nothing) == (3, True)


def test_new_changed_moved_and_removed_clips_are_found(own: Path) -> None:
    write_clip(own / "clips/low/new.mp4", seconds=1)
    write_clip(own / "clips/low/a.mp4", seconds=3, pitch=300)
    (own / "clips/other").mkdir()
    (own / "clips/high/b.mp4").rename(own / "clips/other/moved.mp4")
    (own / "clips/high/c.wav").unlink()
    done = again(own)
    assert (done.added, done.changed, done.moved, done.removed, done.same) == (1, 1, 1, 1, 0)
    assert names(own) == ["a.mp4", "moved.mp4", "new.mp4"]
    with open_library(own / "library") as library:
        clips = {clip.path.name: clip for clip in library.clips}
        assert clips["moved.mp4"].class_name == "other"
        assert clips["a.mp4"].seconds == pytest.approx(3, abs=1)
    assert again(own).nothing


def test_clips_of_another_folder_stay(own: Path) -> None:
    write_clip(own / "more/d.mp4", seconds=1)
    assert update(own / "library", [own / "more"], Making(jobs=1)).added == 1
    assert names(own) == ["a.mp4", "b.mp4", "c.wav", "d.mp4"]


def test_a_bad_clip_costs_itself_alone_and_is_read_again_when_it_changes(own: Path) -> None:
    bad = own / "clips/low/bad.mp4"
    bad.write_bytes(b"no clip")
    told: list[str] = []
    done = again(own, on_trouble=lambda clip, reason: told.append(f"{clip}: {reason}"))
    assert (done.failed, done.same) == (1, 3)
    assert "bad.mp4" in told[0]
    assert names(own) == ["a.mp4", "b.mp4", "c.wav"]
    assert again(own).nothing
    assert again(own, retry=True).failed == 1
    write_clip(bad, seconds=1)
    assert again(own).changed == 1


def test_a_library_of_another_model_is_refused(own: Path, run: Path) -> None:
    with pytest.raises(SacmaError, match=r"made with .*run, not with label-bridge"):
        update(own / "library", [own / "clips"], Making(model="label-bridge"))
    facts = Store.open(own / "library").facts
    facts["weights"] = "0" * 64
    change(own, "model", json.dumps(facts))
    write_clip(own / "clips/low/new.mp4", seconds=1)
    with pytest.raises(SacmaError, match="another version or other weights"):
        again(own)
    assert names(own) == ["a.mp4", "b.mp4", "c.wav"]
    with open_library(own / "library") as library, pytest.raises(SacmaError, match="other weights than"):
        library.search("circle")


def change(folder: Path, name: str, value: object) -> None:
    with sqlite3.connect(folder / "library" / FILE) as database:
        database.execute("UPDATE facts SET value = ? WHERE name = ?", (value, name))


def test_another_format_a_damaged_file_and_no_library_are_one_line(own: Path) -> None:
    change(own, "format", 99)
    with pytest.raises(SacmaError, match="a library of format 99, this version reads 1"):
        again(own)
    file = own / "library" / FILE
    whole = file.read_bytes()
    file.write_bytes(b"x" * 4096)
    with pytest.raises(SacmaError, match="damaged or no library"):
        open_library(own / "library")
    file.write_bytes(whole[:5000])
    with pytest.raises(SacmaError, match="damaged"):
        open_library(own / "library").search("circle")
    with pytest.raises(SacmaError, match="no library; make one with: sacma index"):
        open_library(own)
    with pytest.raises(SacmaError, match="is no library; name an empty folder"):
        update(own, [own / "clips"], Making(model="label-bridge"))


def test_killed_before_anything_was_written_it_begins_anew(own: Path, run: Path) -> None:
    new = own / "new"
    new.mkdir()
    (new / FILE).touch()
    (new / f"{FILE}-journal").touch()
    done = update(new, [own / "clips/high"], Making(run=run, jobs=1))
    assert (done.added, done.failed) == (2, 0)


def test_two_writers_at_once_are_told(own: Path) -> None:
    with only_writer(own / "library"):
        outcome = sacma("index", own / "clips", "--out", own / "library")
    assert outcome.status == 2
    assert "another sacma index is at work on it" in outcome.line
    assert names(own) == ["a.mp4", "b.mp4", "c.wav"]
    assert again(own).nothing


def test_reading_while_it_is_written_to(own: Path) -> None:
    with open_library(own / "library") as library:
        before = library.search(like=own / "clips/low/a.mp4")
        write_clip(own / "clips/low/new.mp4", seconds=6, pitch=220, quadrant=0)
        again(own)
        assert len(library.search(like=own / "clips/low/a.mp4")) == len(before) + 1


KILLED = """
import os, sys
from pathlib import Path
import sacma.library.store as store
from sacma.library.index import update
from sacma.library.maker import Making
left = int(sys.argv[3])
real = store._add_arrays
def dying(database, clip, arrays):
    global left
    real(database, clip, dict(list(arrays.items())[:left]))
    left -= len(arrays)
    if left <= 0:
        os._exit(9)
store._add_arrays = dying
update(Path(sys.argv[1]), [sys.argv[2]], Making(jobs=1))
"""


@pytest.mark.parametrize("write", [1, 6])
def test_killed_while_it_writes_it_goes_on(own: Path, write: int) -> None:
    for name in ("x.mp4", "y.mp4"):
        write_clip(own / "clips/low" / name, seconds=1, pitch=300 + write)
    (own / "clips/low/y.mp4").write_bytes((own / "clips/low/y.mp4").read_bytes() + b"\0")  # other content
    arguments = [str(own / "library"), str(own / "clips"), str(write)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False, capture_output=True)
    assert killed.returncode == 9, killed.stderr
    assert {"a.mp4", "b.mp4", "c.wav"} <= set(names(own))
    with open_library(own / "library") as library:
        assert library.search(like=own / "clips/low/a.mp4")
    done = again(own)
    assert done.added == (2 if write == 1 else 1)
    assert names(own) == ["a.mp4", "b.mp4", "c.wav", "x.mp4", "y.mp4"]
    assert len(list((own / "library").glob("arrays-*"))) == 1


def test_on_a_full_disk_it_stays_as_it_was(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(own / "clips/low/new.mp4", seconds=6)

    def no_space(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("sacma.library.store._add_arrays", no_space)
    outcome = sacma("index", own / "clips", "--out", own / "library")
    assert outcome.status == 2
    assert "the disk is full or failing; free some space and repeat the command" in outcome.line
    assert names(own) == ["a.mp4", "b.mp4", "c.wav"]
    monkeypatch.undo()
    assert again(own).added == 1


@pytest.mark.slow
def test_a_file_size_limit_is_a_full_disk(own: Path) -> None:
    write_clip(own / "clips/low/new.mp4", seconds=60)
    before = names(own)
    code = (
        "import resource, sys; from sacma.cli import main; from pathlib import Path; import signal; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "size = Path(sys.argv[2], 'library.sqlite').stat().st_size; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)); "
        "sys.exit(main(['index', sys.argv[1], '--out', sys.argv[2], '--jobs', '1']))"
    )
    arguments = [str(own / "clips"), str(own / "library")]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=False, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert "free some space" in done.stderr
    assert names(own) == before


def test_from_the_command_line(own: Path) -> None:
    write_clip(own / "clips/low/new.mp4", seconds=1)
    outcome = sacma("index", own / "clips", "--out", own / "library", "--jobs", 1)
    assert outcome.status == 0, outcome.err
    assert "1 added, 3 unchanged; library:" in outcome.out
    outcome = sacma("index", own / "nothing", "--out", own / "library")
    assert (outcome.status, "no such file or folder" in outcome.line) == (2, True)
    outcome = sacma("index", own / "clips", "--out", own / "library", "--hop", 0)
    assert (outcome.status, "both must be above 0" in outcome.line) == (2, True)


def test_watching_it_finds_a_new_clip(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter(["x.mp4", "", "stop"])

    def wait(_: float) -> None:
        match next(looks):
            case "stop":
                raise KeyboardInterrupt
            case name if name:
                write_clip(own / "clips/low" / name, seconds=1)

    monkeypatch.setattr("time.sleep", wait)
    outcome = sacma("index", own / "clips", "--out", own / "library", "--jobs", 1, "--watch")
    assert outcome.status == 130
    assert [line for line in outcome.out.splitlines() if line] == [
        f"3 unchanged; library: {own / 'library'}",
        "1 added, 3 unchanged",
    ]
