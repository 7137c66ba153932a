"""The folder of parity vectors: the one that ``SACMA_PARITY`` names, or the small copy in ``fixtures``."""

from __future__ import annotations

import os
from pathlib import Path

FIXTURES = Path(__file__).parent / "fixtures"


def parity_root() -> Path:
    """The folder of parity vectors."""
    return Path(os.environ.get("SACMA_PARITY") or FIXTURES / "parity")
