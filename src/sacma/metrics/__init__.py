"""Metrics of generalised zero-shot learning, calibration of scores, and significance tests."""
