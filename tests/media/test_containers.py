"""Which formats are opened; and that no format of FFmpeg's makes it open anything but the clip."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("av")

import av

from clip_files import joined, write_clip, write_pcm
from sacma.errors import SacmaError
from sacma.media.containers import DEMUXERS, LIMITS, SUFFIXES, one_recording
from sacma.media.decode import Clip
from sacma.media.joined import Bytes

SECRET = "secret.mp4"
"""A film that lies beside each of the texts."""
TEXTS = {
    "concat": f"ffconcat version 1.0\nfile {SECRET}\n",
    "old concat": f"ffconcat version 1.0\nfile 'file:{SECRET}'\nduration 3\n",
    "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{SECRET}\n#EXT-X-ENDLIST\n",
    "hls of an address": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 50004 RTP/AVP 0\n",
    "dash": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{SECRET}</BaseURL>',
    "webm dash": f"<MPD><Period><BaseURL>{SECRET}</BaseURL></Period></MPD>",
    "imf": '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">',
    "redirection": "RTSPtext\r\nrtsp://127.0.0.1:9/a\r\n",
    "reference": "[Reference]\r\nRef1=http://127.0.0.1:9/a?MSWMExt=.asf\r\n",
    "vobsub": "# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:01:000, filepos: 000000000\n",
    "metadata": f";FFMETADATA1\ntitle={SECRET}\n",
    "name": SECRET,
}
NOT_OF_CLIPS = frozenset(("avif", "heic", "heif", "jxl", "mpo", "mks", "dat", "avs", "sf"))
"""Still pictures, subtitles, and what other programs call their files; such files can be named."""


def test_every_suffix_of_the_formats_that_are_opened_is_taken_for_a_clip() -> None:
    known = set()
    for name in DEMUXERS & set(av.formats_available):
        known |= av.format.ContainerFormat(name, "r").extensions
    assert {f".{suffix}" for suffix in known - NOT_OF_CLIPS} <= SUFFIXES
    assert {".mp4", ".mka", ".mxf", ".m2v", ".caf", ".opus", ".vob"} <= SUFFIXES


def test_formats_that_read_other_files_or_devices_are_not_on_the_list() -> None:
    others = "concat hls dash sdp rtsp rtp sap image2 imf vobsub webm_dash_manifest lavfi x11grab alsa fbdev"
    assert not DEMUXERS & set(others.split())


@pytest.mark.parametrize("kind", TEXTS)
def test_texts_that_name_other_files_are_refused(tmp_path: Path, kind: str) -> None:
    write_clip(tmp_path / SECRET, seconds=0.5)
    path = tmp_path / "clip.mp4"
    path.write_text(TEXTS[kind])
    with pytest.raises(SacmaError, match=r"clip\.mp4: not a media file of a kind that is read"):
        Clip.open(path)


WATCH = """
import ctypes, io, os, platform, struct, sys
from contextlib import contextmanager, suppress
from pathlib import Path

import av
from sacma.errors import SacmaError
from sacma.media import containers, worker

worker._import_all()
KILL, ALLOW = 0x80000000, 0x7FFF0000
CALLS = {  # open, creat, openat, openat2, socket, connect, bind, execve
    "x86_64": (2, 85, 257, 437, 41, 42, 49, 59),
    "aarch64": (56, 437, 198, 203, 200, 221),
}[platform.machine()]


