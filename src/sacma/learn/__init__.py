"""Models that a user teaches: by names, by a few clips, by corrections."""

from sacma.learn.learning import Lesson, empty_folders, learn
from sacma.learn.taught import Learned, is_learned, load_model, new_model

__all__ = ["Learned", "Lesson", "empty_folders", "is_learned", "learn", "load_model", "new_model"]
