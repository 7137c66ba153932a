"""Time of teaching a model that holds many clips; features are made up, as the label bridge has them.

python speed/teaching.py --clips 1000 --classes 50
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from sacma.frozen.catalogue import sound_labels
from sacma.learn import Learned, new_model
from sacma.learn.store import Taught
from sacma.media.backbones import Steps
from sacma.media.extract import ClipFeatures

SECONDS = 10
LESSONS = 5


def filled(folder: Path, clips: int, classes: int) -> Learned:
    """A model that was taught so many clips, each class around a direction of its own."""
    random = np.random.default_rng(0)
    model = new_model(folder, model="label-bridge", audio_weights=sound_labels())
    backbone = model.backbone
    names = [f"class {number}" for number in range(classes)]
    encoders = {"video": backbone.video, "audio": backbone.audio}
    centres = {m: random.gamma(0.5, size=(classes, one.width)) for m, one in encoders.items()}
    lessons = []
    for number in range(clips):
        steps = {}
        for modality, encoder in encoders.items():
            if not encoder.step_seconds:  # it is not read
                continue
            count = int(SECONDS / encoder.step_seconds)
            noise = random.gamma(0.5, size=(count, encoder.width))
            values = (centres[modality][number % classes] + noise).astype(np.float32)
            steps[modality] = Steps(values, np.arange(count) * np.float64(encoder.step_seconds))
        clip = Taught(f"{number:020d}", f"/clips/{number}.mp4", None, None)
        features = ClipFeatures(steps.get("audio"), steps.get("video"), seconds=float(SECONDS))
        model.store.keep(clip.id, features)
        lessons.append((clip, names[number % classes]))
    given = [one for name in names for one in model.candidates([name]).given]
    model.store.add("learn", given, lessons)
    return model


def main() -> None:
    """Print seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clips", type=int, default=1000)
    parser.add_argument("--classes", type=int, default=50)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = filled(Path(folder) / "model", asked.clips, asked.classes)
        for what in ("first fit", *(f"correction {number + 1}" for number in range(LESSONS))):
            clock, processor = time.perf_counter(), time.process_time()
            if what != "first fit":
                clip = Taught(f"{asked.clips - int(what.split()[1]):020d}", "/clips/x.mp4", None, None)
                model.store.add("correct", (), [(clip, "class 0")])
            model.refresh()
            passed = time.perf_counter() - clock, time.process_time() - processor
            print(f"{what}: {passed[0]:.2f} s by the clock, {passed[1]:.2f} s of processor", flush=True)


if __name__ == "__main__":
    main()