def watch():
    '''From here on a call that opens a file or a socket ends the process with SIGSYS.'''
    lines = [struct.pack("HBBI", 0x20, 0, 0, 0)]  # load the number of the call
    for place, call in enumerate(CALLS):
        lines.append(struct.pack("HBBI", 0x15, len(CALLS) - place, 0, call))  # equal: to the last line
    lines += [struct.pack("HBBI", 0x06, 0, 0, ALLOW), struct.pack("HBBI", 0x06, 0, 0, KILL)]
    code = ctypes.create_string_buffer(b"".join(lines))
    program = ctypes.create_string_buffer(struct.pack("HP", len(lines), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()  # PR_SET_SECCOMP, filter


def read(content, name):
    '''As a clip is read, with the format that is named in place of the one it looks like.'''

    @contextmanager
    def given(path, limits):
        yield io.BytesIO(content)

    containers._regular_file = given
    with suppress(SacmaError), containers.opened(Path("clip"), containers.LIMITS, format=name) as container:
        with suppress(av.FFmpegError, ValueError):
            for count, packet in enumerate(container.demux()):
                if packet.stream.codec_context is not None:
                    packet.decode()
                if count > 20:
                    break


def unguarded(content, name):
    with suppress(av.FFmpegError, ValueError), av.open(io.BytesIO(content), format=name) as container:
        next(container.demux())


def ends_with(job, contents, name):
    child = os.fork()
    if child == 0:
        watch()
        for content in contents:
            job(content, name)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


os.chdir(sys.argv[1])
contents = [path.read_bytes() for path in sorted(Path().iterdir())]


def readable(name):
    with suppress(ValueError):
        return av.format.ContainerFormat(name, "r").is_input
    return False


names = [name for name in sorted(av.formats_available) if readable(name)]
read(Path("c.ts").read_bytes(), None)  # has the C library load television's letters
for name in (None, *names):
    print(name, ends_with(read, contents, name), flush=True)
print("unguarded", ends_with(unguarded, [Path("concat").read_bytes()], None), flush=True)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="system calls are watched by Linux",
)
def test_no_format_of_ffmpegs_opens_anything_beside_the_clip(tmp_path: Path) -> None:
    """Every demuxer that FFmpeg lists reads texts that name files and addresses, and real clips."""
    for kind, text in TEXTS.items():
        (tmp_path / kind).write_text(text)
    write_clip(tmp_path / SECRET, seconds=0.5)
    write_clip(tmp_path / "b.mkv", seconds=0.5)
    write_clip(tmp_path / "c.ts", seconds=0.5, codec="libx264")
    write_pcm(tmp_path / "d.wav", 2)
    outside = write_clip(tmp_path / "e.mov", seconds=0.5)
    outside.write_bytes(
        outside.read_bytes().replace(b"url \\x00\\x00\\x00\\x01", b"url \\x00\\x00\\x00\\x00")
    )
    done = subprocess.run(
        [sys.executable, "-c", WATCH, tmp_path], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    ended = dict(line.split() for line in done.stdout.splitlines())
    assert ended.pop("unguarded") == str(-signal.SIGSYS)  # else nothing is watched
    assert len(ended) > 300
    assert {name: how for name, how in ended.items() if how != "0"} == {}


def test_flv_and_mp4_files_tell_that_they_were_joined(tmp_path: Path) -> None:
    for name, codec, rate in (("clip.flv", "libx264", 44_100), ("clip.mp4", "mpeg4", 48_000)):
        path = write_clip(tmp_path / name, codec=codec, sound_codec="aac", rate=rate)
        assert one_recording(path, LIMITS)
        twice = joined(tmp_path / f"two-{name}", path, path)
        assert not one_recording(twice, LIMITS)
        content = path.read_bytes()
        with twice.open("rb") as file:
            read = Bytes(file)
            whole = content + content[13 if name == "clip.flv" else 0 :]
            assert read.seek(0, os.SEEK_END) == len(whole)
            read.seek(0)
            assert b"".join(iter(partial(read.read, 1000), b"")) == whole
            read.seek(len(content) - 3)
            assert read.read(3) == content[-3:]
            assert read.seek(-5, os.SEEK_CUR) == read.tell() == len(content) - 5


@pytest.mark.parametrize("name", ["clip.mkv", "clip.webm"])
def test_a_matroska_file_tells_that_it_was_joined(tmp_path: Path, name: str) -> None:
    sound = "libopus" if name.endswith("webm") else "aac"
    codec = "libvpx" if name.endswith("webm") else "mpeg4"
    path = write_clip(tmp_path / name, codec=codec, sound_codec=sound, rate=48_000)
    assert one_recording(path, LIMITS)
    assert not one_recording(joined(tmp_path / f"two-{name}", path, path), LIMITS)
    data = bytearray(path.read_bytes())
    size = data.index(b"\x18\x53\x80\x67") + 4
    data[size : size + 8] = b"\x01" + b"\xff" * 7  # of no known size, as recorders leave it
    path.write_bytes(data)
    assert not one_recording(path, LIMITS)
    assert not one_recording(write_pcm(tmp_path / "clip.wav", 1), LIMITS)
