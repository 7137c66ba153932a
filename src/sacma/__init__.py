"""Audio-visual zero-shot learning: SACMA, the methods it is compared with, one protocol.

The names below are loaded when they are first used: ``import sacma`` alone loads neither torch nor numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sacma.data.benchmark import Benchmark
    from sacma.errors import SacmaError
    from sacma.learn import Learned, load_model
    from sacma.library.search import Library, Moment, open_library
    from sacma.media.recording import Recording
    from sacma.models import METHODS
    from sacma.models.base import Method
    from sacma.predict import Prediction, Predictions, Predictor, ZeroShot, load, zero_shot
    from sacma.results.run import Run, load_run
    from sacma.runs.config import RunConfig
    from sacma.runs.folder import RunFolder

from sacma.version import __version__ as __version__

_HOMES = {
    "METHODS": "sacma.models",
    "Benchmark": "sacma.data.benchmark",
    "Learned": "sacma.learn",
    "Library": "sacma.library.search",
    "Method": "sacma.models.base",
    "Moment": "sacma.library.search",
    "Prediction": "sacma.predict",
    "Predictions": "sacma.predict",
    "Predictor": "sacma.predict",
    "Recording": "sacma.media.recording",
    "Run": "sacma.results.run",
    "RunConfig": "sacma.runs.config",
    "RunFolder": "sacma.runs.folder",
    "SacmaError": "sacma.errors",
    "ZeroShot": "sacma.predict",
    "load": "sacma.predict",
    "load_model": "sacma.learn",
    "open_library": "sacma.library.search",
    "load_run": "sacma.results.run",
    "zero_shot": "sacma.predict",
}

__all__ = [
    "METHODS",
    "Benchmark",
    "Learned",
    "Library",
    "Method",
    "Moment",
    "Prediction",
    "Predictions",
    "Predictor",
    "Recording",
    "Run",
    "RunConfig",
    "RunFolder",
    "SacmaError",
    "ZeroShot",
    "__version__",
    "load",
    "load_model",
    "load_run",
    "open_library",
    "zero_shot",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'sacma' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
