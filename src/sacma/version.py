"""The version of this package, below every other module: files that it writes keep it."""

__version__ = "0.2.0"
