"""Clips and class names in, ranked names out."""
