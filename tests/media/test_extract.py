"""sacma extract: from files, folders, patterns and tables to features, whatever happens on the way."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from commands import SMALL, sacma

pytest.importorskip("av")

from clip_files import write_clip
from sacma.data.features import Features
from sacma.errors import SacmaError
from sacma.media import workers
from sacma.media.backbones import open_backbone
from sacma.media.decode import Limits
from sacma.media.extract import Ahead, extract_clip
from sacma.media.extract_many import extract_set
from sacma.media.listing import ClipFile, Skipped, find_clips, names
from sacma.media.workers import Task

DESCRIPTORS = Task("descriptors", {}, Limits())


def write_clips(root: Path) -> Path:
    """Clips of two classes, a deaf and a blind one, one that is broken, and files that are not taken."""
    for number, name in enumerate(("cat/a.mp4", "cat/b.mp4", "dog/a.mp4", "dog/b.mkv")):
        write_clip(root / name, seconds=1.0 + number, pitch=300.0 * (number + 1), quadrant=number)
    write_clip(root / "dog/deaf.mp4", audio=False)
    write_clip(root / "cat/blind.m4a", video=False)
    (root / "cat/broken.mp4").write_bytes(b"not a film" * 100)
    (root / "cat/readme.txt").write_text("not a clip")
    (root / "dog/.hidden.mp4").touch()
    return root


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("clips"))


def test_a_folder_becomes_features(clips: Path, tmp_path: Path) -> None:
    outcome = sacma("extract", clips, "--backbone=descriptors", f"--out={tmp_path / 'out'}", "--jobs=2")
    assert outcome.status == 0, outcome.err
    assert "features of 6 clips" in outcome.out
    assert "broken.mp4: not a media file" in outcome.out
    features = Features.open(tmp_path / "out")
    features.verify()
    found = {
        name: (features.classes[label], audio, video)
        for name, label, audio, video in zip(
            features.names,
            features.labels.tolist(),
            features.audio.lengths.tolist(),
            features.video.lengths.tolist(),
            strict=True,
        )
    }
    assert found == {
        "cat/a.mp4": ("cat", 1, 1),
        "cat/b.mp4": ("cat", 2, 2),
        "cat/blind.m4a": ("cat", 2, 0),
        "dog/a.mp4": ("dog", 3, 3),
        "dog/b.mkv": ("dog", 4, 4),
        "dog/deaf.mp4": ("dog", 0, 2),
    }
    assert features.provenance == open_backbone("descriptors").provenance
    (row,) = csv.DictReader((tmp_path / "out/failures.csv").open())
    assert (Path(row["path"]).name, row["class"], row["outcome"]) == ("broken.mp4", "cat", "left out")
    again = sacma("extract", clips, "--backbone=descriptors", f"--out={tmp_path / 'out'}")
    assert "holds a set of clips already" in again.line


def test_what_is_written_is_what_the_backbone_makes(clips: Path, tmp_path: Path) -> None:
    listed = find_clips([clips / "dog"])
    extract_set(listed, tmp_path / "out", DESCRIPTORS, jobs=1)
    features = Features.open(tmp_path / "out")
    for row, clip in enumerate(listed):
        made = extract_clip(clip.path, open_backbone("descriptors"))
        for track, steps in ((features.audio, made.audio), (features.video, made.video)):
            stored = track.gather(torch.tensor([row])).values.numpy()
            assert np.array_equal(stored, np.zeros((0, track.width)) if steps is None else steps.values)


def test_a_table_names_parts_and_classes(clips: Path, tmp_path: Path) -> None:
    table = clips / "clips.csv"
    table.write_text(
        "path,class,start,end\ndog/b.mkv,growling dog,0,1\ndog/b.mkv,barking dog,1.5,\ncat/a.mp4,,,\n"
    )
    try:
        listed = find_clips([table])
    finally:
        table.unlink()
    assert [(clip.class_name, clip.start, clip.end) for clip in listed] == [
        ("growling dog", 0.0, 1.0),
        ("barking dog", 1.5, None),
        ("cat", None, None),
    ]
    assert names(listed) == ["dog/b.mkv@0-1", "dog/b.mkv@1.5-", "cat/a.mp4"]
    made = extract_set(listed, tmp_path / "out", DESCRIPTORS, jobs=1)
    assert Features.open(made.folder).video.lengths.tolist() == [1, 3, 1]


def test_a_table_names_groups(clips: Path, tmp_path: Path) -> None:
    table = clips / "groups.csv"
    table.write_text("path,group\ncat/a.mp4,kitchen\ncat/b.mp4,\ndog/a.mp4,kitchen\n")
    try:
        outcome = sacma("extract", table, "--backbone=descriptors", f"--out={tmp_path / 'out'}", "--jobs=1")
    finally:
        table.unlink()
    assert outcome.status == 0, outcome.err
    assert Features.open(tmp_path / "out").groups() == ["kitchen", None, "kitchen"]


def test_patterns_files_and_folders_mix(clips: Path) -> None:
    found = find_clips([str(clips / "*/a.mp4"), clips / "cat/b.mp4"], start=0.5)
    assert [clip.path.relative_to(clips).as_posix() for clip in found] == [
        "cat/a.mp4",
        "dog/a.mp4",
        "cat/b.mp4",
    ]
    assert {clip.start for clip in found} == {0.5}


@pytest.mark.parametrize(
    ("sources", "wrong"),
    [
        (["nowhere"], "nowhere: no such file"),
        (["*.xyz"], "no clips there"),
        (["empty"], "no clips there"),
        (["a.mp4", "*.mp4"], "comes 2 times"),
        (["no-path.csv"], "line 2: expected columns"),
        (["no-time.csv"], "'soon' is no time"),
        (["binary.csv"], "binary.csv: damaged, or not text in UTF-8"),
    ],
)
def test_wrong_sources_get_one_clear_error(
    sources: list[str], wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("a.mp4").touch()
    Path("no-path.csv").write_text("file,class\na.mp4,cat\n")
    Path("no-time.csv").write_text("path,start\na.mp4,soon\n")
    Path("binary.csv").write_bytes(b"\xff\xfe\x00")
    assert wrong in sacma("extract", *sources, "--backbone=descriptors", "--out=out").line
    assert not Path("out").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_text_are_shown_and_kept(tmp_path: Path) -> None:
    write_clip(tmp_path / "cat/plain.mp4", seconds=0.5).rename(tmp_path / os.fsdecode(b"cat/caf\xe9.mp4"))
    (tmp_path / os.fsdecode(b"cat/fran\xe7ais.mp4")).touch()
    outcome = sacma("extract", tmp_path / "cat", "--backbone=descriptors", f"--out={tmp_path / 'out'}")
    assert outcome.status == 0, outcome.err
    assert "fran\\xe7ais.mp4: empty" in outcome.out
    assert list(Features.open(tmp_path / "out").names) == [os.fsdecode(b"caf\xe9.mp4")]
    assert "fran\\xe7ais" in (tmp_path / "out/failures.csv").read_text()
    (tmp_path / "cat").rename(tmp_path / os.fsdecode(b"chat fran\xe7ais"))
    refused = sacma("extract", tmp_path / os.fsdecode(b"chat fran\xe7ais"), f"--out={tmp_path / 'no'}")
    assert "is no plain text" in refused.line


def test_nothing_is_left_behind_where_all_clips_fail(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/a.mp4").touch()
    outcome = sacma("extract", tmp_path / "cat", "--backbone=descriptors", f"--out={tmp_path / 'out'}")
    assert "none of 1 clips" in outcome.line
    assert not (tmp_path / "out").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from sacma.media.listing import find_clips
from sacma.media.extract_many import extract_set
from sacma.media.workers import Task
from sacma.media.decode import Limits

def kill(done, total):
    if done == 3:
        os.kill(os.getpid(), signal.SIGKILL)

extract_set(find_clips([sys.argv[1]]), Path(sys.argv[2]), Task("descriptors", {}, Limits()), on_progress=kill)
"""


