"""Clips as a command line names them: files and folders, tar files, or a data set of the hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from sacma.errors import SacmaError

if TYPE_CHECKING:
    from sacma.datasets.hub_clips import HubClips
    from sacma.datasets.tar_clips import TarClips
    from sacma.media.listing import ClipFile


def is_hub(sources: list[str]) -> bool:
    """True if the clips are those of a Hugging Face data set, which stands alone."""
    hub = [source for source in sources if source.startswith("hf:")]
    if hub and len(sources) > 1:
        raise SacmaError(f"{hub[0]} beside other clips; name the data set alone")
    return bool(hub)


def are_shards(sources: list[str]) -> bool:
    """True if the clips are in tar files, which stand alone."""
    shards = [source for source in sources if source.endswith(".tar")]
    if shards and len(shards) < len(sources):
        raise SacmaError(f"{shards[0]} beside other clips; name the shards alone")
    return bool(shards)


def open_shards(sources: list[str]) -> TarClips:
    """The clips of WebDataset shards."""
    from sacma.datasets.tar_clips import TarClips

    return TarClips(sources)


def open_hub(sources: list[str]) -> HubClips:
    """The clips of a Hugging Face data set."""
    from sacma.datasets.hub_clips import HubClips

    return HubClips(sources[0])


def list_clips(
    sources: list[str], start: float | None, end: float | None, follow_links: bool, told: TextIO
) -> list[ClipFile]:
    """The clips; what is left out of folders is named on ``told``."""
    from sacma.media.listing import Skipped, find_clips, skipped_lines

    skipped: list[Skipped] = []
    found = find_clips(
        sources,
        start=start,
        end=end,
        follow_links=follow_links,
        left_out=skipped,
    )
    for line in skipped_lines(skipped):
        print(f"left out: {' '.join(line.split())}", file=told)
    return found
