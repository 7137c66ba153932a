"""Arrays that decoded clips consist of: frames and waveforms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
"""(H, W, 3) red, green, blue, 0 to 255."""
Frames = NDArray[np.uint8]
"""(F, H, W, 3) red, green, blue, 0 to 255."""
TimedFrame = tuple[float, Frame]
"""Seconds, and the frame shown then."""
Waveform = NDArray[np.float32]
"""(S,) samples, -1 to 1."""
