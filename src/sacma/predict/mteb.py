"""Zero-shot results in the form that the results repository of MTEB takes: a JSON file for each task.

    OUT/MODEL/REVISION/TASK.json     scores by part of the data set
    OUT/MODEL/REVISION/model_meta.json

The fields are those of MTEB's ``TaskResult``. No version of MTEB is stated, because none made the figures.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sacma.files import write_json
from sacma.text.names import normal
from sacma.version import __version__

TASKS = {
    ("mteb/UCF101-51VA", True): "UCF101VideoAudioZeroShotClassification",
    ("mteb/UCF101-51VA", False): "UCF101VideoZeroShotClassification",
    ("mteb/VGGSound", True): "VGGSoundVideoAudioZeroshot",
    ("mteb/VGGSound", False): "VGGSoundVideoZeroshot",
}
"""Data set, and whether the model hears -> MTEB's name of the task."""


@dataclass
class Tally:
    """Right answers by part of a data set; a clip without an answer counts as a wrong one.

    Attributes:
        clips: part -> clips.
        right: part -> clips whose first answer is their class.
        right_of_five: part -> clips whose class is among the first five answers.
    """

    clips: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    right: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    right_of_five: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, part: str, class_name: str, answers: Sequence[str]) -> None:
        """Count a clip.

        Args:
            part: of the data set.
            class_name: its class.
            answers: the names given, best first; none where it failed.
        """
        named = [normal(name) for name in answers[:5]]
        self.clips[part] += 1
        self.right[part] += named[:1] == [normal(class_name)]
        self.right_of_five[part] += normal(class_name) in named

    @property
    def accuracy(self) -> float:
        """Share of all clips whose first answer is right."""
        return sum(self.right.values()) / max(1, sum(self.clips.values()))

    def scores(self) -> dict[str, list[dict[str, Any]]]:
        """Scores by part of the data set."""
        return {
            part: [
                {
                    "accuracy": round(self.right[part] / count, 6),
                    "top_5_accuracy": round(self.right_of_five[part] / count, 6),
                    "main_score": round(self.right[part] / count, 6),
                    "hf_subset": "default",
                    "languages": ["eng-Latn"],
                }
            ]
            for part, count in self.clips.items()
        }


def write_result(
    out: Path, tally: Tally, *, dataset: str, revision: str, model: str, hears: bool, seconds: float
) -> Path:
    """Write the result of a model on a data set.

    Args:
        out: folder of results.
        tally: its right answers.
        dataset: name on the hub, or a folder.
        revision: of the data set.
        model: name of the model.
        hears: whether it uses sound.
        seconds: that it took.

    Returns:
        The file with the scores.

    Raises:
        SacmaError: the folder cannot be written to.
    """
    task = TASKS.get((dataset, hears)) or re.sub(r"\W+", "", Path(dataset).name) + "ZeroShot"
    name = model if "/" in model else f"sacma/{model}"
    made_by = f"sacma-{__version__}"
    folder = out / name.replace("/", "__").replace("+", "__") / made_by
    content = {
        "dataset_revision": revision,
        "task_name": task,
        "mteb_version": None,
        "scores": tally.scores(),
        "evaluation_time": round(seconds, 3),
        "kg_co2_emissions": None,
    }
    write_json(folder / "model_meta.json", {"name": name, "revision": made_by, "framework": ["PyTorch"]})
    write_json(folder / f"{task}.json", content)
    return folder / f"{task}.json"
