"""Training, evaluation and the two-stage protocol."""
