"""Backbones: an audio and a video encoder, each from a stream to one vector a step.

An encoder takes a stream that ``decode`` makes, at the rate that it asks for, and works through it in bounded
memory. Times are seconds from the start of the stream. A step stands at its first moment: step k of an
encoder with ``step_seconds`` s stands at k s. What is shorter than a step gives one step.
"""

from sacma.media.arrays import Frames, TimedFrame, Waveform
from sacma.media.backbones.base import (
    AudioEncoder,
    Backbone,
    Encoder,
    Steps,
    VideoEncoder,
    looks,
)
from sacma.media.backbones.catalogue import BACKBONES, open_backbone
from sacma.media.backbones.streams import (
    batches,
    in_batches,
    middle,
    parts,
    regular_steps,
    steps_seen,
    windows,
)

__all__ = [
    "BACKBONES",
    "AudioEncoder",
    "Backbone",
    "Encoder",
    "Frames",
    "Steps",
    "TimedFrame",
    "VideoEncoder",
    "Waveform",
    "batches",
    "in_batches",
    "looks",
    "middle",
    "open_backbone",
    "parts",
    "regular_steps",
    "steps_seen",
    "windows",
]
