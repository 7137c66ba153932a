"""The official benchmark folders, read without running anything in them."""
