"""The web page that answers for clips."""

from sacma.app.server import open_run, serve, serving

__all__ = ["open_run", "serve", "serving"]
