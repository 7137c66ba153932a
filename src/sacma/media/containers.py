"""Opening of media files: one file, only its own bytes, and only containers that are on a list.

FFmpeg has some 370 formats. Several are no media but texts that name other files or addresses (concat, HLS,
DASH, SDP, RTSP, image sequences, subtitles with a second file), and some are devices (a screen, a camera).
Only the formats of ``FORMATS`` are opened; all of them have everything in the one file. Besides, FFmpeg is
given no protocol and no way to open a file, and the decoding process can have no file open but the clip
(``sacma.media.worker``).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sacma.errors import SacmaError, requires
from sacma.media import joined


@dataclass(frozen=True)
class Film:
    """A clip whose pictures and sound are in two files.

    Attributes:
        path: the file with the pictures; sound in it is not used.
        sound: the file with the sound.
    """

    path: Path
    sound: Path

    def __str__(self) -> str:
        return str(self.path)


_DAY = 86_400.0


@dataclass(frozen=True)
class Limits:
    """Limits on one clip, and on what of it is decoded.

    Attributes:
        pixels: of a frame; 8K has 33 million.
        seconds: of the part that is read.
        threads: of a decoder, 0 for as many as there are processors. With more than one, some frames of a
            damaged clip are lost.
        follow_links: accept a symbolic link as a clip.
        patience: seconds of decoding that one stream of a clip may take, for each ten minutes that it plays.
        memory: bytes that the decoding process may take for a clip.
        key_frames: decode key frames alone; at each moment the last one before it is taken.
    """

    pixels: int = 50_000_000
    seconds: float = 4 * 3600.0
    threads: int = 1
    follow_links: bool = False
    patience: float = 600.0
    memory: int = 4 << 30
    key_frames: bool = False

    def stretched(self, patience: float, seconds: float | None) -> float:
        """``patience`` as it is for clips of up to ten minutes; for others, so much for each ten minutes.

        Args:
            patience: in seconds.
            seconds: that the clip plays, or says it does; None where that is not known.
        """
        return patience * max(1.0, min(seconds or 0.0, self.seconds, _DAY) / 600)


LIMITS = Limits()


class Format(NamedTuple):
    """A group of formats that are opened in the same way.

    Attributes:
        demuxers: FFmpeg's names for them.
        suffixes: by which they are known in a folder.
        why: they are on the list.
    """

    demuxers: str
    suffixes: str
    why: str


FORMATS = (
    Format(
        "mov,mp4,m4a,3gp,3g2,mj2",
        "mp4 m4v mov qt m4a m4b m4r 3gp 3gpp 3g2 f4v f4a mj2 psp ism isma ismv",
        "phones, cameras, most of the web",
    ),
    Format("matroska,webm", "mkv mka mk3d webm weba", "browsers' recorders, films, downloads"),
    Format("avi", "avi divx", "older cameras, UCF101 and other data sets"),
    Format("mpegts", "ts m2t m2ts mts tp trp", "television, camcorders, pieces of streams"),
    Format("mpeg", "mpg mpeg vob mod evo m2p ps", "DVDs, older cameras"),
    Format("flv,live_flv,kux", "flv kux", "recordings of live streams"),
    Format("asf,asf_o", "asf wmv wma wm", "Windows Media"),
    Format("rm,ivr", "rm rmvb ra ivr", "RealMedia, old archives"),
    Format("ogg", "ogg oga ogv ogm ogx opus spx", "free codecs, Wikimedia"),
    Format("gif,apng,jpegxl_anim", "gif apng", "moving pictures"),
    Format(
        "dv,mxf,gxf,wtv,nut,nuv,nsv,ty,pva,lxf", "dv dif mxf gxf wtv nut nuv nsv ty ty+ pva lxf", "broadcast"
    ),
    Format("dhav,luodat,ifv,iv8,hxvs,mxg", "dav ifv mxg", "surveillance cameras"),
    Format(
        "swf,bink,smk,roq,flic,vivo,mlv,cine", "swf bik smk roq fli flc viv mlv cine", "animations, raw film"
    ),
    Format("yuv4mpegpipe,ivf,obu,av1", "y4m ivf obu av1", "codec research"),
    Format(
        "h264,hevc,vvc,m4v,mpegvideo,h263,h261,vc1,vc1test,dirac,dnxhd,cavsvideo,avs2,avs3,mjpeg,evc,apv",
        "h264 264 avc h26l h265 265 hevc h266 266 vvc m1v m2v mpv h263 h261 vc1 rcv drc vc2 dnxhd dnxhr cavs "
        "avs2 avs3 mjpeg mjpg evc apv",
        "pictures without a container",
    ),
    Format(
        "mp3,aac,ac3,eac3,ac4,dts,dtshd,truehd,mlp,flac,loas,amr,amrnb,amrwb,spdif,s337m,g722,g729,gsm,sbc,lc3",
        "mp3 mp2 mpa m2a aac adts ac3 eac3 ec3 ac4 dts dtshd thd mlp flac loas amr awb g722 722 g729 gsm "
        "sbc msbc lc3",
        "sound without a container",
    ),
    Format(
        "wav,w64,aiff,au,caf,iff,voc,sox,ircam,pvf,xwma",
        "wav w64 aif aiff aifc au snd caf voc sox ircam pvf",
        "sound",
    ),
    Format("nistsphere,nsp,dss,qcp", "sph nist nsp dss qcp", "collections of speech"),
    Format(
        "ape,wv,tta,tak,mpc,mpc8,shn,osq,qoa,rka,bonk",
        "ape apl mac wv tta tak mpc shn osq qoa rka bonk",
        "packed sound",
    ),
    Format("oma,aea,dsf,wsd,vqf,mmf,act", "oma omg aa3 aea dsf wsd vqf vqe vql", "sound of devices"),
    Format(
        "png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,gif_pipe,ppm_pipe,pgm_pipe,jpegxl_pipe,j2k_pipe,"
        "qoi_pipe,exr_pipe,dpx_pipe,sgi_pipe",
        "",
        "a picture that is named is a clip of one frame; in folders they are covers and thumbnails",
    ),
)
"""The list. A format that is not on it is refused, whatever the file is called."""

DEMUXERS = frozenset(name for one in FORMATS for name in one.demuxers.split(","))
SUFFIXES = frozenset(f".{suffix}" for one in FORMATS for suffix in one.suffixes.split())
"""What is taken for a clip in a folder. A file that is named is taken whatever it is called."""


@contextmanager
def opened(path: Path, limits: Limits, *, format: str | None = None) -> Iterator[Any]:
    """Open a file as a container of PyAV. Error messages leave out the name of the file.

    Args:
        path: the file.
        limits: what is refused.
        format: FFmpeg's name of the format; by default what the bytes look like.

    Raises:
        SacmaError: no such file, a link or no regular file, empty, not a media file, of a format that is not
            on the list, or damaged beyond opening.
    """
    with requires("media", "reading clips needs PyAV"):
        import av
    with _regular_file(path, limits) as file:
        try:
            container = av.open(
                joined.Bytes(file),
                format=format,
                options={
                    **codec_options(limits),
                    "format_whitelist": ",".join(sorted(DEMUXERS)),
                    "protocol_whitelist": "none",
                },
                metadata_errors="replace",
                io_open=_refuse,
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            refused = getattr(error, "errno", None) == errno.EINVAL
            why = "a playlist, or of a kind that is not read" if refused else reason(error)
            raise SacmaError(
                "not a media file of a kind that is read, such as .mp4, .mkv or .wav, or damaged beyond "
                f"opening ({why}); choose another file"
            ) from error
        with container:
            yield container


def one_recording(path: Path, limits: Limits) -> bool:
    """True if a Matroska, MP4 or FLV file says that it is one recording; see ``joined``.

    Raises:
        SacmaError: see ``opened``.
    """
    with _regular_file(path, limits) as file:
        return joined.one_recording(file)


def codec_options(limits: Limits) -> dict[str, str]:
    """Options by which FFmpeg refuses a huge frame before it takes memory for it. It counts margins too."""
    return {"max_pixels": str(2 * limits.pixels + 1_000_000)}


def streams(container: Any, kind: str) -> list[Any]:
    """The streams of a kind that can be decoded, first the one that a player would choose; no cover art."""
    from av.stream import Disposition

    best = container.streams.best(kind)
    found = [
        stream
        for stream in container.streams
        if stream.type == kind
        and stream.codec_context is not None
        and not stream.disposition & Disposition.attached_pic
    ]
    return sorted(
        found, key=lambda stream: (stream is not best, not stream.disposition & Disposition.default)
    )


def reason(error: Exception) -> str:
    """Message of a library, in a few words."""
    return str(getattr(error, "strerror", None) or error)


@contextmanager
def _regular_file(path: Path, limits: Limits) -> Iterator[BinaryIO]:
    # Not to be kept waiting by a pipe, and not to be handed another file between looking and opening.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if not limits.follow_links:
        flags |= getattr(os, "O_NOFOLLOW", 0)
        if path.is_symlink():
            raise SacmaError("a symbolic link; name the file itself, or allow links")
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise SacmaError(f"cannot be read ({reason(error)})") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise SacmaError("no regular file but a folder, device or pipe; choose a media file")
    with open(descriptor, "rb") as file:
        if not status.st_size:
            raise SacmaError("empty, no bytes in it; copy or download it again")
        yield file


def _refuse(url: str, flags: int, options: dict[str, str]) -> Any:
    raise PermissionError("a clip may not make us open other files")
