"""The web page that answers for clips."""

from sacma.app.server import open_models, serve, serving

__all__ = ["open_models", "serve", "serving"]
