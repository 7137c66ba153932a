"""The web page that answers for clips."""

from sacma.app.server import open_model, serve, serving

__all__ = ["open_model", "serve", "serving"]
