"""Pretrained networks of other libraries: loaded quietly and whole, and known again by their weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sacma.errors import SacmaError, one_line


@contextmanager
def loading(source: str, what: str) -> Iterator[None]:
    """Quietly; whatever a library makes of a file that is not there or not what it should be is one error."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    except Exception as error:
        detail = one_line(error)[:300] or type(error).__name__
        raise SacmaError(f"cannot load {source} as {what}: {detail}") from error


def pretrained(kind: Any, source: str, **options: Any) -> Any:
    """A network of transformers, in eval mode.

    Args:
        kind: its class.
        source: folder, or name on the hub.
        options: of ``from_pretrained``.

    Raises:
        ValueError: some of its weights are not there; they would be left as drawn at random.
    """
    net, report = kind.from_pretrained(source, output_loading_info=True, **options)
    if report["missing_keys"]:
        raise ValueError(f"it has no weights for {min(report['missing_keys'])}")
    return net.eval()


def weights_checksum(model: Any) -> str:
    """SHA-256 over names and values of the weights, whatever files they came in."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().view(-1).float().numpy().tobytes())
    return digest.hexdigest()
