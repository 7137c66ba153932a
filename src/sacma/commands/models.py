"""Commands on frozen models: list them, fetch one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich.table import Table

from sacma.commands import console, progress


def show() -> dict[str, Any]:
    """List frozen models, their size, licence and training sets, and which are on this machine.

    Examples:
        sacma models
        sacma models list --json
    """
    from sacma.frozen.catalogue import best_here, known_models, sound_labels

    table = Table("name", "reads", "download", "memory", "licence", "trained on", "here")
    for facts in known_models().values():
        table.add_row(
            facts.name,
            facts.reads,
            _megabytes(facts.download),
            _megabytes(facts.memory),
            facts.licence,
            ", ".join(facts.trained_on),
            "yes" if facts.here else "",
        )
    console.print(table)
    console.print(f"without --model, {best_here()} answers; sacma models get NAME fetches another one")
    if sound_labels() is None:
        console.print("label-bridge sees pictures alone here; sacma models get yamnet adds sound (4 MB)")
    return {"models": [{**asdict(facts), "here": facts.here} for facts in known_models().values()]}


def get(name: str) -> dict[str, Any]:
    """Fetch a frozen model; what was interrupted goes on where it stopped.

    Args:
        name: a name of the list, yamnet for the label bridge's labels of sounds, or a name on the hub.

    Examples:
        sacma models get yamnet
        sacma models get clip
    """
    from sacma.frozen import catalogue

    def tell(source: str) -> None:
        progress.print(f"fetching {source}", soft_wrap=True)

    places = [str(place) for place in catalogue.get(name, on_file=tell)]
    for place in places:
        console.print(f"here: {place}", soft_wrap=True)
    return {"here": places}


def _megabytes(size: int | None) -> str:
    if size is None:
        return "see its card"
    return f"{size / 1000:.1f} GB" if size >= 1000 else f"{size} MB"
