"""Audio-visual zero-shot learning: SACMA, the methods it is compared with, one protocol."""

__version__ = "0.1.0"
