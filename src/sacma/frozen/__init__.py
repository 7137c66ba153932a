"""Frozen models: clips are compared with class names by pretrained networks alone, without training."""
