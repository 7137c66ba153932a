"""Audio-visual zero-shot learning: SACMA, the methods it is compared with, one protocol."""

from sacma.version import __version__ as __version__


def __getattr__(name: str) -> object:
    if name == "load":  # torch is loaded with it
        from sacma.predict.predictor import load

        return load
    raise AttributeError(f"module 'sacma' has no attribute {name!r}")
