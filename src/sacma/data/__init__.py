"""Benchmarks on disk and in memory: features, class lists, splits, batches."""
