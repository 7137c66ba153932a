"""Configuration and folder of a run."""
