"""A library: clips that were read once, kept for search and prediction."""
