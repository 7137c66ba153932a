"""Frozen models by name: facts about them, which ones are on this machine, and how to fetch one."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path

import yaml

from sacma.errors import SacmaError, meant, printable
from sacma.files import cache_folder
from sacma.frozen.leakage import known_encoders

BRIDGE = "label-bridge"
YAMNET = "yamnet"
"""What ``get`` takes for the bridge's labels of sounds alone."""
YAMNET_FILE = "yamnet_spectra_in.tflite"
YAMNET_VARIABLE = "SACMA_YAMNET"
YAMNET_URL = (
    "https://raw.githubusercontent.com/google-coral/coralmicro/c9f665b0a8b9/models/yamnet_spectra_in.tflite"
)
YAMNET_SHA256 = "0a266465c46718f3fcc4137366be82882a8c93bfcc4f0278581a11d11dddcdf9"

_WANTED = ("*.json", "*.txt", "*.model", "*.safetensors")
"""Files of a hub repository that a model is made of; pickled weights are not fetched."""


@dataclass(frozen=True)
class FrozenFacts:
    """Facts about a frozen model.

    Attributes:
        name: what users call it.
        sources: modality (``audio``, ``video`` or ``joint``) -> hub name; empty for the label bridge.
        licence: of the weights.
        trained_on: known training sets.
        download: megabytes to fetch; None where it is not known.
        memory: megabytes of memory that its weights take; None where it is not known.
    """

    name: str
    sources: dict[str, str]
    licence: str
    trained_on: tuple[str, ...]
    download: int | None
    memory: int | None

    @property
    def reads(self) -> str:
        """Names of the modalities, for people."""
        if "joint" in self.sources or not self.sources or len(self.sources) == 2:
            return "pictures and sound"
        return "pictures" if "video" in self.sources else "sound"

    @property
    def here(self) -> bool:
        """True if it can be opened without fetching anything."""
        return all(cached(source) is not None for source in self.sources.values())


@lru_cache(maxsize=1)
def known_models() -> dict[str, FrozenFacts]:
    """Frozen models by name, those with the better published figures first."""
    text = (resources.files("sacma.frozen") / "data" / "models.yaml").read_text(encoding="utf-8")
    models, encoders = {}, known_encoders()
    for name, entry in yaml.safe_load(text).items():
        sources = {kind: entry[kind] for kind in ("audio", "video", "joint") if kind in entry}
        parts = [encoders[part] for part in entry.get("encoders", sources.values())]
        models[name] = FrozenFacts(
            name=name,
            sources=sources,
            licence=", ".join(dict.fromkeys(part.licence for part in parts)),
            trained_on=tuple(dict.fromkeys(one for part in parts for one in part.trained_on)),
            download=entry.get("download"),
            memory=entry.get("memory"),
        )
    return models


def best_here() -> str:
    """The name of the first model that is on this machine; the label bridge always is."""
    return next(facts.name for facts in known_models().values() if facts.here)


def cached(source: str) -> Path | None:
    """Folder of a model: ``source`` itself, or its place in the hub's cache; None where it is in neither."""
    if Path(source).is_dir():
        return Path(source)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(source, local_files_only=True, allow_patterns=list(_WANTED)))
    except (HFValidationError, LocalEntryNotFoundError, OSError):
        return None
    complete = (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))
    return folder if complete else None


def get(name: str, *, on_file: Callable[[str], None] = lambda _: None) -> list[Path]:
    """Fetch a model; an interrupted download is continued.

    Args:
        name: of ``known_models``, ``yamnet``, or a name on the hub.
        on_file: called with each thing that is fetched.

    Returns:
        Where its parts are now.

    Raises:
        SacmaError: no such model, or it cannot be fetched.
    """
    if name in (BRIDGE, YAMNET):
        from sacma.data.download import fetch

        target = cache_folder() / "models" / YAMNET_FILE
        on_file(YAMNET_URL)
        return [fetch([YAMNET_URL], target, sha256=YAMNET_SHA256)]
    facts = known_models().get(name)
    if facts is None and "/" not in name:
        raise SacmaError(
            f"no model {printable(name)}; there are: {', '.join(known_models())}, or a name on the hub"
            + meant(name, known_models())
        )
    made = []
    for source in facts.sources.values() if facts else [name]:
        on_file(source)
        made.append(_fetched(source))
    return made


def _fetched(source: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(source, allow_patterns=list(_WANTED)))
    except Exception as error:  # of many libraries, from the address to the disk
        detail = " ".join(str(error).split())[:300] or type(error).__name__
        raise SacmaError(
            f"cannot fetch {source}: {detail}; try again, what is there already stays"
        ) from error
    if cached(source) is None:
        raise SacmaError(f"{source} has no config.json or no weights as safetensors; choose another model")
    return folder


def sound_labels() -> Path | None:
    """Path of YAMNet's file: ``$SACMA_YAMNET``, else the cached one; None where there is none."""
    named = os.environ.get(YAMNET_VARIABLE)
    path = Path(named) if named else cache_folder() / "models" / YAMNET_FILE
    return path if named or path.is_file() else None
