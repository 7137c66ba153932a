"""Frames as JPEG files, for pages."""

from __future__ import annotations

from base64 import b64encode
from fractions import Fraction

import numpy as np

from sacma.errors import requires
from sacma.media.arrays import Frame


def data_address(frame: Frame) -> str:
    """The address of a picture (H, W, 3) that has the picture in it, for a page without outside resources."""
    return "data:image/jpeg;base64," + b64encode(jpeg(frame)).decode()


def jpeg(frame: Frame) -> bytes:
    """A picture (H, W, 3) as a JPEG file."""
    with requires("media"):
        import av
    height, width = (max(2, side - side % 2) for side in frame.shape[:2])
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.time_base = Fraction(1, 1)
    encoder.options = {"qscale": "5"}
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="rgb24")
    picture.pts = 0
    packets = [*encoder.encode(picture.reformat(format="yuvj420p")), *encoder.encode(None)]
    return b"".join(bytes(packet) for packet in packets)
