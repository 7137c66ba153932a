"""WebDataset shards: samples, classes and sounds; features are those of the files; bad tars are refused."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from commands import sacma
from sacma.data.features import Features
from sacma.datasets.tar_clips import TarClips
from sacma.errors import SacmaError

pytest.importorskip("av")

from clip_files import write_clip


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def of(clips: TarClips) -> list[tuple[str, str]]:
    return [(name, clip.class_name) for name, clip in clips.files()]


def test_classes_come_from_names_numbers_json_and_folders(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "s-00.tar",
        {"a.mp4": b"1", "a.cls": b"harp\n", "b.json": b'{"label": "tuba"}', "b.mp4": b"22", "c.txt": b"x"},
    )
    write_tar(tmp_path / "s-01.tar", {"drum/d.e.mp4": b"", "drum/f.wav": b"333"})
    with TarClips([str(tmp_path / "s-{00..01}.tar")]) as clips:
        assert of(clips) == [("s-00/a", "harp"), ("s-00/b", "tuba"), ("s-01/drum/f", "drum")]
        assert clips.classes == ("drum", "harp", "tuba")
        contents = {name: clip.path.read_bytes() for name, clip in clips.files()}
        assert contents == {"s-00/a": b"1", "s-00/b": b"22", "s-01/drum/f": b"333"}
        assert [name for name, _ in clips.files(start=2)] == ["s-01/drum/f"]
        folder = next(clips.files())[1].path.parent
    assert not folder.exists()
    (tmp_path / "numbers" / "classes.txt").parent.mkdir()
    (tmp_path / "numbers" / "classes.txt").write_text("harp\ntuba\n")
    write_tar(tmp_path / "numbers" / "n.tar", {"x.cls": b"1", "x.mp4": b""})
    with TarClips([str(tmp_path / "numbers" / "*.tar")]) as clips:
        assert of(clips) == [("n/x", "tuba")]


def test_the_sound_of_a_sample_may_be_a_file_of_its_own(tmp_path: Path) -> None:
    write_tar(tmp_path / "s.tar", {"a/x.mp4": b"p", "a/x.wav": b"s", "a/y.wav": b"t"})
    with TarClips([str(tmp_path / "s.tar")]) as clips:
        (_, both), (_, alone) = clips.files()
        assert both.sound is not None
        assert (both.path.read_bytes(), both.sound.read_bytes()) == (b"p", b"s")
        assert (alone.path.read_bytes(), alone.sound) == (b"t", None)
        clips.release(both)
        assert not both.path.exists()
        assert not both.sound.exists()


def test_features_are_those_of_the_files(tmp_path: Path) -> None:
    files = {}
    for number, name in enumerate(("harp", "tuba", "harp")):
        path = tmp_path / "clips" / name / f"{number}.mp4"
        write_clip(path, seconds=1.0, quadrant=number)
        files[f"{number}.mp4"] = path.read_bytes()
        files[f"{number}.cls"] = name.encode()
    files["broken.mp4"], files["broken.cls"] = b"no clip", b"tuba"
    write_tar(tmp_path / "s.tar", files)
    options = ("--backbone=descriptors", "--jobs=1")
    whole = sacma("extract", tmp_path / "clips", f"--out={tmp_path / 'whole'}", *options)
    tars = sacma("extract", tmp_path / "s.tar", f"--out={tmp_path / 'tars'}", *options)
    assert (whole.status, tars.status) == (0, 0), whole.err + tars.err
    one, other = (Features.open(tmp_path / name) for name in ("whole", "tars"))
    assert list(other.names) == ["s/0", "s/1", "s/2"]
    assert [other.classes[label] for label in other.labels.tolist()] == ["harp", "tuba", "harp"]
    order = [list(one.names).index(name) for name in ("harp/0.mp4", "tuba/1.mp4", "harp/2.mp4")]
    for track in ("audio", "video"):
        of_files, of_tars = getattr(one, track), getattr(other, track)
        for row, place in enumerate(order):
            begin, end = of_files.offsets[place : place + 2].tolist()
            first, last = of_tars.offsets[row : row + 2].tolist()
            assert of_files.values[begin:end].equal(of_tars.values[first:last])
    assert "s/broken" in (tmp_path / "tars" / "failures.csv").read_text()
    assert other.provenance["shards"] == ["s.tar"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.mp4": b""}, "'a' has no class; add KEY.cls"),
        ({"a.txt": b""}, "no clips in it; a sample needs a file such as KEY.mp4"),
        ({"k/a.mp4": b"", "k/a.avi": b""}, r"'k/a' has several clips \(.avi, .mp4\); keep one"),
        ({"a.mp4": b"", "a.json": b"{"}, "a'.json"),
    ],
)
def test_samples_that_cannot_be_used(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    with pytest.raises(SacmaError, match=said):
        TarClips([str(write_tar(tmp_path / "s.tar", files))])


def test_damaged_hostile_and_missing_shards(tmp_path: Path) -> None:
    (tmp_path / "no.tar").write_bytes(b"not a tar file at all" * 100)
    with pytest.raises(SacmaError, match=r"no.tar: not a readable tar file"):
        TarClips([str(tmp_path / "no.tar")])
    with pytest.raises(SacmaError, match="no such file"):
        TarClips([str(tmp_path / "gone.tar")])
    with pytest.raises(SacmaError, match="no range of up to"):
        TarClips([str(tmp_path / "s-{0..99999999999}.tar")])
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        link = tarfile.TarInfo("k/a.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        up = tarfile.TarInfo("../../k/b.mp4")
        archive.addfile(up)
    with TarClips([str(tmp_path / "link.tar")]) as clips:
        ((name, clip),) = clips.files()
        assert name == "link/../../k/b"
        assert clip.path.parent.name.startswith("sacma-clips-")
    line = sacma(
        "extract", tmp_path / "link.tar", tmp_path / "no.tar", tmp_path, f"--out={tmp_path / 'x'}"
    ).line
    assert "beside other clips; name the shards alone" in line
    assert not (tmp_path / "x").exists()