def test_killed_and_repeated_it_ends_with_the_same_bytes(clips: Path, tmp_path: Path) -> None:
    whole = extract_set(find_clips([clips]), tmp_path / "whole", DESCRIPTORS, jobs=1).folder
    killed = subprocess.run([sys.executable, "-c", KILLED, clips, tmp_path / "out"], check=False)
    assert killed.returncode == -signal.SIGKILL
    done: list[int] = []
    sink = lambda number, _: done.append(number)  # noqa: E731
    made = extract_set(find_clips([clips]), tmp_path / "out", DESCRIPTORS, jobs=2, on_progress=sink)
    assert done == [4, 5, 6, 7]
    for name in ("clips.safetensors", "clips.json", "failures.csv"):
        assert (made.folder / name).read_bytes() == (whole / name).read_bytes()


def test_a_clip_that_changed_is_done_again(clips: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(clips / "dog", tmp_path / "dog")
    listed = find_clips([copy])

    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise StopError

    with pytest.raises(StopError):
        extract_set(listed, tmp_path / "out", DESCRIPTORS, jobs=1, on_progress=stop)
    write_clip(listed[1].path, seconds=1.0)
    done: list[int] = []
    extract_set(listed, tmp_path / "out", DESCRIPTORS, jobs=1, on_progress=lambda n, _: done.append(n))
    assert done == [2, 3]
    assert Features.open(tmp_path / "out").video.lengths.tolist() == [3, 1, 2]


def test_a_clip_that_hangs_or_crashes_costs_itself_alone(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = find_clips([clips / "dog"])
    hangs = Task("descriptors", {}, Limits(), seconds=1e-3)
    outcomes = list(workers.run(listed, hangs, jobs=1))
    assert all("given up after 0.001 s" in str(outcome.failure) for outcome in outcomes)
    ask = workers._write
    asked = []

    def kill_the_second(pipe: object, message: dict[str, object]) -> None:
        asked.append(message)
        if len(asked) == 2:
            (worker,) = psutil.Process().children()
            worker.kill()
            worker.wait()
        ask(pipe, message)  # type: ignore[arg-type]

    monkeypatch.setattr(workers, "_write", kill_the_second)
    crashed, *others = sorted(
        workers.run(listed, DESCRIPTORS, jobs=1), key=lambda outcome: not outcome.failure
    )
    assert "crashed or ran out of memory" in str(crashed.failure)
    assert [outcome.failure for outcome in others] == [None, None]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux holds processes on processors")
def test_a_process_and_its_decoder_stay_on_one_processor_while_there_are_others_to_feed(
    clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = os.sched_getaffinity(0)
    process = workers._Process(DESCRIPTORS, frozenset({max(every)}))

    def places(seconds: float = 60.0) -> list[set[int]]:
        monkeypatch.setattr(workers, "_LONG", seconds)
        assert process.ask(find_clips([clips / "dog"])[0]).failure is None
        assert process._running is not None
        worker = psutil.Process(process._running.pid)
        return [set(one.cpu_affinity()) for one in (worker, *worker.children())]

    try:
        assert places() == [{max(every)}] * 2
        assert places(0.1) == [every] * 2
        assert places() == [{max(every)}] * 2
        process.leave_home()
        assert places() == [every] * 2
    finally:
        process.close()


def test_each_process_has_a_processor_where_there_are_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert workers._homes(2) == [{3}, {5}]
    assert workers._homes(1) == [frozenset()]
    assert workers._homes(3) == [frozenset()] * 3


def test_a_backbone_that_cannot_be_opened_is_one_error(clips: Path, tmp_path: Path) -> None:
    for options, wrong in (
        (["--backbone=resnet"], "backbone 'resnet' is unknown"),
        (["--backbone=lite-yamnet"], "needs audio weights"),
        (["--backbone=descriptors", "--audio-weights=x"], "takes no audio weights"),
        (["--backbone=descriptors", "--jobs=0"], "0 processes"),
    ):
        assert wrong in sacma("extract", clips, *options, f"--out={tmp_path / 'out'}").line


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_ray_makes_the_same_features(clips: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    listed = find_clips([clips / "dog", clips / "cat/broken.mp4"])
    try:
        far = extract_set(listed, tmp_path / "ray", DESCRIPTORS, engine="ray", jobs=1)
    finally:
        ray.shutdown()
    near = extract_set(listed, tmp_path / "local", DESCRIPTORS, jobs=1)
    assert [trouble.reason for trouble in far.troubles] == [trouble.reason for trouble in near.troubles]
    for name in ("clips.safetensors", "clips.json", "failures.csv"):
        assert (far.folder / name).read_bytes() == (near.folder / name).read_bytes()


def test_limits_are_options(clips: Path, tmp_path: Path) -> None:
    link = tmp_path / "cat.mp4"
    link.symlink_to(clips / "cat/a.mp4")
    command = ["extract", link, clips / "dog/b.mkv", "--backbone=descriptors", "--jobs=1"]
    for number, (options, left_out) in enumerate(
        {
            ("--max-seconds=2",): ["a symbolic link", "the limit is 2 s"],
            ("--max-seconds=2", "--follow-links"): ["the limit is 2 s"],
            ("--max-seconds=2", "--follow-links", "--end=1"): [],
            ("--follow-links", "--max-pixels=3072"): [],
        }.items()
    ):
        outcome = sacma(*command, *options, f"--out={tmp_path / str(number)}")
        if len(left_out) == 2:
            assert "none of 2 clips" in outcome.line
        else:
            assert outcome.status == 0, outcome.err
            assert all(reason in outcome.out for reason in left_out)
            assert f"features of {2 - len(left_out)} clips" in outcome.out
    assert "limit of 3,071 pixels" in sacma(*command, "--max-pixels=3071", "--follow-links", "--out=no").line


def test_reading_ahead_changes_nothing_and_passes_errors_on() -> None:
    assert list(Ahead(lambda: range(100))) == list(range(100))
    ahead = Ahead(lambda: range(10))
    assert list(ahead) == list(ahead)
    for item in Ahead(lambda: iter(int, 1), items=2):  # endless
        assert item == 0
        break

    def fails() -> list[int]:
        raise SacmaError("broken")

    with pytest.raises(SacmaError, match="broken"):
        list(Ahead(fails))


def test_three_commands_from_clips_to_a_run(tmp_path: Path) -> None:
    """Among the clips of the test are one without sound and one without pictures."""
    for number, name in enumerate(("red cat", "red dog", "grey_wolf", "big fish", "small bird")):
        for clip in range(3):
            path = tmp_path / "clips" / name / f"{clip}.mp4"
            write_clip(path, seconds=2.0, pitch=200.0 * (number + 1), quadrant=number % 4)
    write_clip(tmp_path / "clips/small bird/deaf.mp4", audio=False)
    write_clip(tmp_path / "clips/small bird/blind.mp4", video=False)
    features, root, run = tmp_path / "features", tmp_path / "mine", tmp_path / "run"
    assert sacma("extract", tmp_path / "clips", "--backbone=descriptors", f"--out={features}").status == 0
    split = sacma("data", "split", features, f"--out={root}", "--unseen=small bird", "--val-unseen=big fish")
    assert split.status == 0, split.err
    command = split.out.strip().splitlines()[-1]
    assert command == f"sacma train --benchmark mine --features descriptors --root {root}"
    trained = sacma(*command.split()[1:], f"--out={run}", *SMALL)
    assert trained.status == 0, trained.err
    import pyarrow.parquet as pq

    rows = {row["clip"]: row for row in pq.read_table(run / "predictions.parquet").to_pylist()}
    for name in ("small bird/deaf.mp4", "small bird/blind.mp4"):
        assert np.isfinite([rows[name]["nearest_seen_distance"], rows[name]["nearest_unseen_distance"]]).all()
        assert rows[name]["prediction_zsl"] == "small bird"


# --- What is listed ---------------------------------------------------------------------------------


def listed_in(folder: Path, **options: Any) -> tuple[list[str], dict[str, str]]:
    """Clips of a folder, and by name why something was left out."""
    left_out: list[Skipped] = []
    found = find_clips([folder], left_out=left_out, **options)
    return [str(clip.path.relative_to(folder)) for clip in found], {
        str(path.relative_to(folder)): why for path, why in left_out
    }


def test_class_folders_that_are_links_are_followed_or_named(tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "set"
    for path in (elsewhere / "cat/a.mp4", folder / "dog/a.mp4", folder / "dog/notes.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "cat").symlink_to(elsewhere / "cat")
    (folder / "dog/round").symlink_to(folder)
    (folder / ".hidden").mkdir()
    clips, left_out = listed_in(folder)
    assert clips == ["dog/a.mp4"]
    assert set(left_out) == {"cat", "dog/round", "dog/notes.txt", ".hidden"}
    assert "--follow-links" in left_out["cat"]
    clips, left_out = listed_in(folder, follow_links=True)
    assert clips == ["cat/a.mp4", "dog/a.mp4"]
    assert set(left_out) == {"dog/round", "dog/notes.txt", ".hidden"}
    assert find_clips([folder], follow_links=True)[0].class_name == "cat"


def test_the_command_names_what_it_leaves_out(clips: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(clips / "dog", folder / "dog")
    (folder / "cat").symlink_to(clips / "cat")
    for name in ("a.txt", "b.txt", "c.jpg", "d.json"):
        (folder / "dog" / name).touch()
    command = ["extract", folder, "--backbone=descriptors", "--jobs=1"]
    outcome = sacma(*command, f"--out={tmp_path / 'out'}")
    assert f"left out: {folder / 'cat'}: links to folders; --follow-links" in outcome.out
    assert "c.jpg and 1 more: not known as clips by their suffix" in outcome.out
    assert "features of 3 clips" in outcome.out
    outcome = sacma(*command, "--follow-links", f"--out={tmp_path / 'followed'}")
    assert "features of 6 clips" in outcome.out


@pytest.mark.parametrize(
    "name", ["a.MXF", "b.m2v", "c.mka", "d.ac3", "e.caf", "f.wv", "g.f4v", "h.y4m", "i.asf"]
)
def test_any_suffix_of_clips_is_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert listed_in(tmp_path) == ([name], {})


def test_brackets_of_folders_that_are_there_stand_for_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("my [2024] clips/cat/a.mp4", "my [2024] clips/dog/b.mp4", "my 2 clips/dog/c.mp4"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    found = find_clips(["my [2024] clips/*/*.mp4"])
    assert [clip.path.name for clip in found] == ["a.mp4", "b.mp4"]
    assert [clip.path.name for clip in find_clips(["my [123] clips/*/*.mp4"])] == ["c.mp4"]
    with pytest.raises(SacmaError, match=r"\[ and \] stand for one of the characters"):
        find_clips(["your [2024] clip*/*/*.mp4"])


@pytest.mark.parametrize(("plays", "failure"), [(6000.0, "nothing in it"), (60.0, "given up after 0.4 s")])
def test_the_time_for_a_clip_is_counted_by_its_length(
    plays: float, failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"failure": "nothing in it", "notes": [], "seconds": plays, "shapes": []}
    program = (
        "import json, sys, time\n"
        "print(json.dumps({'failure': None}), flush=True)\n"
        "sys.stdin.readline()\n"
        f"print(json.dumps({{'plays': {plays}}}), flush=True)\n"
        f"time.sleep(1.0)\nprint('{json.dumps(told)}', flush=True)\n"
    )
    monkeypatch.setattr(workers, "command", lambda name: [sys.executable, "-c", program])
    task = replace(DESCRIPTORS, seconds=0.4)
    (outcome,) = workers.run([ClipFile(Path("film.mp4"), "")], task, jobs=1)
    assert failure in str(outcome.failure)


def test_a_worker_gives_itself_time_by_the_length(clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(workers.signal, "alarm", given.append)
    path = next((clips / "dog").iterdir())
    asked = io.BytesIO(json.dumps(workers._request(ClipFile(path, ""))).encode() + b"\n")
    answers = io.BytesIO()
    workers._serve(replace(DESCRIPTORS, limits=Limits(), seconds=300.0), asked, answers)
    ready, plays, outcome = map(json.loads, answers.getvalue().splitlines()[:3])
    assert ready == {"failure": None}
    assert 0 < plays["plays"] == pytest.approx(outcome["seconds"])
    assert given == [310, 310, 0]
