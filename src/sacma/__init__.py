"""Audio-visual zero-shot learning: SACMA, the methods it is compared with, one protocol."""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "load":  # torch is loaded with it
        from sacma.predict.predictor import load

        return load
    raise AttributeError(f"module 'sacma' has no attribute {name!r}")
