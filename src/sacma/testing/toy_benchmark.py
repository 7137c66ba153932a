"""A small benchmark folder in our own format, made up: a class is a direction, its clips are noisy copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sacma.data.class_lists import PARTITIONS
from sacma.data.features_writer import FeaturesWriter

NAME, FEATURES = "toy", "toyfeatures"
CLASSES = {
    "train": ("ant", "bee", "cat", "dog", "eel"),
    "val_unseen": ("fox", "gnu"),
    "test_unseen": ("hen", "ibis", "jay"),
}
PARTITION_CLASSES = {
    "stage_1_train": CLASSES["train"],
    "stage_1_val_seen": CLASSES["train"],
    "stage_1_val_unseen": CLASSES["val_unseen"],
    "stage_2_train": CLASSES["train"] + CLASSES["val_unseen"],
    "stage_2_test_seen": CLASSES["train"] + CLASSES["val_unseen"],
    "stage_2_test_unseen": CLASSES["test_unseen"],
}
ALL = tuple(sorted(sum(CLASSES.values(), ())))
CLIPS = {"stage_1_train": 8, "stage_1_val_seen": 3, "stage_1_val_unseen": 5}
AUDIO_WIDTH, VIDEO_WIDTH, TEXT_WIDTH = 12, 16, 10


def write_folder(
    root: Path, *, seed: int = 0, test_seed: int | None = None, noise: float = 0.5, joint: bool = False
) -> Path:
    """Write the folder.

    Args:
        root: the folder, which must not be there.
        seed: of all that is drawn.
        test_seed: changes the test clips and nothing else.
        noise: standard deviation of the features around their class.
        joint: class vectors have a part for each modality, as wide as its features.

    Returns:
        ``root``.
    """
    draw = np.random.default_rng(seed)
    width = AUDIO_WIDTH + VIDEO_WIDTH if joint else TEXT_WIDTH
    vectors = draw.standard_normal((len(ALL), width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    to_audio = draw.standard_normal((width, AUDIO_WIDTH))
    to_video = draw.standard_normal((width, VIDEO_WIDTH))
    lists = root / "class-split"
    (lists / "main_split").mkdir(parents=True)
    (lists / "all_class.txt").write_text("\n".join(ALL) + "\n")
    (lists / f"{NAME}_w2v_class_names.csv").write_text(
        "original,manual\n" + "".join(f"{name},a {name}\n" for name in ALL)
    )
    for partition, classes in PARTITION_CLASSES.items():
        (lists / "main_split" / f"{partition}.txt").write_text("\n".join(classes) + "\n")
    folder = root / "features" / FEATURES
    with FeaturesWriter(
        folder,
        ALL,
        audio_width=AUDIO_WIDTH,
        video_width=VIDEO_WIDTH,
        audio_step=0.5,
        video_step=1.0,
        provenance={"source": "made up"},
    ) as writer:
        for number, partition in enumerate(PARTITIONS):
            if partition.startswith("stage_2") and test_seed is not None:
                draw = np.random.default_rng(test_seed)
            for name in PARTITION_CLASSES[partition]:
                label = ALL.index(name)
                for clip in range(CLIPS.get(partition, 4)):
                    audio, video = (
                        np.maximum(vectors[label] @ to_width, 0)
                        + noise * draw.standard_normal((draw.integers(1, 7), to_width.shape[1]))
                        for to_width in (to_audio, to_video)
                    )
                    writer.add(
                        f"{name}_{clip}", label, number, audio.astype(np.float32), video.astype(np.float32)
                    )
    (folder / "text").mkdir()
    np.savez(
        folder / "text" / f"word_embeddings_{NAME}_normed.npz",
        names=np.array([f"a {name}" for name in ALL]),
        vectors=vectors,
    )
    return root
